"""A ControlNet's strength by frame and by step.

The host multiplies what a ControlNet gives by its `strength`. Here that is an object which does the multiplication
itself, with a number for each row; so it works for every kind of control model, and in chains.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ...timeline.keyframes import Keyframes
from ..core.call import Call


@dataclass(frozen=True)
class RowStrength:
    """In place of a number in a call: (F,), for the frames at hand, repeated for each cond of the batch."""

    values: Tensor
    last_hint_stays: bool

    def __rmul__(self, x: Tensor) -> Tensor:
        rows = self.values.to(x).repeat(x.shape[0] // len(self.values))
        return x.mul_(rows.view(-1, *[1] * (x.ndim - 1)))  # in place as the host does it: its lists share tensors


@dataclass(frozen=True)
class ControlSchedule:
    """In place of a number between calls: strength * by_frame * by_step."""

    strength: float
    by_frame: Keyframes
    by_step: Keyframes
    last_hint_stays: bool

    def at(self, call: Call) -> RowStrength:
        now = self.by_step.values[0] if self.by_step.is_constant else self.by_step.at(call.percent)
        return RowStrength(torch.tensor(self.by_frame.over(call.frames)) * (self.strength * now), self.last_hint_stays)

    def __rmul__(self, x: Tensor) -> Tensor:
        raise ValueError(
            "Control Strength works on a MODEL with Apply Motion Module or Context Options; add one of them."
        )


def schedule_strength(
    conditionings: tuple[list, ...], by_frame: Keyframes, by_step: Keyframes, last_hint_stays: bool
) -> tuple[list, ...]:
    """CONDITIONING with the schedule on the ControlNet that was applied last; its own strength is a factor.

    Raises ValueError if there is none.
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
            copy.strength = ControlSchedule(before, by_frame, by_step, last_hint_stays)
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
        for control, schedule in before:
            control.strength = schedule.at(call)
        yield
    finally:
        for control, schedule in before:
            control.strength = schedule
