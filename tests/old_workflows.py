"""Small workflows of other packs, made here, and how a page would queue a canvas."""

from animatic_pack.migration import canvas
from animatic_pack.migration.targets import targets

WIDGETS = {"CLIPTextEncode": ["text"], "LoadImage": ["image"]}  # of stock nodes that no migration makes
SEED = {"KSampler": 1}  # where the page keeps a second value behind the seed
MUTED, BYPASSED = 2, 4


def drawn(nodes: dict, named_links: bool = False) -> dict:
    """A canvas of number -> (type, {input: (node, slot)}, widget values, output types, mode).

    named_links: in the newer schema, whose links are objects.
    """
    content = {"nodes": [], "links": [], "last_node_id": max(nodes), "version": 1 if named_links else 0.4}
    for number, (node_type, links, values, outputs, *mode) in nodes.items():
        inputs = []
        for name, source in links.items():
            link = len(content["links"]) + 1
            kind = nodes[source[0]][3][source[1]] if source[0] in nodes else "*"
            content["links"].append([link, *source, number, len(inputs), kind])
            inputs.append({"name": name, "type": kind, "link": link})
        content["nodes"].append(
            {
                "id": number,
                "type": node_type,
                "pos": [300 * number, 0],
                "mode": mode[0] if mode else 0,
                "inputs": inputs,
                "outputs": [{"name": kind, "type": kind, "links": []} for kind in outputs],
                "widgets_values": values,
            }
        )
    content["last_link_id"] = len(content["links"])
    if named_links:
        names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        content["links"] = [dict(zip(names, link, strict=True)) for link in content["links"]]
    return content


def prompt_of(content: dict) -> dict:
    """The API form of a canvas, as the page makes it: without Reroutes, Primitives, muted and bypassed nodes."""
    graph = canvas.read_part(content)
    for node in graph.nodes.values():
        names, values = _widget_names(node.type), list(node.raw.get("widgets_values") or [])
        if node.type in SEED:
            values.pop(SEED[node.type])
        node.values = dict(zip(names, values, strict=True)) if names is not None else {}
        for one in node.inputs:
            one.source = _real(graph, one.source)
            constant = graph.constant(one.source)
            if constant is not None:
                node.values[one.name], one.source = constant, None
    kept = [node for node in graph.nodes.values() if not node.mode and node.type not in ("Reroute", "PrimitiveNode")]
    links = {
        node.id: {one.name: [str(one.source[0]), one.source[1]] for one in node.inputs if one.source} for node in kept
    }
    return {str(node.id): {"class_type": node.type, "inputs": {**node.values, **links[node.id]}} for node in kept}


def _widget_names(node_type: str) -> list | None:
    if node_type in targets():
        return [one.name for one in targets()[node_type].inputs if one.is_widget]
    return WIDGETS.get(node_type)


def _real(graph, source):
    """Past Reroutes, and past bypassed nodes by their first input of the same type."""
    source = graph.origin(source)
    node = graph.nodes.get(source.node) if source else None
    if node is None or node.mode == MUTED:
        return None
    if node.mode != BYPASSED:
        return source
    kind = node.outputs[source.slot].kind
    return _real(graph, next((one.source for one in node.inputs if one.kind == kind), None))


def text_to_clip() -> dict:
    """AnimateDiff-Evolved's one-node loader as workflows of 2023 have it, and VideoHelperSuite's values by name."""
    context = [4, 1, 1, "uniform", False]
    lists = ["small_sd15_v3.safetensors", "sqrt_linear (AnimateDiff)", 1.2, False]
    video = {"frame_rate": 12, "loop_count": 0, "filename_prefix": "old/clip", "format": "image/webp", "pingpong": True}
    return drawn(
        {
            1: (
                "CheckpointLoaderSimpleWithNoiseSelect",
                {},
                ["small_sd15.ckpt", "sqrt_linear (AnimateDiff)"],
                CHECKPOINT,
            ),
            2: ("CLIPTextEncode", {"clip": (1, 1)}, ["a cat"], ["CONDITIONING"]),
            3: ("CLIPTextEncode", {"clip": (1, 1)}, ["blurry"], ["CONDITIONING"]),
            4: ("PrimitiveNode", {}, [6, "fixed"], ["INT"]),
            5: ("ADE_EmptyLatentImageLarge", {"batch_size": (4, 0)}, [64, 64, 1], ["LATENT"]),
            6: ("ADE_AnimateDiffUniformContextOptions", {}, context, ["CONTEXT_OPTIONS"]),
            7: ("Reroute", {"": (6, 0)}, None, ["CONTEXT_OPTIONS"]),
            8: ("ADE_AnimateDiffLoRALoader", {}, ["zoom.safetensors", 0.8], ["MOTION_LORA"], MUTED),
            9: (
                "ADE_AnimateDiffLoaderWithContext",
                {"model": (1, 0), "context_options": (7, 0), "motion_lora": (8, 0)},
                lists,
                ["MODEL"],
            ),
            10: (
                "KSampler",
                {"model": (9, 0), "positive": (2, 0), "negative": (3, 0), "latent_image": (5, 0)},
                [7, "fixed", 2, 7.0, "euler", "normal", 1.0],
                ["LATENT"],
            ),
            11: ("VHS_VAEDecodeBatched", {"samples": (10, 0), "vae": (1, 2)}, {"per_batch": 16}, ["IMAGE"]),
            12: ("VHS_VideoCombine", {"images": (11, 0)}, {**video, "save_image": False}, ["GIF"]),
        }
    )


CHECKPOINT = ["MODEL", "CLIP", "VAE"]


def controlled_clip() -> dict:
    """Evolved sampling, and a ControlNet with keyframes over frames and steps, in the schema with named links."""
    moves = {"motion_model": (5, 0), "scale_multival": (6, 0)}
    sampling = {"model": (1, 0), "m_models": (7, 0), "sample_settings": (8, 0), "context_options": (10, 0)}
    controls = {"positive": (2, 0), "negative": (3, 0), "control_net": (12, 0), "image": (15, 0)}
    frames = {"latent_keyframe": (13, 0), "cn_weights": (16, 0)}
    return drawn(
        {
            1: ("CheckpointLoaderSimple", {}, ["small_sd15.ckpt"], CHECKPOINT),
            2: ("CLIPTextEncode", {"clip": (1, 1)}, ["a cat"], ["CONDITIONING"]),
            3: ("CLIPTextEncode", {"clip": (1, 1)}, ["blurry"], ["CONDITIONING"]),
            4: ("EmptyLatentImage", {}, [64, 64, 4], ["LATENT"]),
            5: ("ADE_LoadAnimateDiffModel", {}, ["small_sd15_v3.safetensors"], ["MOTION_MODEL_ADE"]),
            6: ("ADE_MultivalDynamic", {}, [1.1, ""], ["MULTIVAL"]),
            7: ("ADE_ApplyAnimateDiffModelSimple", moves, None, ["M_MODELS"]),
            8: (
                "ADE_AnimateDiffSamplingSettings",
                {"custom_cfg": (9, 0)},
                [0, "FreeNoise", "comfy", 0, 0, False],
                ["SAMPLE_SETTINGS"],
            ),
            9: ("ADE_CustomCFGSimple", {}, [3.5], ["CUSTOM_CFG"]),
            10: ("ADE_StandardStaticContextOptions", {}, [16, 4, "pyramid", False, 0, 1], ["CONTEXT_OPTIONS"]),
            11: ("ADE_UseEvolvedSampling", sampling, ["autoselect"], ["MODEL"]),
            12: (
                "ControlNetLoaderAdvanced",
                {"timestep_keyframe": (14, 0)},
                ["small_controlnet.safetensors"],
                ["CONTROL_NET"],
            ),
            13: ("LatentKeyframeTiming", {}, [1, 4, 1.0, 0.5, "linear", False], ["LATENT_KEYFRAME"]),
            14: ("TimestepKeyframe", frames, [0, 1, 0.2, True, True], ["TIMESTEP_KEYFRAME"]),
            15: ("LoadImage", {}, ["image.png"], ["IMAGE", "MASK"]),
            16: ("ScaledSoftControlNetWeights", {}, [0.825, True], ["CONTROL_NET_WEIGHTS", "TIMESTEP_KEYFRAME"]),
            17: ("ACN_AdvancedControlNetApply", controls, [0.7, 0, 0.5], ["CONDITIONING", "CONDITIONING", "MODEL"]),
            18: (
                "KSampler",
                {"model": (11, 0), "positive": (17, 0), "negative": (17, 1), "latent_image": (4, 0)},
                [7, "fixed", 2, 7.0, "euler", "normal", 1.0],
                ["LATENT"],
            ),
            19: ("VAEDecode", {"samples": (18, 0), "vae": (1, 2)}, [], ["IMAGE"]),
            20: (
                "ADE_AnimateDiffCombine",
                {"images": (19, 0)},
                [8, 0, "old/clip", "image/gif", False, False, None],
                ["GIF"],
            ),
        },
        named_links=True,
    )


def travelling_prompts() -> dict:
    """FizzNodes' schedule and a looped clip, in the API form."""
    text = '"0" :"spring --neg snow", "3" :"winter"'
    travel = {"text": text, "max_frames": 4, "pre_text": "a tree, ", "app_text": "", "print_output": False}
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "small_sd15.ckpt"}},
        "2": {
            "class_type": "BatchPromptSchedule",
            "inputs": {"clip": ["1", 1], **travel, "pw_a": 0, "pw_b": 0, "pw_c": 0},
        },
        "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 4}},
        "4": {
            "class_type": "ADE_AnimateDiffLoaderGen1",
            "inputs": {"model": ["1", 0], "model_name": "small_sd15_v3.safetensors", "beta_schedule": "autoselect"},
        },
        "5": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["4", 0],
                "positive": ["2", 0],
                "negative": ["2", 1],
                "latent_image": ["3", 0],
                "seed": 1,
                "steps": 2,
                "cfg": 7.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {
            "class_type": "VHS_VideoCombine",
            "inputs": {
                "images": ["6", 0],
                "frame_rate": 8,
                "format": "video/h264-mp4",
                "crf": 20,
                "save_output": False,
                "save_metadata": False,
            },
        },
    }
