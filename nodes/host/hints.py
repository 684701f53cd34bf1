"""ControlNet hints by frame: frame i of the animation gets hint i, in every window and for every cond.

A stock ControlNet takes the first rows of its hint batch for whatever batch it is given. Here the rows that belong to
the frames at hand are put in front of it for the length of one call.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
import logging

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...motion_modules.windows import rows_of
from .arguments import call_with, named_arguments
from .control_strength import RowStrength, ControlSchedule, strengths_of

logger = logging.getLogger(__name__)
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
    windowed = options.get("context_window") is not None
    known = options.get("ad_params")
    if windowed and known and known.get("sub_idxs") is None:  # the stock node's window; ours says it itself
        changed = {**options, "ad_params": {**known, "context_length": len(frames), "sub_idxs": frames}}
        model_options = {**call["model_options"], "transformer_options": changed}
        args, kwargs = call_with(executor, args, kwargs, model_options=model_options)
    with ExitStack() as stack:
        stack.enter_context(strengths_of(controls.values(), frames, call["timestep"][0], call["model"].model_sampling))
        stack.enter_context(hints_of(controls.values(), frames, windowed))
        return executor(*args, **kwargs)


def warn_of_lengths(conds: dict[str, list[dict]], num_frames: int) -> None:
    """Say in the log where prompts do not fit the frames or hints are fewer, which is legal and rarely wanted."""
    entries = [entry for cond in conds.values() for entry in cond or ()]
    prompts = {entry["cross_attn"].shape[0] for entry in entries if entry.get("cross_attn") is not None}
    for count in prompts - {1, num_frames}:
        logger.warning("The prompts are for %d frames, the clip has %d: they repeat or are cut off.", count, num_frames)
    hints = {
        control.cond_hint_original.shape[0]
        for entry in entries
        for control in chain(entry.get("control"))
        if not finds_frames_itself(control) and isinstance(control.cond_hint_original, Tensor)
        if not isinstance(control.strength, ControlSchedule)
    }
    for count in hints - {1}:
        if count < num_frames:
            logger.warning(
                "A ControlNet has %d images for %d frames: they repeat. Control Strength can let the last one stay.",
                count,
                num_frames,
            )


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
def hints_of(controls: Iterable, frames: list[int], windowed: bool) -> Iterator[None]:
    """While the context lasts, each ControlNet has these frames' hints alone.

    Fewer hints repeat from the first, as with the host, unless Control Strength says that the last one stays.
    """
    before = []
    try:
        for control in controls:
            if finds_frames_itself(control):
                continue
            original, extras = control.cond_hint_original, control.extra_concat_orig
            by_row = isinstance(control.strength, RowStrength)  # needs a row for each frame to multiply
            several_extras = any(several(extra) for extra in extras)
            dealt_wrongly = longer(original, len(frames)) or (windowed and several(original))
            if not (by_row or several_extras or dealt_wrongly):
                continue  # the host deals it out rightly, and keeps them prepared from step to step
            before.append((control, original, extras))
            stays = by_row and control.strength.last_hint_stays
            control.cond_hint_original = rows_of(original, frames, stays)
            control.extra_concat_orig = [rows_of(e, frames, stays) if several(e) else e for e in extras]
            control.cond_hint = None
        yield
    finally:
        for control, hint, extra in before:
            control.cond_hint_original, control.extra_concat_orig = hint, extra
            control.cond_hint = None  # these rows are of this call; an interrupted run would leave them to the next


def longer(hint, count: int) -> bool:
    return isinstance(hint, Tensor) and hint.shape[0] > count


def several(hint) -> bool:
    return isinstance(hint, Tensor) and hint.shape[0] > 1


def finds_frames_itself(control) -> bool:
    """Our SparseCtrl, and Advanced-ControlNet's own classes."""
    return hasattr(control, "sub_idxs")
