"""Motion-module files of every family -> one canonical layout and its description.

Canonical keys are AnimateDiff's own, `down_blocks.0.motion_modules.0.temporal_transformer.` + (`norm`, `proj_in`,
`transformer_blocks.0.attention_blocks.{0,1}.{to_q,to_k,to_v,to_out.0,pos_encoder.pe}`, `norms.{0,1}`, `ff.net.0.proj`,
`ff.net.2`, `ff_norm`, `proj_out`). What a file is follows from its keys and shapes, never from its name.
"""

from collections.abc import Mapping
from dataclasses import replace
import re

import torch
from torch import Tensor, nn

from .config import MotionModuleConfig
from .families import ENCODER_INPUT, PIA_INPUT, SPARSE_CTRL, Family, Marks, family_of
from .file_kind import FileKind, file_kind, is_motion_key
from .motion_module import MotionModule
from .temporal_transformer import sinusoid
from .values import check_names, check_values

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
        if any(is_motion_key(str(key)) for key in value) and "pose_encoder_state_dict" not in nested:  # CameraCtrl's
            return unwrap(value)
    for outer, value in nested.items():
        tensors.update({f"{outer}.{key}": item for key, item in value.items() if isinstance(item, Tensor)})
    return {PREFIX.sub("", key) if is_motion_key(key) else key: value for key, value in tensors.items()}


def read_motion_module(file_content: Mapping) -> tuple[MotionModuleConfig, dict[str, Tensor]]:
    """Describe a loaded file and bring it to the canonical layout.

    file_content: what a weights-only loader returned, wrappers included.
    Returns the config and a state dict with exactly the keys of `MotionModule(config)`; tensors keep their dtype,
    position tables are float32. Raises ValueError that says what the file is instead, or names missing, unexpected
    and unusable motion weights.
    """
    if not isinstance(file_content, Mapping):
        raise ValueError(f"this file holds a {type(file_content).__name__}, not named weights.")
    raw = unwrap(file_content)
    kind = file_kind(raw)
    if kind is FileKind.OTHER:
        raise ValueError(
            "this file is no motion module: it has none of a motion module's weights (its first key is "
            f"{next(iter(raw))!r})."
        )
    if kind is not FileKind.MOTION_MODULE:
        raise ValueError(f"this file is {kind.value}.")
    motion = {key: value for key, value in _canonical_names(raw).items() if SITE.match(key)}
    image, image_input = _image_weights(raw)
    layout = _layout(motion)
    marks = Marks(
        layout["unet"],
        _position_rows(motion),
        layout["has_mid_block"],
        image_input,
        has_hotshot_names=any(".temporal_attentions." in key for key in raw),
    )
    return _with_positions(_config(family_of(marks), layout, motion), motion | image)


def read_sparse_ctrl(file_content: Mapping) -> tuple[MotionModuleConfig, dict[str, Tensor], dict[str, Tensor]]:
    """Take a SparseCtrl file (Guo et al. 2023, arXiv 2311.16933) apart.

    Returns the description and weights of its motion module, which has down blocks alone, and the weights of its
    ControlNet in diffusers' names. Raises ValueError for any other file.
    """
    raw = unwrap(file_content) if isinstance(file_content, Mapping) else {}
    control = {key.removeprefix("module."): value for key, value in raw.items() if not is_motion_key(key)}
    motion = {key: value for key, value in _canonical_names(raw).items() if SITE.match(key)}
    if not motion or not any(key.startswith("controlnet_cond_embedding.") for key in control):
        raise ValueError(f"it is no SparseCtrl model but {file_kind(raw).value}.")
    check_values(control)
    config = replace(_config(SPARSE_CTRL, _layout(motion), motion), down_only=True)
    return *_with_positions(config, motion), control


def canonical_key(key: str) -> str:
    """A key of HotShotXL's or diffusers' spelling in AnimateDiff's own."""
    for pattern, spelling in RENAMES:
        key = pattern.sub(spelling, key)
    return key


def _image_weights(raw: dict[str, Tensor]) -> tuple[dict[str, Tensor], str | None]:
    """What takes a still, and how: an encoder, or of the first convolution the channels that a UNet lacks."""
    conv_in = raw.get("conv_in.weight")
    if conv_in is not None and conv_in.ndim == 4 and conv_in.shape[1] in (5, 9):
        return {"conv_in.weight": conv_in[:, -5:]}, PIA_INPUT
    encoder = {key: value for key, value in raw.items() if key.startswith("img_encoder.")}
    return encoder, ENCODER_INPUT if encoder else None


def _canonical_names(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = {}
    for key, value in raw.items():
        if not is_motion_key(key):
            continue
        key = canonical_key(key)
        shared = SHARED_POSITIONS.match(key)
        if shared:  # diffusers keeps one table for both attentions
            weights[f"{shared[1]}.attention_blocks.0.pos_encoder.pe"] = value
            weights[f"{shared[1]}.attention_blocks.1.pos_encoder.pe"] = value
        else:
            weights[key] = value
    return weights


def _layout(motion: dict[str, Tensor]) -> dict:
    """Which blocks there are and how wide, as fields of MotionModuleConfig."""
    down: dict[int, int] = {}  # modules of each down block
    for key in motion:
        site = SITE.match(key)
        if site[1] == "down":
            level = int(site[2])
            down[level] = max(down.get(level, 0), int(site[4]) + 1)
    if not down or sorted(down) != list(range(len(down))):
        raise ValueError(
            "this file has no motion weights for the UNet's down blocks; it may be cut short. Download it again."
        )
    channels, modules = tuple(_channels(motion, level) for level in range(len(down))), max(down.values())
    attentions = {int(found[1]) + 1 for key in motion if (found := re.search(r"\.attention_blocks\.(\d+)\.", key))}
    return {
        # SDXL has three levels of two blocks, which no released SD1.5 has; a small one may have three of one
        "unet": "SDXL" if len(channels) == 3 and modules == 2 else "SD1.5",
        "channels": channels,
        "modules_per_block": modules,
        "has_mid_block": any(key.startswith("mid_block.") for key in motion),
        "attentions": max(attentions, default=0),
    }


def _channels(motion: dict[str, Tensor], level: int) -> int:
    proj_in = motion.get(f"down_blocks.{level}.motion_modules.0.temporal_transformer.proj_in.weight")
    if proj_in is None or proj_in.ndim != 2:
        raise ValueError(
            f"this file has no usable proj_in in motion module 0 of down block {level}; it may be cut short. "
            "Download it again."
        )
    return proj_in.shape[0]


def _position_rows(motion: dict[str, Tensor]) -> int | None:
    return next((value.shape[-2] for key, value in motion.items() if key.endswith("pos_encoder.pe")), None)


def _config(family: Family, layout: dict, motion: dict[str, Tensor]) -> MotionModuleConfig:
    return MotionModuleConfig(family=family, max_frames=_position_rows(motion) or family.max_frames, **layout)


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
    check_names(expected, weights, "motion module")
    check_values(weights)
    return replace(config, custom_positions=custom), {key: weights[key] for key in expected}
