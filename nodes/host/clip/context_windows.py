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

from ...timeline.windows import SCHEDULES, fuse_weights, rows_of
from ..controls.hints import follow_frames
from ..core.arguments import call_with, named_arguments
from ..core.patcher import set_wrapper
from ..core.progress import check_interrupted
from .noise import set_noise_options

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

    def __post_init__(self):
        if self.context_overlap >= self.context_length:
            raise ValueError(
                f"context_overlap ({self.context_overlap}) must be smaller than context_length ({self.context_length})."
            )

    def windows(self, num_frames: int, step: int) -> list[list[int]]:
        if num_frames <= self.context_length:
            return [list(range(num_frames))]
        cut = SCHEDULES[self.context_schedule]
        return cut(num_frames, self.context_length, self.context_overlap, self.context_stride, step)

    def shares(self, windows: list[list[int]], num_frames: int) -> list[Tensor]:
        return fuse_weights(windows, num_frames, self.fuse_method, self.context_overlap)


class ContextHandler(ContextHandlerABC):
    """Denoises window by window and lays the results over each other; holds nothing of a run."""

    def __init__(self, options: ContextOptions):
        self.options = options
        self.context_length = options.context_length
        self.dim = 0

    def should_use_context(self, model, conds, x_in: Tensor, timestep: Tensor, model_options: dict) -> bool:
        return x_in.shape[0] > self.options.context_length

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
        options = model_options.setdefault("transformer_options", {})
        step = step_of(timestep, options.get("sample_sigmas"))
        windows = self.options.windows(num_frames, step)
        if step == 0:
            logger.info("%d frames in %d windows: %s", num_frames, len(windows), in_words(windows))
        shares = self.options.shares(windows, num_frames)
        outputs = [torch.zeros_like(x_in) for _ in conds]
        before = {key: options.get(key) for key in ("context_window", "ad_params")}
        try:
            for indices, share in zip(windows, shares, strict=True):
                check_interrupted()
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
                share = share.to(device=x_in.device, dtype=x_in.dtype)[:, None, None, None]
                for output, result in zip(outputs, results, strict=True):
                    window.add_window(output, result * share)
        finally:
            for key, value in before.items():
                options.pop(key, None)
                if value is not None:
                    options[key] = value
        return outputs


def set_context_options(model: ModelPatcher, options: ContextOptions) -> ModelPatcher:
    """A clone of `model` that denoises more than context_length frames in windows."""
    shared = (options.context_length, options.context_overlap) if options.use_free_noise else None
    model = set_noise_options(model, shared=shared)
    model.model_options["context_handler"] = ContextHandler(options)
    follow_frames(model)
    set_wrapper(model, WrappersMP.PREPARE_SAMPLING, KEY, plan_for_one_window)
    return model


def context_options_of(model: ModelPatcher) -> ContextOptions:
    """Raises ValueError if the MODEL has none of ours."""
    handler = model.model_options.get("context_handler")
    if not isinstance(handler, ContextHandler):
        raise ValueError("Preview Context: this MODEL has no context windows. Connect it after Context Options.")
    return handler.options


def plan_for_one_window(executor, *args, **kwargs):
    """PREPARE_SAMPLING wrapper: the memory that the host makes free is that of one window, not of the clip."""
    call = named_arguments(executor, args, kwargs)
    handler = (call.get("model_options") or {}).get("context_handler")
    if isinstance(handler, ContextHandler):
        shape = list(call["noise_shape"])
        shape[0] = min(shape[0], handler.context_length)
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
