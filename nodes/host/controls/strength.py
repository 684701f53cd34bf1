"""A ControlNet's strength by frame and by step.

The host multiplies what a ControlNet gives by its `strength`. Here that is an object which does the multiplication
itself, with a number for each row; so it works for every kind of control model, and in chains.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...timeline.keyframes import Keyframes
from ...timeline.windows import rows_of
from ..core.call import Call
from .soft import soften


@dataclass(frozen=True, eq=False)
class RowStrength:
    """In place of a number in a call: (F,), for the frames at hand, repeated for each cond of the batch.

    masks: (F, 1, H, W), where it acts, or None.
    """

    values: Tensor
    last_hint_stays: bool
    masks: Tensor | None = None

    def __rmul__(self, x: Tensor) -> Tensor:
        factors = self.values.view(-1, *[1] * (x.ndim - 1)).to(x.device)
        if self.masks is not None and x.ndim == 4:
            factors = factors * nn.functional.interpolate(self.masks, x.shape[2:], mode="bilinear")
        factors = factors.to(x).repeat(x.shape[0] // len(self.values), *[1] * (x.ndim - 1))
        return x.mul_(factors)  # in place as the host does it: its lists share tensors


@dataclass(frozen=True, eq=False)
class ControlSchedule:
    """In place of a number between calls: strength * by_frame * by_step.

    soft_base, soft_flip: how much the control model's single features count, see soft.py; 1 all alike.
    mask: (N, H, W), frame by frame, the last one staying: where the ControlNet acts.
    """

    strength: float
    by_frame: Keyframes
    by_step: Keyframes
    last_hint_stays: bool
    soft_base: float = 1.0
    soft_flip: bool = False
    mask: Tensor | None = None

    def at(self, call: Call) -> RowStrength:
        now = self.by_step.values[0] if self.by_step.is_constant else self.by_step.at(call.percent)
        values = torch.tensor(self.by_frame.over(call.frames)) * (self.strength * now)
        if self.mask is None:
            return RowStrength(values, self.last_hint_stays)
        masks = rows_of(self.mask, call.frames, last_stays=True)[:, None].to(call.latents.device, torch.float32)
        return RowStrength(values, self.last_hint_stays, masks)

    def __rmul__(self, x: Tensor) -> Tensor:
        raise ValueError(
            "Control Strength works on a MODEL with Apply Motion Module or Context Options; add one of them."
        )


def schedule_strength(
    conditionings: tuple[list, ...], by_frame: Keyframes, by_step: Keyframes, last_hint_stays: bool, **fields
) -> tuple[list, ...]:
    """CONDITIONING with the schedule on the ControlNet that was applied last; its own strength is a factor.

    fields: further ones of ControlSchedule. Raises ValueError if there is none.
    """
    scheduled = {}  # one copy for positive and negative: the host runs conds of one ControlNet together

    def changed(options: dict) -> dict:
        control = options.get("control")
        if control is None:
            return options
        if id(control) not in scheduled:
            copy = control.copy().set_previous_controlnet(control.previous_controlnet)
            before = control.strength
            if isinstance(before, ControlSchedule):
                before = before.strength
            copy.strength = ControlSchedule(before, by_frame, by_step, last_hint_stays, **fields)
            scheduled[id(control)] = copy
        return {**options, "control": scheduled[id(control)]}

    result = tuple([[cond, changed(options)] for cond, options in conditioning] for conditioning in conditionings)
    if not scheduled:
        raise ValueError("Control Strength found no ControlNet in its conditioning. Connect it after Apply ControlNet.")
    return result


@contextmanager
def strengths_for_frames(controls: Iterable, call: Call) -> Iterator[None]:
    """While the context lasts, schedules have become the numbers of the call's frames at its noise level."""
    before = [(control, control.strength) for control in controls if isinstance(control.strength, ControlSchedule)]
    try:
        with ExitStack() as softened:
            for control, schedule in before:
                control.strength = schedule.at(call)
                if schedule.soft_base != 1:
                    softened.enter_context(soft_merge(control, schedule))
            yield
    finally:
        for control, schedule in before:
            control.strength = schedule


@contextmanager
def soft_merge(control, schedule: ControlSchedule) -> Iterator[None]:
    """While the context lasts, what the control model gives is weighted before the host merges it."""
    own = vars(control).get("control_merge")
    control.control_merge = soften(control.control_merge, schedule.soft_base, schedule.soft_flip)
    try:
        yield
    finally:
        del control.control_merge
        if own is not None:
            control.control_merge = own
