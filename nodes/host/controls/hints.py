"""ControlNet hints by frame: frame i of the animation gets hint i, in every window and for every cond.

A stock ControlNet takes the first rows of its hint batch for whatever batch it is given. Here the rows that belong to
the frames at hand are put in front of it for the length of one call.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
import logging
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
import torch
from torch import Tensor

from ...timeline.windows import rows_of
from ..core.arguments import call_with, named_arguments
from ..core.call import Call
from ..core.patcher import set_wrapper
from .kept import Kept
from .strength import ControlSchedule, RowStrength, changed_merge, strengths_for_frames

logger = logging.getLogger(__name__)
KEY = "animatic_hints"
PREPARED = ("cond_hint", "control_input")  # where the host keeps it; the second in T2I-adapters alone


def follow_frames(model: ModelPatcher) -> None:
    """Let the ControlNets of `model` (a clone of ours) follow the frames."""
    set_wrapper(model, WrappersMP.OUTER_SAMPLE, KEY, sample_with_controls)
    set_wrapper(model, WrappersMP.CALC_COND_BATCH, KEY, controls_by_frame)


def sample_with_controls(executor, *args, **kwargs):
    """OUTER_SAMPLE wrapper: what is prepared in this run is kept until its end."""
    guider = executor.class_obj
    warn_of_lengths(guider.conds, named_arguments(executor, args, kwargs)["noise"].shape[0])
    options = guider.model_options.setdefault("transformer_options", {})
    options[KEY] = Kept()
    try:
        return executor(*args, **kwargs)
    finally:
        options.pop(KEY, None)
        for control in controls_of(entry for cond in guider.conds.values() for entry in cond or ()):
            if isinstance(getattr(control, "prepared", None), Kept):
                control.prepared.clear()  # also after a Cancel, when the host forgets to


def controls_by_frame(executor, *args, **kwargs):
    """CALC_COND_BATCH wrapper: (model, conds, x_in, timestep, model_options)."""
    named = named_arguments(executor, args, kwargs)
    options = named["model_options"].get("transformer_options", {})
    one_cond = (0,)  # the host makes batches of several only further in
    call = Call.at_hand(named["x_in"], named["timestep"][0], one_cond, options, named["model"].model_sampling)
    entries = [entry for cond in named["conds"] if cond for entry in cond]
    controls = controls_of(entries)
    windowed = options.get("context_window") is not None
    if windowed and (told := with_window(options, call)):
        model_options = {**named["model_options"], "transformer_options": told}
        args, kwargs = call_with(executor, args, kwargs, model_options=model_options)
    # a part of the picture has hints of its own size, which the host prepares anew in the middle of a call
    has_parts = any("area" in entry for entry in entries)
    kept = Kept() if has_parts else options.get(KEY) or Kept()
    with ExitStack() as stack:
        stack.enter_context(strengths_for_frames(controls, call, kept))
        stack.enter_context(hints_for_frames(controls, call, windowed, kept))
        for control in controls:
            if hasattr(control, "control_input"):
                stack.enter_context(changed_merge(control, for_its_rows(control, call.num_frames)))
        return executor(*args, **kwargs)


def with_window(options: Mapping, call: Call) -> dict | None:
    """The transformer_options with AnimateDiff-Evolved's word for the stock node's window; ours says it itself."""
    known = options.get("ad_params")
    if not known or known.get("sub_idxs") is not None:
        return None
    return {**options, "ad_params": {**known, "context_length": call.num_frames, "sub_idxs": list(call.frames)}}


def controls_of(entries: Iterable[dict]) -> list:
    """Every ControlNet of these conds once, with those applied before it and their copies on other graphics cards."""
    found = {}
    for entry in entries:
        for control in control_chain(entry.get("control")):
            for instance in (control, *getattr(control, "multigpu_clones", {}).values()):
                found[id(instance)] = instance
    return list(found.values())


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
def hints_for_frames(controls: Iterable, call: Call, windowed: bool, kept: Kept) -> Iterator[None]:
    """While the context lasts, each ControlNet has these frames' hints alone, prepared if it had them before."""
    before = []
    try:
        for control in controls:
            if not finds_frames_itself(control) and dealt_wrongly(control, call.num_frames, windowed):
                before.append((control, Hints.of(control)))
                prepared = kept.get((id(control), call.frames))
                fits = prepared and prepared["cond_hint"].shape[2:] == control_size(control, call)
                hints = replace(Hints.of(control), prepared=prepared) if fits else Hints.cut(control, call.frames)
                hints.put_into(control)
        yield
        for control, _ in before:
            prepared = Hints.of(control).prepared_for(call.num_frames)
            if prepared:
                kept.put((id(control), call.frames), prepared)
    finally:
        for control, hints in before:
            hints.put_into(control)


@dataclass(frozen=True)
class Hints:
    """A ControlNet's images, and what the host made of them, which is None until the host has."""

    original: Tensor
    extras: list
    prepared: dict[str, Any]

    @classmethod
    def of(cls, control) -> "Hints":
        prepared = {name: getattr(control, name) for name in PREPARED if hasattr(control, name)}
        return cls(control.cond_hint_original, control.extra_concat_orig, prepared)

    @classmethod
    def cut(cls, control, frames: tuple[int, ...]) -> "Hints":
        """Fewer hints repeat from the first, as with the host, unless Control Strength says that the last one stays."""
        stays = isinstance(control.strength, RowStrength) and control.strength.last_hint_stays
        extras = [rows_of(e, frames, stays) if has_many_rows(e) else e for e in control.extra_concat_orig]
        prepared = {name: None for name in PREPARED if hasattr(control, name)}
        return cls(rows_of(control.cond_hint_original, frames, stays), extras, prepared)

    def put_into(self, control) -> None:
        control.cond_hint_original, control.extra_concat_orig = self.original, self.extras
        for name, value in self.prepared.items():
            setattr(control, name, value)

    def prepared_for(self, num_frames: int) -> dict | None:
        """What the host prepared; None if it did nothing, as outside of a ControlNet's range.

        It repeats a hint's rows for each cond of a batch, and does so again where there are too few.
        """
        hint = self.prepared["cond_hint"]
        if hint is None:
            return None
        return {**self.prepared, "cond_hint": hint[:num_frames].clone() if hint.shape[0] > num_frames else hint}


def for_its_rows(control, num_frames: int) -> Callable:
    """A T2I-adapter's `control_merge` for batches of any number of conds.

    The host keeps its features as the first batch had them, and leaves the control out of one with other rows.
    """
    merge = control.control_merge

    def merged(features: dict[str, list[Tensor | None]], *args, **kwargs) -> dict:
        rows = control.cond_hint.shape[0]

        def fitted(x: Tensor | None) -> Tensor | None:
            return x if x is None or x.shape[0] in (1, rows) else x[:num_frames].repeat(rows // num_frames, 1, 1, 1)

        return merge({part: list(map(fitted, entries)) for part, entries in features.items()}, *args, **kwargs)

    return merged


def control_size(control, call: Call) -> torch.Size:
    """Height and width of a hint that the host takes as prepared for these latents."""
    return torch.Size(size * control.compression_ratio for size in call.latents.shape[2:])


def dealt_wrongly(control, num_frames: int, windowed: bool) -> bool:
    """Whether the host would give a row another frame's hint; what it deals out rightly it also keeps prepared."""
    hint = control.cond_hint_original
    if any(has_many_rows(extra) for extra in control.extra_concat_orig):
        return True
    if isinstance(control.strength, RowStrength) and hint.shape[0] != num_frames:
        return True  # each frame needs a row of its own to be multiplied
    return has_more_rows_than(hint, num_frames) or (windowed and has_many_rows(hint))


def has_more_rows_than(hint, count: int) -> bool:
    return isinstance(hint, Tensor) and hint.shape[0] > count


def has_many_rows(hint) -> bool:
    return isinstance(hint, Tensor) and hint.shape[0] > 1


def finds_frames_itself(control) -> bool:
    """Our SparseCtrl, and Advanced-ControlNet's own classes."""
    return hasattr(control, "sub_idxs")
