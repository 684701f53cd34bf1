"""Files of Animate Anyone: what they are follows from their keys, and each must be whole.

The older packs for it load with missing keys passed over, and a motion module that was not read shows only as flicker.
"""

from collections.abc import Mapping
import re

from torch import Tensor

from ..motion_modules.checkpoint import unwrap
from ..motion_modules.file_kind import FileKind, file_kind
from ..motion_modules.values import check_values
from .pose_guider import PoseGuiderLayout, layout_of

WRAPPING = re.compile(r"^(?:state_dict\.|module\.)+")  # of trainers, on one graphics card or several
LAST_LAYERS = ("conv_norm_out.", "conv_out.")  # of a UNet, which a ReferenceNet does not have


def read_pose_guider(file_content: Mapping) -> tuple[PoseGuiderLayout, dict[str, Tensor]]:
    """Raises ValueError that says what the file is instead, or names the weights that do not fit."""
    weights = _weights_of(file_content, FileKind.POSE_GUIDER)
    layout = layout_of(weights)
    check_values(weights)
    return layout, weights


def read_reference_net(file_content: Mapping) -> tuple[dict, dict[str, Tensor]]:
    """What `UNetModel` of the host needs to know about a ReferenceNet, and its weights in diffusers' names.

    Raises ValueError that says what the file is instead. Whether every weight is there, only its network can tell.
    """
    weights = _weights_of(file_content, FileKind.REFERENCE_NET)
    return unet_config(weights), weights


def _weights_of(file_content: Mapping, wanted: FileKind) -> dict[str, Tensor]:
    raw = unwrap(file_content) if isinstance(file_content, Mapping) else {}
    weights = {WRAPPING.sub("", key): value for key, value in raw.items()}
    kind = file_kind(weights)
    if kind is not wanted:
        raise ValueError(f"this file is {kind.value}.")
    return weights


def unet_config(weights: Mapping[str, Tensor]) -> dict:
    """Widths and depths of an SD1.5 UNet in diffusers' names, as the host's UNetModel takes them."""
    down = _levels(weights, "down")
    up = _levels(weights, "up")
    if not down or len(up) != len(down):
        raise ValueError(
            f"this UNet has {len(down)} down blocks and {len(up)} up blocks; it may be cut short. Download it again."
        )
    for level, (going_down, going_up) in enumerate(zip(down[::-1], up, strict=True)):
        if len(going_up) != len(going_down) + 1:
            raise ValueError(
                f"this UNet's up block {level} has {len(going_up)} parts where {len(going_down) + 1} belong; it may be "
                "cut short. Download it again."
            )
    width = _shape(weights, "conv_in.weight")[0]
    widths = [_shape(weights, f"down_blocks.{level}.resnets.0.conv1.weight")[0] for level in range(len(down))]
    context = next((value.shape[1] for key, value in weights.items() if key.endswith("attn2.to_k.weight")), None)
    if context is None:
        raise ValueError("this UNet has no cross-attention; it may be cut short. Download it again.")
    return {
        "image_size": 32,
        "in_channels": _shape(weights, "conv_in.weight")[1],
        "out_channels": 4,
        "model_channels": width,
        "channel_mult": [size // width for size in widths],
        "num_res_blocks": [len(depths) for depths in down],
        "transformer_depth": [depth for depths in down for depth in depths],
        # the host takes it from the end, where it begins to go up
        "transformer_depth_output": [depth for depths in up for depth in depths][::-1],
        "transformer_depth_middle": _depth(weights, "mid_block.attentions.0") or -1,
        "context_dim": context,
        "num_heads": 8,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "legacy": False,
    }


def _levels(weights: Mapping[str, Tensor], side: str) -> list[list[int]]:
    """Of each block, the transformer depth behind each of its ResBlocks; 0 where there is none."""
    resnets: dict[int, int] = {}
    for key in weights:
        if found := re.match(rf"{side}_blocks\.(\d+)\.resnets\.(\d+)\.", key):
            resnets[int(found[1])] = max(resnets.get(int(found[1]), 0), int(found[2]) + 1)
    return [
        [_depth(weights, f"{side}_blocks.{level}.attentions.{number}") for number in range(resnets[level])]
        for level in sorted(resnets)
    ]


def _depth(weights: Mapping[str, Tensor], attention: str) -> int:
    pattern = re.compile(re.escape(attention) + r"\.transformer_blocks\.(\d+)\.")
    return max((int(found[1]) + 1 for key in weights if (found := pattern.match(key))), default=0)


def _shape(weights: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    if key not in weights or weights[key].ndim != 4:
        raise ValueError(f"this UNet misses {key}; it may be cut short. Download it again.")
    return tuple(weights[key].shape)
