"""Long animations: the host's context-handler seam, with windows that cut everything that belongs to a frame.

The host's own IndexListContextHandler fails on frame batches in 0.3.75 (it compares the step list with a vector of
timesteps) and does not cut per-frame conditioning there; what would be left of it after overriding is its interface.
"""

from collections.abc import Callable
from dataclasses import dataclass
import logging

from comfy.context_windows import ContextHandlerABC, ContextWindowABC
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
import torch
from torch import Tensor

from ...timeline.windows import LOOPED, SCHEDULES, VIEWS_ONLY, fuse_weights, rows_of, static_standard
from ..controls.hints import follow_frames
from ..core.arguments import call_with, named_arguments
from ..core.call import VIEWS, WINDOWS, WindowsOfStep, holding, in_range
from ..core.patcher import set_wrapper
from ..core.progress import check_interrupted
from .noise import set_noise_options
from .reference import rows_for_bank, windows_of_step

logger = logging.getLogger(__name__)
KEY = "animatic_context"


class Window(ContextWindowABC):
    """The frames of one window, in the host's terms; other packs read `index_list`."""

    def __init__(self, index_list: list[int]):
        self.index_list = index_list
        self.context_length = len(index_list)
        self.dim = 0

    def get_tensor(self, full: Tensor, device=None, dim=None, **kwargs) -> Tensor:
        """The window's rows of a tensor of one row per frame; fewer rows repeat, as the host repeats them."""
        if full.shape[0] == 1:
            return full.to(device)
        return rows_of(full, self.index_list).to(device)

    def add_window(self, full: Tensor, to_add: Tensor, dim=None) -> Tensor:
        full[self.index_list] += to_add
        return full


@dataclass(frozen=True)
class ContextOptions:
    """How a long clip is cut; see nodes/timeline/windows.py."""

    context_length: int = 16
    context_overlap: int = 4
    context_stride: int = 1
    context_schedule: str = "static standard"
    fuse_method: str = "overlap-linear"
    use_free_noise: bool = False
    loop_one_window: bool = False
    start_percent: float = 0.0
    view_length: int = 0
    view_overlap: int = 4

    def __post_init__(self):
        for kind in ("context", "view"):
            length, overlap = getattr(self, f"{kind}_length"), getattr(self, f"{kind}_overlap")
            if overlap >= length > 0:
                raise ValueError(f"{kind}_overlap ({overlap}) must be smaller than {kind}_length ({length}).")

    def cuts(self, num_frames: int) -> bool:
        """Whether a clip of this length is denoised in windows."""
        if self.context_schedule == VIEWS_ONLY:
            return False
        loops = self.loop_one_window and self.context_schedule in LOOPED
        return num_frames > self.context_length or (loops and num_frames == self.context_length)

    def windows(self, num_frames: int, step: int) -> list[list[int]]:
        if not self.cuts(num_frames):
            return [list(range(num_frames))]
        cut = SCHEDULES[self.context_schedule]
        return cut(num_frames, self.context_length, self.context_overlap, self.context_stride, step)

    def shares(self, windows: list[list[int]], num_frames: int) -> list[Tensor]:
        return fuse_weights(windows, num_frames, self.fuse_method, self.context_overlap)

    @property
    def seen_together(self) -> tuple[int, int]:
        """Length and overlap of what a motion module sees together: of views, or else of windows."""
        views = self.view_length and self.context_schedule != VIEWS_ONLY
        return (self.view_length, self.view_overlap) if views else (self.context_length, self.context_overlap)

    @property
    def has_views(self) -> bool:
        return self.view_length > 0 or self.context_schedule == VIEWS_ONLY

    def views(self, num_frames: int) -> list[tuple[list[int], Tensor]] | None:
        """How a motion module sees a window of `num_frames`: rows and their shares; None if as a whole."""
        length, overlap = self.seen_together
        if not self.has_views or num_frames <= length:
            return None
        rows = static_standard(num_frames, length, overlap, 1, 0)
        return list(zip(rows, fuse_weights(rows, num_frames, self.fuse_method, overlap), strict=True))


class ContextHandler(ContextHandlerABC):
    """Denoises window by window and lays the results over each other; holds nothing of a run.

    schedule: options by ascending start_percent, each holding until the next.
    """

    def __init__(self, schedule: tuple[ContextOptions, ...]):
        self.schedule = schedule
        self.context_length = max(options.context_length for options in schedule)
        self.dim = 0

    def options_at(self, timestep: Tensor, model) -> ContextOptions:
        return holding(self.schedule, lambda start: in_range(start, 1.0, timestep[0], model.model_sampling))

    def most_frames(self, num_frames: int) -> int:
        """Of a clip of this length, how many frames are denoised at once."""
        return max(o.context_length if o.cuts(num_frames) else num_frames for o in self.schedule)

    def should_use_context(self, model, conds, x_in: Tensor, timestep: Tensor, model_options: dict) -> bool:
        return self.options_at(timestep, model).cuts(x_in.shape[0])

    def get_resized_cond(self, cond_in: list[dict] | None, x_in: Tensor, window: Window, device=None) -> list | None:
        """The conds of a window: every tensor with a row per frame, wherever it stands, cut to the window's frames."""
        if cond_in is None:
            return None
        num_frames = x_in.shape[0]

        def cut(key: str, value):
            several = key == "mask" and value.shape[0] > 1  # fewer masks than frames repeat, as without windows
            return window.get_tensor(value) if several else _cut(value, num_frames, window)

        return [{key: cut(key, value) for key, value in cond.items()} for cond in cond_in]

    def execute(
        self, calc_cond_batch: Callable, model, conds: list, x_in: Tensor, timestep: Tensor, model_options: dict
    ) -> list[Tensor]:
        num_frames = x_in.shape[0]
        context = self.options_at(timestep, model)
        options = model_options.setdefault("transformer_options", {})
        step = step_of(timestep, options.get("sample_sigmas"))
        windows = context.windows(num_frames, step)
        if step == 0:
            logger.info("%d frames in %d windows: %s", num_frames, len(windows), in_words(windows))
        shares = context.shares(windows, num_frames)
        outputs = [torch.zeros_like(x_in) for _ in conds]
        before = {key: options.get(key) for key in ("context_window", "ad_params", WINDOWS)}
        try:
            options[WINDOWS] = WindowsOfStep(tuple(map(tuple, windows)))
            with windows_of_step(options, windows, timestep[0], model.model_sampling) as in_step:
                for indices, share in zip(windows, shares, strict=True):
                    check_interrupted()
                    in_step.begin_window()
                    window = Window(indices)
                    options["context_window"] = window
                    # the contract of AnimateDiff-Evolved, by which IP-Adapter and others find their frames
                    options["ad_params"] = {
                        "full_length": num_frames, "context_length": len(indices), "sub_idxs": indices,
                    }  # fmt: skip
                    cut_conds = [self.get_resized_cond(cond, x_in, window) for cond in conds]
                    results = calc_cond_batch(
                        model, cut_conds, window.get_tensor(x_in), window.get_tensor(timestep), model_options
                    )
                    in_step.keep_first(results)
                    share = share.to(device=x_in.device, dtype=x_in.dtype)[:, None, None, None]
                    for output, result in zip(outputs, results, strict=True):
                        window.add_window(output, result * share)
                outputs = in_step.reused(outputs)
        finally:
            for key, value in before.items():
                options.pop(key, None)
                if value is not None:
                    options[key] = value
        return outputs


def set_context_options(model: ModelPatcher, options: ContextOptions) -> ModelPatcher:
    """A clone of `model` that denoises more than context_length frames in windows.

    Options that are on it already stay, until those with a later start_percent begin; of two with the same the last
    counts.
    """
    before = model.model_options.get("context_handler")
    earlier = before.schedule if isinstance(before, ContextHandler) else ()
    by_start = {entry.start_percent: entry for entry in (*earlier, options)}
    schedule = tuple(by_start[start] for start in sorted(by_start))
    shared = next((entry.seen_together for entry in schedule if entry.use_free_noise), None)
    model = set_noise_options(model, shared=shared)
    model.model_options["context_handler"] = ContextHandler(schedule)
    transformer_options = model.model_options.setdefault("transformer_options", {})
    transformer_options.pop(VIEWS, None)
    if any(entry.has_views for entry in schedule):
        transformer_options[VIEWS] = schedule
    follow_frames(model)
    set_wrapper(model, WrappersMP.PREPARE_SAMPLING, KEY, plan_for_one_window)
    return model


def context_schedule_of(model: ModelPatcher) -> tuple[ContextOptions, ...]:
    """By ascending start_percent. Raises ValueError if the MODEL has none of ours."""
    handler = model.model_options.get("context_handler")
    if not isinstance(handler, ContextHandler):
        raise ValueError("Preview Context: this MODEL has no context windows. Connect it after Context Options.")
    return handler.schedule


def plan_for_one_window(executor, *args, **kwargs):
    """PREPARE_SAMPLING wrapper: the host makes memory free for one window, and for what windows keep for each other."""
    call = named_arguments(executor, args, kwargs)
    options = call.get("model_options") or {}
    handler = options.get("context_handler")
    if isinstance(handler, ContextHandler):
        shape = list(call["noise_shape"])
        cuts = any(entry.cuts(shape[0]) for entry in handler.schedule)
        shape[0] = handler.most_frames(shape[0])
        if cuts:
            shape[0] += rows_for_bank(call["model"], options.get("transformer_options", {}), shape)
        args, kwargs = call_with(executor, args, kwargs, noise_shape=shape)
    return executor(*args, **kwargs)


def step_of(timestep: Tensor, sample_sigmas: Tensor | None) -> int:
    """How many of the run's steps lie behind; a sampler's intermediate points belong to the step that they follow."""
    if sample_sigmas is None:
        return 0
    return max(0, int((sample_sigmas >= timestep[0].to(sample_sigmas) * (1 - 1e-4)).sum()) - 1)


def in_words(windows: list[list[int]]) -> str:
    """For the log: first and last frame of each window."""
    shown = [f"{window[0]}-{window[-1]}" for window in windows[:12]]
    return ", ".join(shown) + (f" and {len(windows) - 12} more" if len(windows) > 12 else "")


def _cut(value, num_frames: int, window: Window):
    """A cond's value for one window; tensors of one row serve every frame."""
    if isinstance(value, Tensor):
        return window.get_tensor(value) if value.ndim and value.shape[0] == num_frames else value
    if isinstance(value, dict):
        return {key: _cut(item, num_frames, window) for key, item in value.items()}
    inner = getattr(value, "cond", None)  # comfy.conds: the host repeats or cuts their rows to the batch
    if isinstance(inner, Tensor) and inner.ndim and inner.shape[0] > 1:
        return value._copy_with(window.get_tensor(inner))
    if isinstance(inner, list) and all(isinstance(item, Tensor) for item in inner):
        return value._copy_with([_cut(item, num_frames, window) for item in inner])
    return value
