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

from ...timeline.windows import rows_of
from ..core.arguments import call_with, named_arguments
from ..core.call import Call
from ..core.patcher import set_wrapper
from .strength import ControlSchedule, RowStrength, strengths_for_frames

logger = logging.getLogger(__name__)
KEY = "animatic_hints"


def follow_frames(model: ModelPatcher) -> None:
    """Let the ControlNets of `model` (a clone of ours) follow the frames."""
    set_wrapper(model, WrappersMP.OUTER_SAMPLE, KEY, warn_before_sampling)
    set_wrapper(model, WrappersMP.CALC_COND_BATCH, KEY, controls_by_frame)


def warn_before_sampling(executor, *args, **kwargs):
    """OUTER_SAMPLE wrapper."""
    warn_of_lengths(executor.class_obj.conds, named_arguments(executor, args, kwargs)["noise"].shape[0])
    return executor(*args, **kwargs)


def controls_by_frame(executor, *args, **kwargs):
    """CALC_COND_BATCH wrapper: (model, conds, x_in, timestep, model_options)."""
    named = named_arguments(executor, args, kwargs)
    options = named["model_options"].get("transformer_options", {})
    one_cond = (0,)  # the host makes batches of several only further in
    call = Call.at_hand(named["x_in"], named["timestep"][0], one_cond, options, named["model"].model_sampling)
    chains = (control_chain(entry.get("control")) for cond in named["conds"] if cond for entry in cond)
    controls = {id(control): control for chain in chains for control in chain}.values()
    windowed = options.get("context_window") is not None
    known = options.get("ad_params")
    if windowed and known and known.get("sub_idxs") is None:  # the stock node's window; ours says it itself
        window = {"context_length": call.num_frames, "sub_idxs": list(call.frames)}
        changed = {**options, "ad_params": {**known, **window}}
        model_options = {**named["model_options"], "transformer_options": changed}
        args, kwargs = call_with(executor, args, kwargs, model_options=model_options)
    with ExitStack() as stack:
        stack.enter_context(strengths_for_frames(controls, call))
        stack.enter_context(hints_for_frames(controls, call.frames, windowed))
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
        for control in control_chain(entry.get("control"))
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


def control_chain(control) -> Iterator:
    """A ControlNet and those that were applied before it."""
    while control is not None:
        yield control
        control = getattr(control, "previous_controlnet", None)


@contextmanager
def hints_for_frames(controls: Iterable, frames: tuple[int, ...], windowed: bool) -> Iterator[None]:
    """While the context lasts, each ControlNet has these frames' hints alone."""
    before = []
    try:
        for control in controls:
            changed = None if finds_frames_itself(control) else rows_for_frames(control, frames, windowed)
            if changed:
                before.append((control, control.cond_hint_original, control.extra_concat_orig))
                control.cond_hint_original, control.extra_concat_orig = changed
                control.cond_hint = None
        yield
    finally:
        for control, hint, extras in before:
            control.cond_hint_original, control.extra_concat_orig = hint, extras
            control.cond_hint = None  # these rows are of this call; an interrupted run would leave them to the next


def rows_for_frames(control, frames: tuple[int, ...], windowed: bool) -> tuple[Tensor, list] | None:
    """A ControlNet's hint and extra images for these frames; None where the host deals them out rightly.

    What the host deals out itself it also keeps prepared from step to step. Fewer hints repeat from the first, as with
    the host, unless Control Strength says that the last one stays.
    """
    hint, extras = control.cond_hint_original, control.extra_concat_orig
    by_row = isinstance(control.strength, RowStrength)  # needs a row for each frame to multiply
    many_extras = any(has_many_rows(extra) for extra in extras)
    dealt_wrongly = has_more_rows_than(hint, len(frames)) or (windowed and has_many_rows(hint))
    if not (by_row or many_extras or dealt_wrongly):
        return None
    stays = by_row and control.strength.last_hint_stays
    return rows_of(hint, frames, stays), [rows_of(e, frames, stays) if has_many_rows(e) else e for e in extras]


def has_more_rows_than(hint, count: int) -> bool:
    return isinstance(hint, Tensor) and hint.shape[0] > count


def has_many_rows(hint) -> bool:
    return isinstance(hint, Tensor) and hint.shape[0] > 1


def finds_frames_itself(control) -> bool:
    """Our SparseCtrl, and Advanced-ControlNet's own classes."""
    return hasattr(control, "sub_idxs")
