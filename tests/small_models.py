"""Small seeded random models in the real layouts, for the demo and the tests.

The host knows SD1.5 and SDXL by width and text encoding, not by depth, so a shallow UNet loads through the stock
checkpoint loader. Text encoder weights are stride-0 tensors in a torch file: a whole CLIP in a few kilobytes.
"""

import math
from pathlib import Path

from safetensors.torch import save_file
import torch

SEED = 20230710
SDXL_CHANNELS = (320, 320, 320)


def normal(generator: torch.Generator, *shape: int, scale: float | None = None) -> torch.Tensor:
    """Random weights that keep the size of what passes through them."""
    fan_in = 1
    for size in shape[1:]:
        fan_in *= size
    return torch.randn(shape, generator=generator) * (scale if scale is not None else 0.7 * fan_in**-0.5)


def motion_state_dict(
    channels: tuple[int, ...] = (320,),
    modules: int = 1,
    max_frames: int | None = 32,
    mid: bool = False,
    seed: int = SEED,
) -> dict[str, torch.Tensor]:
    """A motion module with AnimateDiff's keys. max_frames None leaves out the position tables, as AnimateLCM does."""
    generator = torch.Generator().manual_seed(seed)
    blocks = [(f"down_blocks.{i}", c, modules) for i, c in enumerate(channels)]
    blocks += [("mid_block", channels[-1], 1)] if mid else []
    blocks += [(f"up_blocks.{i}", c, modules + 1) for i, c in enumerate(reversed(channels))]
    weights = {}
    for block, c, count in blocks:
        for j in range(count):
            site = f"{block}.motion_modules.{j}.temporal_transformer."
            weights.update(temporal_transformer_state_dict(site, c, max_frames, generator))
    return weights


def temporal_transformer_state_dict(site: str, c: int, max_frames: int | None, generator: torch.Generator) -> dict:
    weights = {}

    def linear(name: str, out: int, into: int, bias: bool = True) -> None:
        weights[f"{site}{name}.weight"] = normal(generator, out, into)
        if bias:
            weights[f"{site}{name}.bias"] = normal(generator, out, scale=0.1)

    def norm(name: str) -> None:
        weights[f"{site}{name}.weight"] = 1 + normal(generator, c, scale=0.1)
        weights[f"{site}{name}.bias"] = normal(generator, c, scale=0.1)

    norm("norm")
    linear("proj_in", c, c)
    block = "transformer_blocks.0."
    for a in range(2):
        for name in ("to_q", "to_k", "to_v"):
            linear(f"{block}attention_blocks.{a}.{name}", c, c, bias=False)
        linear(f"{block}attention_blocks.{a}.to_out.0", c, c)
        if max_frames:
            weights[f"{site}{block}attention_blocks.{a}.pos_encoder.pe"] = position_table(max_frames, c)
        norm(f"{block}norms.{a}")
    linear(f"{block}ff.net.0.proj", 8 * c, c)
    linear(f"{block}ff.net.2", c, 4 * c)
    norm(f"{block}ff_norm")
    linear("proj_out", c, c)
    return weights


def image_encoder_state_dict(channels: tuple[int, ...] = (320,), prefix: str = "img_encoder.") -> dict:
    """The image encoder of AnimateLCM-I2V in its file's keys."""
    generator = torch.Generator().manual_seed(SEED)
    weights = {}

    def conv(name: str, out: int, into: int, size: int) -> None:
        weights[f"{prefix}{name}.weight"] = normal(generator, out, into, size, size)
        weights[f"{prefix}{name}.bias"] = normal(generator, out, scale=0.1)

    conv("conv_in", channels[0], 4, 3)
    for index in range(2 * len(channels)):
        into, out = channels[max(0, (index - 1) // 2)], channels[index // 2]
        if into != out:
            conv(f"body.{index}.in_conv", out, into, 1)
        conv(f"body.{index}.block1", out, out, 3)
        conv(f"body.{index}.block2", out, out, 1)
    return weights


def pia_input(channels: int = 320) -> dict:
    """PIA's first convolution, whose last 5 input channels are its own."""
    generator = torch.Generator().manual_seed(SEED)
    return {"conv_in.weight": normal(generator, channels, 9, 3, 3), "conv_in.bias": normal(generator, channels)}


def position_table(max_frames: int, c: int) -> torch.Tensor:
    position = torch.arange(max_frames).float()[:, None]
    angle = position / 10000.0 ** (torch.arange(0, c, 2).float() / c)
    return torch.stack((angle.sin(), angle.cos()), dim=2).flatten(1)[None]


def unet_state_dict(
    kind: str = "SD1.5", levels: int = 1, res_blocks: int = 1, middle: bool = True, seed: int = SEED
) -> dict:
    """A UNet of width 320 in the LDM layout. "SDXL" has the depths of Segmind Vega, the least that the host knows."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    config = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 320,
        "num_res_blocks": [res_blocks] * levels,
        "channel_mult": [1] * levels,
        "use_spatial_transformer": True,
        "legacy": False,
    }
    if kind == "SDXL":
        config.update(
            num_head_channels=64,
            context_dim=2048,
            use_linear_in_transformer=True,
            num_classes="sequential",
            adm_in_channels=2816,
            num_res_blocks=[2, 2, 2],
            channel_mult=[1, 1, 1],
            transformer_depth=[0, 0, 1, 1, 2, 2],
            transformer_depth_output=[0, 0, 0, 1, 1, 1, 2, 2, 2],
            transformer_depth_middle=-1,
        )
    else:
        depth = [1] * res_blocks * levels
        config.update(
            num_heads=8,
            context_dim=768,
            transformer_depth=depth,
            transformer_depth_output=[1] * (res_blocks + 1) * levels,
            transformer_depth_middle=1 if middle else -1,
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = UNetModel(**config, dtype=torch.float32)
        generator = torch.Generator().manual_seed(seed)
        return {key: random_like(value, key, generator) for key, value in unet.state_dict().items()}


def random_like(value: torch.Tensor, key: str, generator: torch.Generator) -> torch.Tensor:
    if value.ndim == 1:
        noise = normal(generator, *value.shape, scale=0.05)
        return noise + 1 if key.endswith("weight") else noise
    return normal(generator, *value.shape)


def vae_state_dict(seed: int = SEED) -> dict:
    """The host's TAESD, recognised by its decoder; scaled so that UNet latents are its own."""
    from comfy.taesd.taesd import TAESD

    generator = torch.Generator().manual_seed(seed)
    weights = {key: random_like(value, key, generator) for key, value in TAESD().state_dict().items()}
    last = max((k for k in weights if k.startswith("taesd_decoder.")), key=lambda k: int(k.split(".")[1])).split(".")[1]
    weights[f"taesd_decoder.{last}.bias"] = torch.full((3,), 0.5)  # around grey, or most of the picture would be black
    weights.update(vae_scale=torch.tensor(0.18215), vae_shift=torch.tensor(0.0))
    return {f"first_stage_model.{key}": value for key, value in weights.items()}


def clip_state_dict(prefix: str, width: int, layers: int, open_clip: bool = False) -> dict:
    """A CLIP text encoder whose layers pass everything through, so that different words give different encodings."""
    table = torch.randn(49408 + width * 7, generator=torch.Generator().manual_seed(SEED))

    def full(value: float, *shape: int) -> torch.Tensor:
        return torch.full((1,), value).expand(shape)

    tokens = table.as_strided((49408, width), (1, 7))
    positions = table.as_strided((77, width), (1, 5))
    if open_clip:
        weights = {
            "token_embedding.weight": tokens,
            "positional_embedding": positions,
            "text_projection": full(0.01, width, width),
        }
        block = "transformer.resblocks.{}."
        shapes = {
            "attn.in_proj_weight": (3 * width, width),
            "attn.in_proj_bias": (3 * width,),
            "attn.out_proj.weight": (width, width),
            "attn.out_proj.bias": (width,),
            "mlp.c_fc.weight": (4 * width, width),
            "mlp.c_fc.bias": (4 * width,),
            "mlp.c_proj.weight": (width, 4 * width),
            "mlp.c_proj.bias": (width,),
            "ln_1.weight": None,
            "ln_1.bias": (width,),
            "ln_2.weight": None,
            "ln_2.bias": (width,),
        }
        last = "ln_final"
    else:
        embeddings = "transformer.text_model.embeddings."
        weights = {f"{embeddings}token_embedding.weight": tokens, f"{embeddings}position_embedding.weight": positions}
        block = "transformer.text_model.encoder.layers.{}."
        shapes = {f"self_attn.{name}_proj.weight": (width, width) for name in ("q", "k", "v", "out")}
        shapes |= {f"self_attn.{name}_proj.bias": (width,) for name in ("q", "k", "v", "out")}
        shapes |= {
            "mlp.fc1.weight": (4 * width, width),
            "mlp.fc1.bias": (4 * width,),
            "mlp.fc2.weight": (width, 4 * width),
        }
        shapes |= {"mlp.fc2.bias": (width,), "layer_norm1.weight": None, "layer_norm1.bias": (width,)}
        shapes |= {"layer_norm2.weight": None, "layer_norm2.bias": (width,)}
        last = "transformer.text_model.final_layer_norm"
    for layer in range(layers):
        for name, shape in shapes.items():
            weights[block.format(layer) + name] = full(1.0, width) if shape is None else full(0.0, *shape)
    weights.update({f"{last}.weight": full(1.0, width), f"{last}.bias": full(0.0, width)})
    return {prefix + key: value for key, value in weights.items()}


def checkpoint(kind: str = "SD1.5", dtype: torch.dtype = torch.float32, clip: bool = True, **unet) -> dict:
    """A whole checkpoint for the stock loader; save it with torch.save, which keeps the stride-0 tensors small."""
    weights = {f"model.diffusion_model.{key}": value.to(dtype) for key, value in unet_state_dict(kind, **unet).items()}
    weights |= vae_state_dict()
    if clip and kind == "SD1.5":
        weights |= clip_state_dict("cond_stage_model.", 768, 12)
    elif clip:
        weights |= clip_state_dict("conditioner.embedders.0.", 768, 12)
        weights |= clip_state_dict("conditioner.embedders.1.model.", 1280, 32, open_clip=True)
    return weights


def write(folder: Path, name: str, weights: dict) -> None:
    """Save once; a file that stands is complete."""
    path = folder / name
    if path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    if name.endswith(".safetensors"):
        save_file({key: value.contiguous() for key, value in weights.items()}, part)
    else:
        torch.save({"state_dict": weights}, part)
    part.replace(path)


def write_demo_models(models: Path) -> None:
    """The models that the shipped workflows name, at a small size."""
    write(models / "checkpoints", "small_sd15.ckpt", checkpoint("SD1.5", torch.float16))
    write(models / "animatediff_models", "small_sd15_v3.safetensors", motion_state_dict())


def write_second_module(models: Path) -> None:
    """An AnimateDiff v2 beside the demo's v3."""
    write(models / "animatediff_models", "second_v2.safetensors", motion_state_dict(mid=True, seed=5))


def write_sdxl_models(models: Path) -> None:
    write(models / "checkpoints", "small_sdxl.ckpt", checkpoint("SDXL", torch.float16))
    write(
        models / "animatediff_models",
        "small_sdxl.safetensors",
        motion_state_dict(SDXL_CHANNELS, modules=2, max_frames=24),
    )


def write_animate_anyone_models(models: Path) -> None:
    """Animate Anyone's networks for the small UNet, and an image encoder of full size in a few kilobytes."""
    write(models / "diffusion_models", "small_denoising_unet.safetensors", in_half(unet_state_dict()))
    write(models / "vae", "small_vae.safetensors", without_prefix(vae_state_dict()))
    write(models / "animate_anyone", "small_reference_unet.safetensors", in_half(reference_unet_state_dict()))
    write(models / "animate_anyone", "small_pose_guider.safetensors", pose_guider_state_dict(POSE_GUIDER_SHAPES))
    write(models / "clip_vision", "small_image_encoder.pth", image_encoder_of_clip())


def in_half(weights: dict) -> dict:
    return {key: value.half() for key, value in weights.items()}


def without_prefix(weights: dict) -> dict:
    return {key.partition(".")[2]: value for key, value in weights.items()}


def reference_unet_state_dict(seed: int = SEED + 1) -> dict:
    """The small UNet in diffusers' names, without its last layers, as a ReferenceNet's file."""
    from comfy.utils import unet_to_diffusers

    weights = unet_state_dict(seed=seed)
    depths = {"transformer_depth": [1], "transformer_depth_output": [1, 1], "transformer_depth_middle": 1}
    names = unet_to_diffusers({"num_res_blocks": [1], "channel_mult": [1], **depths})
    kept = {theirs: weights[ours] for theirs, ours in names.items() if ours in weights}
    return {name: value for name, value in kept.items() if not name.startswith(("conv_norm_out.", "conv_out."))}


# Of Animate Anyone's pose_guider.pth, which is small as it is.
POSE_GUIDER_SHAPES = {
    f"{name}.{kind}": (out, into, 3, 3)[: 4 if kind == "weight" else 1]
    for name, out, into in (
        ("conv_in", 16, 3),
        ("blocks.0", 16, 16),
        ("blocks.1", 32, 16),
        ("blocks.2", 32, 32),
        ("blocks.3", 96, 32),
        ("blocks.4", 96, 96),
        ("blocks.5", 256, 96),
        ("conv_out", 320, 256),
    )
    for kind in ("weight", "bias")
}


def pose_guider_state_dict(shapes: dict[str, tuple[int, ...]], seed: int = SEED) -> dict:
    """Random weights in these shapes, the last convolution's too, which training begins with zeros.

    Large enough that pictures still differ after so many layers.
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        key: normal(generator, *shape, scale=2 * math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.05)
        for key, shape in shapes.items()
    }


def image_encoder_of_clip() -> dict:
    """CLIP ViT-L/14 whose first layer gathers the picture in the class token, and whose others pass it on.

    Weights are views of a small table, so that the file is small.
    """
    width, table = 1024, torch.randn(70000, generator=torch.Generator().manual_seed(SEED)).half() * 0.03

    def random(*shape: int) -> torch.Tensor:
        strides = [1, 7, 11, 13][: len(shape)]
        return table.as_strided(shape, strides)

    def full(value: float, *shape: int) -> torch.Tensor:
        return torch.full((1,), value, dtype=torch.float16).expand(shape)

    front = "vision_model.embeddings."
    weights = {
        f"{front}class_embedding": random(width),
        f"{front}patch_embedding.weight": random(width, 3, 14, 14),
        f"{front}position_embedding.weight": random(257, width),
        "visual_projection.weight": random(768, width),
    }
    for layer in range(24):
        block = f"vision_model.encoder.layers.{layer}."
        matrix = random if layer == 0 else lambda *shape: full(0.0, *shape)
        for name, out, into in (
            *((f"self_attn.{n}_proj", width, width) for n in ("q", "k", "v", "out")),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ):
            weights |= {f"{block}{name}.weight": matrix(out, into), f"{block}{name}.bias": full(0.0, out)}
        for norm in ("layer_norm1", "layer_norm2"):
            weights |= {f"{block}{norm}.weight": full(1.0, width), f"{block}{norm}.bias": full(0.0, width)}
    for norm in ("pre_layrnorm", "post_layernorm"):
        weights |= {f"vision_model.{norm}.weight": full(1.0, width), f"vision_model.{norm}.bias": full(0.0, width)}
    return weights


def controlnet_state_dict(seed: int = SEED) -> dict:
    """A ControlNet for the small SD1.5 UNet, in the LDM layout that the stock loader takes."""
    from comfy.cldm.cldm import ControlNet

    network = ControlNet(
        image_size=32,
        in_channels=4,
        hint_channels=3,
        model_channels=320,
        num_res_blocks=[1],
        channel_mult=[1],
        transformer_depth=[1],
        transformer_depth_middle=1,
        use_spatial_transformer=True,
        legacy=False,
        num_heads=8,
        context_dim=768,
        dtype=torch.float32,
    )
    generator = torch.Generator().manual_seed(seed)
    return {key: random_like(value, key, generator) for key, value in network.state_dict().items()}


def motion_lora(
    channels: tuple[int, ...] = (320,),
    rank: int = 4,
    modules: int = 1,
    mid: bool = False,
    feed_forward: bool = False,
    seed: int = SEED,
    only: str = "",
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Low-rank changes (up, down) for `motion_state_dict`'s linear layers, by the layer's path."""
    generator = torch.Generator().manual_seed(seed)
    layers = [key for key in motion_state_dict(channels, modules, mid=mid) if key.endswith(".weight")]
    changes = {}
    for key in layers:
        if ".to_" in key or (feed_forward and ".ff.net." in key):
            out, into = shape_of(key, channels)
            up = torch.randn(out, rank, generator=generator) * 0.3 * rank**-0.5
            changes[key.removesuffix(".weight")] = (up, torch.randn(rank, into, generator=generator) * into**-0.5)
    return {path: change for path, change in changes.items() if path.startswith(only)}


def shape_of(key: str, channels: tuple[int, ...]) -> tuple[int, int]:
    block, level = key.split(".")[:2]
    c = (
        channels[-1]
        if block == "mid_block"
        else channels[int(level)]
        if block == "down_blocks"
        else channels[-1 - int(level)]
    )
    return (8 * c, c) if "ff.net.0" in key else (c, 4 * c) if "ff.net.2" in key else (c, c)


def motion_lora_state_dict(**options) -> dict[str, torch.Tensor]:
    """The same in the keys of AnimateDiff's own files."""
    weights = {}
    for path, (up, down) in motion_lora(**options).items():
        name = path.replace(".to_out.0", ".to_out").replace(".to_", ".processor.to_")
        weights[f"{name}_lora.up.weight"], weights[f"{name}_lora.down.weight"] = up, down
    return weights


def domain_adapter_state_dict(seed: int = SEED, rank: int = 8) -> dict[str, torch.Tensor]:
    """A domain adapter in diffusers' processor keys for the small SD1.5 UNet (one level, one block, middle)."""
    generator = torch.Generator().manual_seed(seed)
    blocks = [
        "down_blocks.0.attentions.0",
        "mid_block.attentions.0",
        "up_blocks.0.attentions.0",
        "up_blocks.0.attentions.1",
    ]
    weights = {}
    for block in blocks:
        for attn, q in ((a, q) for a in (1, 2) for q in ("q", "k", "v", "out")):
            into = 768 if attn == 2 and q in "kv" else 320
            name = f"{block}.transformer_blocks.0.attn{attn}.processor.to_{q}_lora"
            weights[f"{name}.down.weight"] = torch.randn(rank, into, generator=generator) * into**-0.5
            weights[f"{name}.up.weight"] = torch.randn(320, rank, generator=generator) * 0.3 * rank**-0.5
    return weights
