"""How strongly a motion module acts, by frame, place, block and point of the sampling range."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
import math

import torch
from torch import Tensor

from ....motion_modules.temporal_transformer import ByFrame
from ...timeline.blocks import block_number
from ...timeline.keyframes import Keyframes, check_range
from ...timeline.windows import rows_of
from ..core.call import Call

ONE = Keyframes((0.0,), (1.0,))


@dataclass(frozen=True, eq=False)
class MotionControl:
    """Factors on Apply Motion Module's own numbers; controls that act at once multiply.

    scale_mask, effect_mask: (N, H, W), frame by frame, the last one staying; they multiply too.
    blocks: factors on `effect` for parts of the motion module, by the beginning of their names.
    """

    motion_scale: Keyframes = ONE
    effect: Keyframes = ONE
    scale_mask: Tensor | None = None
    effect_mask: Tensor | None = None
    blocks: Mapping[str, float] = field(default_factory=dict)
    start_percent: float = 0.0
    end_percent: float = 1.0

    def __post_init__(self):
        check_range(self.start_percent, self.end_percent)


@dataclass(frozen=True)
class Strengths:
    """What holds in one call: motion_scale and effect, and factors on effect by block name."""

    motion_scale: ByFrame
    effect: ByFrame
    blocks: tuple[Mapping[str, float], ...] = ()

    def effect_at(self, site: str) -> ByFrame:
        return self.effect * math.prod(block_number(site + ".", 1.0, numbers) for numbers in self.blocks)


def check_blocks(control: MotionControl, sites: Iterable[str]) -> None:
    """Raises ValueError for a block that the motion module lacks."""
    for block in control.blocks:
        if not any(f"{site}.".startswith(f"{block}.") for site in sites):
            raise ValueError(f"Motion Control: this motion module has no block {block}; it has {', '.join(sites)}.")


def strengths_in(call: Call, motion_scale: float, effect: float, controls: Iterable[MotionControl]) -> Strengths:
    """Everything that acts on the call's frames; tensors are moved to the device once, not at every site."""
    acting = [control for control in controls if call.within(control.start_percent, control.end_percent)]
    for control in acting:
        motion_scale = motion_scale * by_frame(control.motion_scale, control.scale_mask, call.frames, call.sigma.device)
        effect = effect * by_frame(control.effect, control.effect_mask, call.frames, call.sigma.device)
    return Strengths(motion_scale, effect, tuple(control.blocks for control in acting))


def by_frame(numbers: Keyframes, mask: Tensor | None, frames: Sequence[int], device: torch.device) -> ByFrame:
    """A number, or (F, 1, h, w) for the frames at hand."""
    if mask is None and numbers.is_constant:
        return numbers.values[0]
    value = torch.tensor(numbers.over(frames), device=device)[:, None, None, None]
    if mask is not None:
        mask = mask.reshape(-1, 1, *mask.shape[-2:]).float()
        value = value * rows_of(mask, frames, last_stays=True).to(device)
    return value
