"""A ControlNet's strength by frame and by step.

The host multiplies what a ControlNet gives by its `strength`. Here that is an object which does the multiplication
itself, with a number for each row; so it works for every kind of control model, and in chains.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...timeline.keyframes import Keyframes
from ...timeline.windows import rows_of
from ..core.call import Call
from .kept import Kept
from .soft import soften


@dataclass(frozen=True, eq=False)
class RowStrength:
    """In place of a number in a call: (F,), for the frames at hand, repeated for each cond of the batch.

    masks: (F, 1, H, W) each, where it acts; several are multiplied.
    """

    values: Tensor
    last_hint_stays: bool
    masks: tuple[Tensor, ...] = ()
    _factors: dict[tuple, Tensor] = field(default_factory=dict)

    def __rmul__(self, x: Tensor) -> Tensor:
        factors = self._factors_for(x)
        # in place as the host does it: its lists share tensors
        return x.mul_(factors.repeat(x.shape[0] // len(self.values), *[1] * (x.ndim - 1)))

    def _factors_for(self, x: Tensor) -> Tensor:
        """Kept, for a ControlNet gives thirteen tensors of four sizes, and a copy to a card waits for it."""
        masks = self.masks if x.ndim == 4 else ()
        key = x.device, x.dtype, x.ndim, x.shape[2:] if masks else None
        if key not in self._factors:
            factors = self.values.view(-1, *[1] * (x.ndim - 1)).to(x.device)
            for mask in masks:
                factors = factors * nn.functional.interpolate(mask.to(x.device), x.shape[2:], mode="bilinear")
            self._factors[key] = factors.to(x)
        return self._factors[key]


@dataclass(frozen=True, eq=False)
class ControlSchedule:
    """In place of a number between calls: strength * by_frame * by_step.

    strength: the ControlNet's own, or the schedule that it had before, which goes on acting as a factor.
    last_hint_stays: here the schedule that was put on last decides.
    soft_base, soft_flip: how much the control model's single features count, see soft.py; 1 all alike.
    mask: (N, H, W), frame by frame, the last one staying: where the ControlNet acts.
    """

    strength: "float | ControlSchedule"
    by_frame: Keyframes
    by_step: Keyframes
    last_hint_stays: bool
    soft_base: float = 1.0
    soft_flip: bool = False
    mask: Tensor | None = None

    def at(self, call: Call) -> RowStrength:
        factor, masks = self.strength, ()
        if isinstance(self.strength, ControlSchedule):
            earlier = self.strength.at(call)
            factor, masks = earlier.values, earlier.masks
        values = torch.tensor(self.by_frame.over(call.frames)) * (factor * self.now(call))
        if self.mask is not None:
            mask = self.mask.reshape(-1, *self.mask.shape[-2:])  # some nodes give one mask without a row for it
            masks = (*masks, rows_of(mask, call.frames, last_stays=True)[:, None].float())
        return RowStrength(values, self.last_hint_stays, masks)

    def now(self, call: Call) -> float:
        return self.by_step.values[0] if self.by_step.is_constant else self.by_step.at(call.percent)

    def with_earlier(self) -> Iterator["ControlSchedule"]:
        yield self
        if isinstance(self.strength, ControlSchedule):
            yield from self.strength.with_earlier()

    def __rmul__(self, x: Tensor) -> Tensor:
        raise ValueError(
            "Control Strength works on a MODEL with Apply Motion Module or Context Options; add one of them."
        )


def schedule_strength(
    conditionings: tuple[list, ...], by_frame: Keyframes, by_step: Keyframes, last_hint_stays: bool, **fields
) -> tuple[list, ...]:
    """CONDITIONING with the schedule on the ControlNet that was applied last; what it had before is a factor.

    fields: further ones of ControlSchedule. Raises ValueError if there is none.
    """
    scheduled = {}  # one copy for positive and negative: the host runs conds of one ControlNet together

    def changed(options: dict) -> dict:
        control = options.get("control")
        if control is None:
            return options
        if id(control) not in scheduled:
            copy = control.copy().set_previous_controlnet(control.previous_controlnet)
            copy.strength = ControlSchedule(control.strength, by_frame, by_step, last_hint_stays, **fields)
            scheduled[id(control)] = copy
        return {**options, "control": scheduled[id(control)]}

    result = tuple([[cond, changed(options)] for cond, options in conditioning] for conditioning in conditionings)
    if not scheduled:
        raise ValueError("Control Strength found no ControlNet in its conditioning. Connect it after Apply ControlNet.")
    return result


@contextmanager
def strengths_for_frames(controls: Iterable, call: Call, kept: Kept) -> Iterator[None]:
    """While the context lasts, schedules have become the numbers of the call's frames at its noise level.

    kept: of the run; what does not change with the steps is there from the step before.
    """
    before = [(control, control.strength) for control in controls if isinstance(control.strength, ControlSchedule)]
    try:
        with ExitStack() as softened:
            for control, schedule in before:
                key = id(schedule), call.frames
                control.strength = kept.get(key) or schedule.at(call)
                if all(one.by_step.is_constant for one in schedule.with_earlier()):
                    kept.put(key, control.strength)
                for one in schedule.with_earlier():
                    if one.soft_base != 1:
                        merge = soften(control.control_merge, one.soft_base, one.soft_flip)
                        softened.enter_context(changed_merge(control, merge))
            yield
    finally:
        for control, schedule in before:
            control.strength = schedule


@contextmanager
def changed_merge(control, merge: Callable) -> Iterator[None]:
    """While the context lasts, `merge` takes what the control model gives, in place of the control's own method."""
    own = vars(control).get("control_merge")
    control.control_merge = merge
    try:
        yield
    finally:
        del control.control_merge
        if own is not None:
            control.control_merge = own
