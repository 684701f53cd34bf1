"""How strongly a motion module acts, by frame, place, block and point of the sampling range."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
import math

import torch
from torch import Tensor, nn

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


class MaskSizes:
    """Masks at the sizes of the UNet's levels, made once in a run.

    Resized where the masks are, on the processor: not every graphics card takes the mean over areas that do not divide.
    """

    def __init__(self):
        self._resized: dict[tuple[int, ...], Tensor] = {}

    def of(self, mask: Tensor, size: torch.Size, device: torch.device) -> Tensor:
        """(N, 1, h, w) for a mask (N, H, W)."""
        key = id(mask), device, *size
        if key not in self._resized:
            whole = mask.reshape(-1, 1, *mask.shape[-2:]).float()
            self._resized[key] = nn.functional.interpolate(whole, size, mode="area").to(device)
        return self._resized[key]


class Factor:
    """One of motion_scale and effect in one call: numbers and masks by frame, to be multiplied at a layer's size."""

    def __init__(self, number: float, call: Call, sizes: MaskSizes):
        self.number = number
        self._call = call
        self._sizes = sizes
        self._by_frame: list[Tensor] = []
        self._masks: list[Tensor] = []
        self._at: dict[torch.Size, Tensor] = {}

    def multiply(self, numbers: Keyframes, mask: Tensor | None) -> None:
        if numbers.is_constant:
            self.number *= numbers.values[0]
        else:
            value = torch.tensor(numbers.over(self._call.frames), device=self._call.sigma.device)
            self._by_frame.append(value[:, None, None, None])
        if mask is not None:
            self._masks.append(mask)

    @property
    def is_zero(self) -> bool:
        return self.number == 0 and not self._by_frame and not self._masks

    def at(self, x: Tensor) -> ByFrame:
        """A number, or (F, 1, h, w) for rows (.., h, w) of hidden states."""
        if not self._by_frame and not self._masks:
            return self.number
        size = x.shape[2:] if self._masks else torch.Size((1, 1))
        if size not in self._at:
            masks = (self._sizes.of(mask, size, x.device) for mask in self._masks)
            factors = [*self._by_frame, *(rows_of(mask, self._call.frames, last_stays=True) for mask in masks)]
            self._at[size] = math.prod(factors, start=self.number).to(x.dtype)
        return self._at[size]


@dataclass(frozen=True)
class MotionFactors:
    """What holds in one call: motion_scale and effect, and factors on effect by block name."""

    motion_scale: Factor
    effect: Factor
    blocks: tuple[Mapping[str, float], ...] = ()

    def block_effect(self, site: str) -> float:
        return math.prod(block_number(site + ".", 1.0, numbers) for numbers in self.blocks)


def factors_in(
    call: Call, motion_scale: float, effect: float, controls: Iterable[MotionControl], sizes: MaskSizes
) -> MotionFactors:
    """Everything that acts on the call's frames."""
    acting = [control for control in controls if call.within(control.start_percent, control.end_percent)]
    factors = MotionFactors(
        Factor(motion_scale, call, sizes), Factor(effect, call, sizes), tuple(control.blocks for control in acting)
    )
    for control in acting:
        factors.motion_scale.multiply(control.motion_scale, control.scale_mask)
        factors.effect.multiply(control.effect, control.effect_mask)
    return factors
