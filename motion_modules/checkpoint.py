"""Motion-module files of every family -> one canonical layout and its description.

Canonical keys are AnimateDiff's own, `down_blocks.0.motion_modules.0.temporal_transformer.` + (`norm`, `proj_in`,
`transformer_blocks.0.attention_blocks.{0,1}.{to_q,to_k,to_v,to_out.0,pos_encoder.pe}`, `norms.{0,1}`, `ff.net.0.proj`,
`ff.net.2`, `ff_norm`, `proj_out`). What a file is follows from its keys and shapes, never from its name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
import re

import torch
from torch import Tensor, nn

from .config import (
    ANIMATELCM_I2V,
    DEFAULT_MAX_FRAMES,
    LCM,
    LCM_I2V,
    LINEAR,
    LINEAR_SDXL,
    PIA,
    SQRT_LINEAR,
    MotionModuleConfig,
)
from .motion_module import MotionModule
from .temporal_transformer import sinusoid

# module. of several graphics cards, unet. of conversions...: all that stands before the block of a motion weight
PREFIX = re.compile(r"^[\w.]*?(?=(?:down_blocks|up_blocks)\.\d+\.|mid_block\.)")
SITE = re.compile(r"(?:(down|up)_blocks\.(\d+)|(mid)_block)\.motion_modules\.(\d+)\.temporal_transformer\.")

# HotShotXL and diffusers spell the canonical layout in their own way.
RENAMES = (
    (re.compile(r"\.temporal_attentions\.(\d+)\."), r".motion_modules.\1.temporal_transformer."),
    (re.compile(r"\.pos_encoder\.(?:positional_encoding|pos_encoding)$"), ".pos_encoder.pe"),
    (re.compile(r"(\.motion_modules\.\d+\.)(?!temporal_transformer\.)"), r"\1temporal_transformer."),
    (re.compile(r"(\.transformer_blocks\.\d+)\.attn([12])\."), lambda m: f"{m[1]}.attention_blocks.{int(m[2]) - 1}."),
    (re.compile(r"(\.transformer_blocks\.\d+)\.norm([12])\."), lambda m: f"{m[1]}.norms.{int(m[2]) - 1}."),
    (re.compile(r"(\.transformer_blocks\.\d+)\.norm3\."), r"\1.ff_norm."),
)
SHARED_POSITIONS = re.compile(r"(.*\.transformer_blocks\.\d+)\.pos_embed\.pe$")


def unwrap(file_content: Mapping) -> dict[str, Tensor]:
    """The tensors of a loaded file by plain name: trainer wrappers (`state_dict`, `module.`) and non-tensors gone.

    Of several nested dicts the one with motion weights is taken, or else all of them under their own names.
    """
    nested = {str(key): value for key, value in file_content.items() if isinstance(value, Mapping)}
    tensors = {str(key): value for key, value in file_content.items() if isinstance(value, Tensor)}
    for value in nested.values():
        if any(_is_motion_key(str(key)) for key in value) and "pose_encoder_state_dict" not in nested:  # CameraCtrl's
            return unwrap(value)
    for outer, value in nested.items():
        tensors.update({f"{outer}.{key}": item for key, item in value.items() if isinstance(item, Tensor)})
    return {PREFIX.sub("", key) if _is_motion_key(key) else key: value for key, value in tensors.items()}


def what_else(keys: Iterable[str]) -> str | None:
    """What a file is when it is not a motion module, and which node wants it; None if it can be one."""
    keys = list(keys)

    def any_key(pattern: str) -> bool:
        return any(re.search(pattern, key) for key in keys)

    lora_keys = [key for key in keys if re.search(r"(_lora\.|\.lora_|\.lora\.|lora_up|lora_down|lora_A|lora_B)", key)]
    lora = bool(lora_keys)
    motion = any(_is_motion_key(key) for key in set(keys) - set(lora_keys))
    motion_lora = any(_is_motion_key(key) or "motion_modules_" in key for key in lora_keys)
    if any_key(r"controlnet_cond_embedding") and motion:
        return "a SparseCtrl model. Put it into models/controlnet and load it with the node Load SparseCtrl"
    if any_key(r"(^|\.)(pose_encoder|encoder_conv_in|encoder_down_conv_blocks)"):
        return "a CameraCtrl model, which this pack cannot use"
    if motion and not motion_lora:
        lora = False  # a whole motion module, saved together with an adapter
    if motion_lora:
        return (
            "a MotionLoRA. Put it into models/animatediff_motion_lora, load it with the node Load MotionLoRA and "
            "connect that to Apply Motion Module"
        )
    if lora and any_key(r"attentions?[._]\d+[._]transformer_blocks"):
        return (
            "a LoRA for the image model (AnimateDiff's domain adapter is one). "
            "Put it into models/loras and load it with the node Apply Domain Adapter"
        )
    if lora:
        return "a LoRA. Put it into models/loras and load it with the node Load LoRA (Model Only)"
    if any_key(r"^(model\.diffusion_model\.|first_stage_model\.|cond_stage_model\.|conditioner\.)"):
        return "a whole checkpoint. Put it into models/checkpoints and load it with the node Load Checkpoint"
    if any_key(r"^(control_model\.|zero_convs\.|controlnet_down_blocks\.|controlnet_cond_embedding)"):
        return "a ControlNet. Put it into models/controlnet and load it with the node Load ControlNet Model"
    if "FancyVideo" in keys or any_key(r"cc_projection|motion_embedding\.linear"):
        return "a FancyVideo or MotionCtrl model, which needs more than a motion module; this pack cannot use it"
    if not motion:
        return (
            f"no motion module: it has none of a motion module's weights (its first key is {keys[0]!r})"
            if keys
            else "empty"
        )
    return None


def read_motion_module(file_content: Mapping) -> tuple[MotionModuleConfig, dict[str, Tensor]]:
    """Describe a loaded file and bring it to the canonical layout.

    file_content: what a weights-only loader returned, wrappers included.
    Returns the config and a state dict with exactly the keys of `MotionModule(config)`; tensors keep their dtype,
    position tables are float32. Raises ValueError that says what the file is instead, or names missing and
    unexpected motion weights.
    """
    if not isinstance(file_content, Mapping):
        raise ValueError(f"this file holds a {type(file_content).__name__}, not named weights.")
    raw = unwrap(file_content)
    other = what_else(raw)
    if other:
        raise ValueError(f"this file is {other}.")
    hotshot = any(".temporal_attentions." in key for key in raw)
    weights = _canonical_names(raw)
    motion = {key: value for key, value in weights.items() if SITE.match(key)}
    image = _image_weights(raw)
    config = _describe(motion, image, hotshot)
    return _with_positions(config, motion | image)


def read_sparse_ctrl(file_content: Mapping) -> tuple[MotionModuleConfig, dict[str, Tensor], dict[str, Tensor]]:
    """Take a SparseCtrl file (Guo et al. 2023, arXiv 2311.16933) apart.

    Returns the description and weights of its motion module, which has down blocks alone, and the weights of its
    ControlNet in diffusers' names. Raises ValueError for any other file.
    """
    raw = unwrap(file_content) if isinstance(file_content, Mapping) else {}
    control = {key.removeprefix("module."): value for key, value in raw.items() if not _is_motion_key(key)}
    motion = {key: value for key, value in _canonical_names(raw).items() if SITE.match(key)}
    if not motion or not any(key.startswith("controlnet_cond_embedding.") for key in control):
        other = "a motion module" if motion else what_else(raw) or "something else"
        raise ValueError(f"it is no SparseCtrl model but {other}.")
    config = replace(_describe(motion, {}, False), family="SparseCtrl", down_only=True)
    return *_with_positions(config, motion), control


def canonical_key(key: str) -> str:
    """A key of HotShotXL's or diffusers' spelling in AnimateDiff's own."""
    for pattern, spelling in RENAMES:
        key = pattern.sub(spelling, key)
    return key


def _is_motion_key(key: str) -> bool:
    return ".motion_modules." in key or ".temporal_attentions." in key


def _image_weights(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    """What takes a still: AnimateLCM-I2V's encoder, or of PIA's first convolution the channels that a UNet lacks."""
    conv_in = raw.get("conv_in.weight")
    if conv_in is not None and conv_in.ndim == 4 and conv_in.shape[1] in (5, 9):
        return {"conv_in.weight": conv_in[:, -5:]}
    return {key: value for key, value in raw.items() if key.startswith("img_encoder.")}


def _canonical_names(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = {}
    for key, value in raw.items():
        if not _is_motion_key(key):
            continue
        key = canonical_key(key)
        shared = SHARED_POSITIONS.match(key)
        if shared:  # diffusers keeps one table for both attentions
            weights[f"{shared[1]}.attention_blocks.0.pos_encoder.pe"] = value
            weights[f"{shared[1]}.attention_blocks.1.pos_encoder.pe"] = value
        else:
            weights[key] = value
    return weights


def _describe(motion: dict[str, Tensor], image: dict[str, Tensor], hotshot: bool) -> MotionModuleConfig:
    down: dict[int, int] = {}  # modules of each down block
    attentions = 0
    for key in motion:
        site = SITE.match(key)
        if site[1] == "down":
            level = int(site[2])
            down[level] = max(down.get(level, 0), int(site[4]) + 1)
        attention = re.search(r"\.attention_blocks\.(\d+)\.", key)
        attentions = max(attentions, int(attention[1]) + 1) if attention else attentions
    if not down or sorted(down) != list(range(len(down))):
        raise ValueError("this file has no motion weights for the UNet's down blocks; it may be cut short.")
    channels = []
    for level in range(len(down)):
        proj_in = motion.get(f"down_blocks.{level}.motion_modules.0.temporal_transformer.proj_in.weight")
        if proj_in is None or proj_in.ndim != 2:
            raise ValueError(
                f"this file has no usable proj_in in motion module 0 of down block {level}; it may be cut short."
            )
        channels.append(proj_in.shape[0])
    positions = [value for key, value in motion.items() if key.endswith("pos_encoder.pe")]
    mid = any(key.startswith("mid_block.") for key in motion)
    found = MotionModuleConfig(
        family="",
        unet="SDXL" if len(channels) == 3 else "SD1.5",
        channels=tuple(channels),
        modules_per_block=max(down.values()),
        has_mid_block=mid,
        max_frames=positions[0].shape[-2] if positions else DEFAULT_MAX_FRAMES,
        beta_schedule=SQRT_LINEAR,
        attentions=attentions,
        image_input="" if not image else PIA if "conv_in.weight" in image else ANIMATELCM_I2V,
    )
    return replace(found, **_family(found, bool(positions), hotshot))


def _family(found: MotionModuleConfig, has_positions: bool, hotshot: bool) -> dict:
    """How the family was trained; v1 and v3, and HotShotXL and AnimateDiff SDXL, differ by their position count."""
    if found.unet == "SDXL":
        if hotshot or found.max_frames == 24:
            return {"family": "HotShotXL", "beta_schedule": LINEAR, "unet_norm_over_frames": True}
        return {"family": "AnimateDiff SDXL", "beta_schedule": LINEAR_SDXL, "motion_norm_over_frames": True}
    if found.image_input == PIA:
        return {"family": "PIA", "unet_norm_over_frames": True}
    if found.image_input == ANIMATELCM_I2V:
        return {"family": "AnimateLCM-I2V", "beta_schedule": LCM_I2V}
    if not has_positions:
        return {"family": "AnimateLCM", "beta_schedule": LCM}
    if found.max_frames > 32:
        return {"family": "LongAnimateDiff"}
    if found.has_mid_block:
        return {"family": "AnimateDiff v2"}
    if found.max_frames == 24:
        return {"family": "AnimateDiff v1", "unet_norm_over_frames": True}
    return {"family": "AnimateDiff v3"}


def _with_positions(
    config: MotionModuleConfig, motion: dict[str, Tensor]
) -> tuple[MotionModuleConfig, dict[str, Tensor]]:
    """Check names and shapes against the network; regenerate standard position tables, keep a user's own."""
    expected = MotionModule(config, nn, device="meta").state_dict()
    tables: dict[int, Tensor] = {}
    custom = False
    weights = dict(motion)
    for key, wanted in expected.items():
        if not key.endswith("pos_encoder.pe"):
            continue
        channels = wanted.shape[-1]
        table = tables.setdefault(channels, sinusoid(config.max_frames, channels))
        stored = weights.get(key)
        if stored is not None and stored.numel() == table.numel():
            stored = stored.reshape(table.shape).float()
            # the rounding of bfloat16 is up to 2**-9, that of 8-bit floats up to 2**-3
            rounding = 0.13 if weights[key].dtype.itemsize == 1 else 0.005
            if not torch.allclose(stored, table, rtol=0, atol=rounding):
                table, custom = stored, True
        elif stored is not None:
            table = stored
        weights[key] = table
    _check_names(expected, weights)
    return replace(config, custom_positions=custom), {key: weights[key] for key in expected}


def _check_names(expected: dict[str, Tensor], weights: dict[str, Tensor]) -> None:
    missing = [key for key in expected if key not in weights]
    unexpected = [key for key in weights if key not in expected]
    shapes = [
        f"{key} is {tuple(weights[key].shape)}, not {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    for title, names in (
        ("misses motion weights", missing),
        ("has unexpected motion weights", unexpected),
        ("has wrong shapes", shapes),
    ):
        if names:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            raise ValueError(
                f"this motion module {title}: {', '.join(names[:4])}{more}. It may be cut short or of an unknown kind."
            )
