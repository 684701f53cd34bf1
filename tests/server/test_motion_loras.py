"""MotionLoRAs and the domain adapter through the API of a real ComfyUI."""

import re

import pytest
from safetensors.torch import save_file
import small_models
import torch


@pytest.fixture(scope="module", autouse=True)
def files(host):
    models = host.base / "models"
    loras = models / "animatediff_motion_lora"
    for name, seed in (("zoom.safetensors", 1), ("pan.safetensors", 2)):
        small_models.write(loras, name, small_models.motion_lora_state_dict(mid=True, seed=seed))
    small_models.write(models / "loras", "small_adapter.safetensors", small_models.domain_adapter_state_dict())
    for path in loras.glob("made_*"):
        path.unlink()
    for path in (models / "animatediff_models").glob("made_*"):
        path.unlink()


def load(number, name, strength, previous=None):
    inputs = {"motion_lora": name, "strength": strength}
    if previous:
        inputs["previous"] = [previous, 0]
    return {str(number): {"class_type": "AnimaticLoadMotionLora", "inputs": inputs}}


def with_stack(workflows, strengths, module="second_v2.safetensors", **changes):
    """text_to_animation that ends in latents, with zoom and pan at these strengths on nodes 40, 41."""
    graph = workflows.latents(motion_module=module, **changes)
    previous = None
    for number, (name, strength) in enumerate(strengths, 40):
        graph |= load(number, name, strength, previous)
        previous = str(number)
    if previous:
        graph["3"]["inputs"]["motion_lora"] = [previous, 0]
    return graph


def error(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


BOTH = [("zoom.safetensors", 0.7), ("pan.safetensors", 0.3)]


def test_stack_combined_file_and_baked_module_are_the_same(host, workflows):
    graph = with_stack(workflows, BOTH)
    stacked = host.latents(graph)["10"]
    save = {"filename": "made_both", "dtype": "float32", "overwrite": False}
    tools = {**graph}
    tools["50"] = {"class_type": "AnimaticSaveMotionLora", "inputs": {"motion_lora": ["41", 0], **save}}
    baked = {"motion_module": ["2", 0], "motion_lora": ["41", 0], **save}
    tools["51"] = {"class_type": "AnimaticSaveMotionModule", "inputs": baked}
    outputs = host.render(tools)
    assert "rank 8, relative error 0.00e+00" in outputs["50"]["text"][0]
    plain = host.latents(with_stack(workflows, []))["10"]
    assert error(stacked, plain) > 1e-3
    assert error(host.latents(with_stack(workflows, [("made_both.safetensors", 1.0)]))["10"], stacked) < 1e-4
    assert error(host.latents(with_stack(workflows, [], module="made_both.safetensors"))["10"], stacked) < 1e-4
    assert torch.equal(host.latents(with_stack(workflows, BOTH[::-1]))["10"], stacked)
    zero = [(name, 0.0) for name, _ in BOTH]
    assert torch.equal(host.latents(with_stack(workflows, zero))["10"], plain)
    reverse = [(name, -strength) for name, strength in BOTH]
    assert error(host.latents(with_stack(workflows, reverse))["10"], stacked) > 1e-3
    assert "made_both.safetensors exists already" in host.failure(with_changed_seed(tools))


def with_changed_seed(graph):
    """So that the host does not answer from its cache."""
    tools = {key: {**node, "inputs": dict(node["inputs"])} for key, node in graph.items()}
    tools["50"]["inputs"]["dtype"] = "float16"
    return tools


def test_every_tool_runs_in_one_graph(host, workflows):
    graph = with_stack(workflows, BOTH)
    schedule = {
        "motion_lora": ["41", 0],
        "start_strength": 1.0,
        "end_strength": 0.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
    }
    graph["60"] = {"class_type": "AnimaticMotionLoraSchedule", "inputs": {**schedule, "curve": "ease_out"}}
    graph["3"]["inputs"]["motion_lora"] = ["60", 0]
    graph["61"] = {"class_type": "AnimaticCombineMotionLoras", "inputs": {"motion_lora": ["41", 0], "rank": 3}}
    save = {"dtype": "float16", "overwrite": True}
    graph["62"] = {
        "class_type": "AnimaticSaveMotionLora",
        "inputs": {"motion_lora": ["61", 0], "filename": "made_small", **save},
    }
    merge = {"first": ["2", 0], "second": ["2", 0], "share": 0.5, "block_shares": "mid_block = 1"}
    graph["63"] = {"class_type": "AnimaticMergeMotionModules", "inputs": merge}
    bake = {"motion_module": ["63", 0], "motion_lora": ["41", 0], "filename": "made_tuned", **save}
    graph["64"] = {"class_type": "AnimaticSaveMotionModule", "inputs": bake}
    outputs = host.render(graph)
    shown = float(re.search(r"relative error (\S+)", outputs["61"]["text"][0])[1])
    assert 0.01 < shown < 1 and "rank 3" in outputs["61"]["text"][0]
    extract = with_stack(workflows, [], module="second_v2.safetensors")
    extract["65"] = {"class_type": "AnimaticLoadMotionModule", "inputs": {"motion_module": "made_tuned.safetensors"}}
    extract["66"] = {
        "class_type": "AnimaticExtractMotionLora",
        "inputs": {"tuned": ["65", 0], "base": ["2", 0], "rank": 8},
    }
    extract["3"]["inputs"]["motion_lora"] = ["66", 0]
    # the tuned file is rounded to float16, which touches every weight a little
    assert error(host.latents(extract)["10"], host.latents(with_stack(workflows, BOTH))["10"]) < 0.05


def test_partly_absent_targets_are_shown(host, workflows):
    outputs = host.render(with_stack(workflows, BOTH[:1], module="small_sd15_v3.safetensors", seed=91))
    assert "24 of 32 layers; skipped" in outputs["3"]["text"][0] and "8 in mid_block" in outputs["3"]["text"][0]


def adapter(graph, scale, stock=False):
    if stock:
        graph["70"] = {
            "class_type": "LoraLoaderModelOnly",
            "inputs": {"model": ["1", 0], "lora_name": "small_adapter.safetensors", "strength_model": scale},
        }
    else:
        graph["70"] = {
            "class_type": "AnimaticApplyDomainAdapter",
            "inputs": {"model": ["1", 0], "domain_adapter": "small_adapter.safetensors", "scale": scale},
        }
    graph["3"]["inputs"]["model"] = ["70", 0]
    return graph


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0])
def test_domain_adapter_is_the_stock_loader_bit_for_bit(host, workflows, scale):
    ours = host.latents(adapter(workflows.latents(), scale))["10"]
    stock = host.latents(adapter(workflows.latents(), scale, stock=True))["10"]
    assert torch.equal(ours, stock)
    assert torch.equal(ours, host.latents(workflows.latents())["10"]) == (scale == 0)


def test_adapter_and_motion_lora_in_each_others_place(host, workflows):
    models = host.base / "models"
    wrong = models / "animatediff_motion_lora" / "bad_adapter.safetensors"
    save_file(small_models.domain_adapter_state_dict(), wrong)
    failure = host.failure(with_stack(workflows, [(wrong.name, 1.0)]))
    assert "bad_adapter.safetensors cannot be used as a MotionLoRA" in failure and "Apply Domain Adapter" in failure
    wrong.unlink()
    wrong = models / "loras" / "bad_zoom.safetensors"
    save_file(small_models.motion_lora_state_dict(), wrong)
    graph = adapter(workflows.latents(), 1.0)
    graph["70"]["inputs"]["domain_adapter"] = wrong.name
    failure = host.failure(graph)
    assert "bad_zoom.safetensors cannot be used as a domain adapter" in failure and "Load MotionLoRA" in failure
    wrong.unlink()


FIRST = (
    "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.to_q_lora"
)


class Evil:
    def __reduce__(self):
        return (print, ("this ran",))


def changed(**changes):
    def make(path):
        weights = small_models.motion_lora_state_dict()
        for half, value in changes.items():
            weights[f"{FIRST}.{half}.weight"] = value
        save_file({key: value for key, value in weights.items() if value is not None}, path)

    return make


BAD = {
    "shape.safetensors": (changed(up=torch.zeros(320, 5)), "ranks do not match at down_blocks.0"),
    "size.safetensors": (changed(up=torch.zeros(64, 4)), "does not fit this motion module"),
    "nan.safetensors": (changed(up=torch.full((320, 4), torch.nan)), "not numbers at down_blocks.0"),
    "no_down.safetensors": (changed(down=None), "has no down weights for down_blocks.0"),
    "no_up.safetensors": (changed(up=None), "has no up weights for down_blocks.0"),
    "rank0.safetensors": (changed(up=torch.zeros(320, 0), down=torch.zeros(0, 320)), "has rank 0"),
    "evil.ckpt": (lambda path: torch.save({"state_dict": Evil()}, path), "could run code"),
    "empty.safetensors": (lambda path: path.write_bytes(b""), "is empty"),
    "module.safetensors": (lambda path: save_file(small_models.motion_state_dict(), path), "is a motion module"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_motion_lora_is_named_and_the_server_goes_on(host, workflows, name):
    make, message = BAD[name]
    path = host.base / "models" / "animatediff_motion_lora" / f"bad_{name}"
    make(path)
    try:
        failure = host.failure(with_stack(workflows, [(path.name, 1.0)]))
    finally:
        path.unlink()
    assert re.search(message, failure) and path.name in failure, failure
    assert "this ran" not in host.served.log()
    assert host.client.get("/system_stats")["system"]


def test_saving_outside_of_the_folder_is_refused(host, workflows):
    graph = with_stack(workflows, BOTH)
    save = {"motion_lora": ["41", 0], "filename": "../../made_outside", "dtype": "float16", "overwrite": True}
    graph["50"] = {"class_type": "AnimaticSaveMotionLora", "inputs": save}
    assert "is not a file name inside animatediff_motion_lora" in host.failure(graph)
    assert not list(host.base.rglob("made_outside*"))
