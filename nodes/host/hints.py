"""ControlNet hints by frame: frame i of the animation gets hint i, in every window and for every cond.

A stock ControlNet takes the first rows of its hint batch for whatever batch it is given. Here the rows that belong to
the frames at hand are put in front of it for the length of one call.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .arguments import named_arguments

KEY = "animatic_hints"


def follow_frames(model: ModelPatcher) -> None:
    """Give `model` (a clone of ours) the wrapper below, once."""
    model.remove_wrappers_with_key(WrappersMP.CALC_COND_BATCH, KEY)
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, hints_by_frame)


def hints_by_frame(executor, *args, **kwargs):
    """CALC_COND_BATCH wrapper: (model, conds, x_in, timestep, model_options)."""
    call = named_arguments(executor, args, kwargs)
    options = call["model_options"].get("transformer_options", {})
    frames = frames_at_hand(options, call["x_in"].shape[0])
    controls = {id(c): c for cond in call["conds"] if cond for entry in cond for c in chain(entry.get("control"))}
    with hints_of(list(controls.values()), frames, windowed=options.get("context_window") is not None):
        return executor(*args, **kwargs)


def frames_at_hand(options: dict, rows: int) -> list[int]:
    """Which frames of the clip the rows are: the window's, ours or that of the stock node, or simply all."""
    window = options.get("context_window")
    index_list = list(getattr(window, "index_list", None) or range(rows))
    anchor = getattr(window, "causal_anchor_index", None)  # newer stock windows may put an earlier frame in front
    if anchor is not None and anchor >= 0:
        index_list = [anchor, *index_list]
    return index_list if len(index_list) == rows else list(range(rows))


def chain(control) -> Iterator:
    """A ControlNet and those that were applied before it."""
    while control is not None:
        yield control
        control = getattr(control, "previous_controlnet", None)


@contextmanager
def hints_of(controls: list, frames: list[int], windowed: bool) -> Iterator[None]:
    """While the context lasts, each ControlNet has these frames' hints alone; fewer hints repeat from the first."""
    before = []
    try:
        for control in controls:
            if hasattr(control, "sub_idxs"):
                continue  # Advanced-ControlNet's own classes find their frames by themselves
            before.append((control, control.cond_hint_original, control.extra_concat_orig))
            if not windowed and not longer(control.cond_hint_original, len(frames)):
                continue  # the host deals these out rightly, and keeps them prepared from step to step
            if several(control.cond_hint_original):
                control.cond_hint_original = rows_of(control.cond_hint_original, frames)
                control.cond_hint = None
            if any(several(extra) for extra in control.extra_concat_orig):
                control.extra_concat_orig = [
                    rows_of(extra, frames) if several(extra) else extra for extra in control.extra_concat_orig
                ]
                control.cond_hint = None
        yield
    finally:
        for control, hint, extra in before:
            control.cond_hint_original, control.extra_concat_orig = hint, extra


def longer(hint, count: int) -> bool:
    return isinstance(hint, Tensor) and hint.shape[0] > count


def several(hint) -> bool:
    return isinstance(hint, Tensor) and hint.shape[0] > 1


def rows_of(hint: Tensor, frames: list[int]) -> Tensor:
    return hint[[frame % hint.shape[0] for frame in frames]]
