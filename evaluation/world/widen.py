"""A narrow network inside a wide one that computes the same, because ComfyUI knows SD1.5 by its width of 320.

Every channel of the narrow network's stream stands five times in the wide one, so that GroupNorm and LayerNorm find
the same means and variances; each layer writes all five and reads one of them. Between norms (attention heads, hidden
layers, the time embedding) narrow channels stand once, among zeros, which SiLU, GELU and products keep zero.

Channel c = 2 g + r stands at 10 g + r + 2 k, k = 0..4: within the same group of GroupNorm, and at 10 g + r the wide
position table of a motion module is the narrow one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
import re

import torch
from torch import Tensor

from ...motion_modules.config import NUM_HEADS
from ...motion_modules.temporal_transformer import sinusoid

NARROW, WIDE = 64, 320
COPIES = WIDE // NARROW
HEAD, WIDE_HEAD = NARROW // NUM_HEADS, WIDE // NUM_HEADS


@dataclass(frozen=True)
class Axis:
    """Where the narrow channels of one axis of a weight go.

    width: of the wide axis. places: (narrow width, copies): where a layer writes each channel; the first is read.
    """

    width: int
    places: Tensor

    def spread(self, weight: Tensor, dim: int, copied: bool) -> Tensor:
        """A weight whose axis `dim` is wide: with all copies where a layer writes, one where it reads."""
        shape = list(weight.shape)
        shape[dim] = self.width
        wide = weight.new_zeros(shape)
        for column in self.places.T if copied else self.places.T[:1]:
            wide.index_copy_(dim, column, weight)
        return wide


def _stream(streams: int = 1) -> Axis:
    """The residual stream; of two that are concatenated, the second stands after the first."""
    c = torch.arange(NARROW)
    first = (10 * (c // 2) + c % 2)[:, None] + 2 * torch.arange(COPIES)
    return Axis(WIDE * streams, torch.cat([first + WIDE * number for number in range(streams)]))


def _once(places: Tensor, width: int) -> Axis:
    return Axis(width, places[:, None])


def _gate() -> Tensor:
    """GEGLU's two halves, the value and its gate."""
    c = torch.arange(4 * NARROW)
    return torch.cat((c, 4 * WIDE + c))


STREAM, TWO_STREAMS = _stream(), _stream(2)
HEADS = _once(WIDE_HEAD * (torch.arange(NARROW) // HEAD) + torch.arange(NARROW) % HEAD, WIDE)
HIDDEN = _once(torch.arange(4 * NARROW), 4 * WIDE)  # of feed-forwards, and the time embedding
GEGLU = _once(_gate(), 8 * WIDE)
# cosines of the timestep, then sines: frequency i of 32 is frequency 5 i of 160
TIME = _once(torch.cat([COPIES * torch.arange(NARROW // 2) + half * WIDE // 2 for half in (0, 1)]), WIDE)

# What a layer writes and what it reads, by the end of its path; None: as it is (latents, text, a hint's picture).
# A weight of two streams' width reads two; the first row that fits counts. Names are the host's and diffusers'.
LAYERS = tuple(
    (re.compile(rf"(?:^|\.){pattern}$"), writes, reads)
    for pattern, writes, reads in (
        (r"(?:time_embed\.0|time_embedding\.linear_1)", HIDDEN, TIME),
        (r"(?:time_embed\.2|time_embedding\.linear_2)", HIDDEN, HIDDEN),
        (r"(?:emb_layers\.1|time_emb_proj)", STREAM, HIDDEN),
        (r"(?:input_blocks\.0\.0|conv_in|input_hint_block\.14)", STREAM, None),
        (r"input_hint_block\.\d+", None, None),
        (r"out\.2", None, STREAM),
        (r"attn2\.to_[kv]", HEADS, None),
        (r"to_[qkv]", HEADS, STREAM),
        (r"to_out(?:\.0)?", STREAM, HEADS),
        (r"ff\.net\.0\.proj", GEGLU, STREAM),
        (r"ff\.net\.2", STREAM, HIDDEN),
        (r".+", STREAM, STREAM),
    )
)
TO_Q = re.compile(r"\.to_q$")


def widened(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a narrow UNet, ControlNet or motion module, with their keys, as wide ones that compute the same.

    Low-rank changes in AnimateDiff's keys (MotionLoRA, domain adapter) as well: what they change is changed alike.
    """
    return {key: _widened(key, value.float()) for key, value in weights.items()}


def widened_guider(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Pose Guider's, whose last layer alone meets the UNet."""
    return {
        key: STREAM.spread(value.float(), 0, copied=True) if key.startswith("conv_out.") else value.float()
        for key, value in weights.items()
    }


def _widened(key: str, value: Tensor) -> Tensor:
    if key.endswith("pos_encoder.pe"):
        return sinusoid(value.shape[1], WIDE)
    path, _, kind = key.replace(".processor", "").rpartition(".")
    low_rank = re.fullmatch(r"(.+?)(?:_lora)?\.(down|up)", path)
    path, half = low_rank.groups() if low_rank else (path, None)
    writes, reads = next((writes, reads) for pattern, writes, reads in LAYERS if pattern.search(path))
    if TO_Q.search(path) and half != "down":
        value = value * (WIDE_HEAD / HEAD) ** 0.5  # attention divides by the root of the head's width
    if writes is not None and half != "down":
        axis = TWO_STREAMS if value.ndim == 1 and len(value) == 2 * NARROW else writes  # a norm over two streams
        value = axis.spread(value, 0, copied=True)
    if reads is not None and half != "up" and value.ndim > 1:
        axis = TWO_STREAMS if reads is STREAM and value.shape[1] == 2 * NARROW else reads
        value = axis.spread(value, 1, copied=False)
    return value
