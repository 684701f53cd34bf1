"""Context windows that look at an earlier one, so that a face, clothes and light stay the same along the clip.

Where a window reads, each spatial self-attention of the UNet sees, beside its own tokens, those that an earlier window
had at the same layer in the same step. The idea is "reference-only" control (lllyasviel, sd-webui-controlnet #1236)
between windows, as AnimateDiff-Evolved's ContextRef has it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import math

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
import torch
from torch import Tensor

from ...timeline.keyframes import check_range
from ..core.arguments import named_arguments
from ..core.call import BANK, in_range
from ..core.patcher import set_wrapper
from ..core.unet import self_attention_numbers

SETTINGS, REPLACED = "animatic_window_reference", "animatic_replaced_attentions"
FIRST, SLIDING, INDEXES = MODES = ("first", "sliding", "indexes")
# What the bank may hold where the UNet computes; the rest waits in the processor's memory. SD1.5 at 512 x 512 needs
# 0.37 GB for a window of 16 frames and a cond in half precision, SDXL at 1024 x 1024 3.4 GB.
LIMIT = 2**31


@dataclass(frozen=True)
class WindowReference:
    """mode: which windows are looked at: the first, the one before (rewritten at every `width` - 1), those with a
    frame of `indexes`. strength: 0 reads the window's own tokens again, 1 theirs. fidelity: of the negative prompt, how
    far it is left as it is. reuse: share of the first window's result in all others.
    """

    mode: str = FIRST
    strength: float = 1.0
    fidelity: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 0.25
    width: int = 2
    indexes: tuple[int, ...] = (0,)
    reuse: float = 0.0
    reuse_end_percent: float = 0.15

    def __post_init__(self):
        check_range(self.start_percent, self.end_percent)

    def writes(self, windows: Sequence[Sequence[int]]) -> list[bool]:
        """Which windows of a step are kept for those after them; the first always is."""
        if self.mode == FIRST:
            return [number == 0 for number in range(len(windows))]
        if self.mode == SLIDING:
            return [number % max(1, self.width - 1) == 0 for number in range(len(windows))]
        left, written = set(self.indexes), []
        for number, window in enumerate(windows):
            written.append(number == 0 or not left.isdisjoint(window))
            left.difference_update(window)
        return written


def set_window_reference(model: ModelPatcher, reference: WindowReference) -> ModelPatcher:
    """A clone of `model` whose windows look at an earlier one; it replaces what was set before."""
    model = model.clone()
    options = model.model_options.setdefault("transformer_options", {})
    if SETTINGS not in options:
        model.set_model_attn1_patch(see_bank)
        set_wrapper(model, WrappersMP.APPLY_MODEL, SETTINGS, tell_replaced)
    options[SETTINGS] = reference
    return model


def see_bank(n: Tensor, context: Tensor, value: Tensor, extra_options: dict) -> tuple[Tensor, Tensor, Tensor]:
    """The host's patch of self-attention: (rows, tokens, channels) of queries, keys and values before projection."""
    bank = extra_options.get(BANK)
    if bank is None or context is None or context.shape != n.shape or _replaced(extra_options):
        return n, context, value
    seen = bank.seen(context, extra_options)
    return (n, context, value) if seen is context else (n, seen, seen)


def tell_replaced(executor, *args, **kwargs):
    """APPLY_MODEL wrapper: tells `see_bank` which self-attentions another node's patch takes the place of.

    Such a patch may return values as they come, so there must be as many of them as of queries.
    """
    options = named_arguments(executor, args, kwargs)["transformer_options"]
    options[REPLACED] = options.get("patches_replace", {}).get("attn1", {})
    return executor(*args, **kwargs)


def _replaced(extra_options: dict) -> bool:
    replaced, block = extra_options.get(REPLACED, {}), tuple(extra_options["block"])
    return block in replaced or (*block, extra_options["block_index"]) in replaced


def rows_for_bank(model: ModelPatcher, options: dict, shape: Sequence[int]) -> int:
    """How many frames more the host has to plan for, so that a bank of windows of `shape` (F, C, H, W) has room too.

    The host takes each frame twice, for two conds, and the bank has tokens of both.
    """
    settings, unet = options.get(SETTINGS), model.get_model_object("diffusion_model")
    if settings is None or settings.strength == 0 or not isinstance(unet, UNetModel):
        return 0
    frames, *_, height, width = shape
    dtype = model.model.manual_cast_dtype or model.model.get_dtype()
    held = 2 * frames * self_attention_numbers(unet, height, width) * dtype.itemsize
    return math.ceil(min(held, LIMIT) / 2 / model.model.memory_required([1, *shape[1:]]))


class Bank:
    """Tokens of one window at every layer, for the windows after it in one step."""

    def __init__(self, settings: WindowReference):
        self.settings = settings
        self.reads = self.writes = False
        self._tokens: dict[tuple, Tensor] = {}

    def seen(self, tokens: Tensor, extra_options: dict) -> Tensor:
        """A layer's own tokens (conds * frames, P, C), and behind them those of the bank where this window reads."""
        conds, uuids = extra_options["cond_or_uncond"], extra_options["uuids"]
        layer = extra_options["block"], extra_options["block_index"]
        parts = tokens.chunk(len(uuids))
        rows = []
        for part, uuid, cond in zip(parts, uuids, conds, strict=True):
            kept = self._tokens.get((layer, uuid)) if self.reads else None
            rows.append(part if kept is None else self._mixed(part, kept, cond))
            if self.writes:
                self._put((layer, uuid), part)
        return torch.cat([tokens, torch.cat(rows)], dim=1) if self.reads else tokens

    def _mixed(self, own: Tensor, kept: Tensor, cond: int) -> Tensor:
        if kept.shape[1:] != own.shape[1:]:
            return own  # another part of the picture
        kept = kept[[min(row, kept.shape[0] - 1) for row in range(own.shape[0])]]  # a shorter window's last row stays
        share = self.settings.strength * (1 - self.settings.fidelity if cond == 1 else 1)
        return torch.lerp(own, kept.to(own), share)

    def _put(self, key: tuple, tokens: Tensor) -> None:
        self._tokens.pop(key, None)
        held = sum(t.numel() * t.element_size() for t in list(self._tokens.values()) if t.device == tokens.device)
        fits = held + tokens.numel() * tokens.element_size() <= LIMIT
        self._tokens[key] = tokens.clone() if fits else tokens.cpu()


class Step:
    """One step of a clip in windows, with or without a bank."""

    def __init__(self, settings: WindowReference | None, options: dict, windows: list[list[int]], reuses: bool):
        self._bank = options.get(BANK)
        self._writes = settings.writes(windows) if settings else []
        self._reuse = settings.reuse if settings and reuses else 0.0
        self._first, self._count = windows[0], 0
        self._results: list[Tensor] = []

    def begin_window(self) -> None:
        if self._bank is not None:
            self._bank.reads, self._bank.writes = self._count > 0, self._writes[self._count]
        self._count += 1

    def keep_first(self, results: list[Tensor]) -> None:
        if self._reuse and self._count == 1:
            self._results = [result.clone() for result in results]

    def reused(self, outputs: list[Tensor]) -> list[Tensor]:
        """The fused results, towards the first window's, which is laid again and again from its first frame on."""
        if not self._reuse:
            return outputs
        frames = outputs[0].shape[0]
        rows = [(frame - self._first[0]) % frames % len(self._first) for frame in range(frames)]
        pairs = zip(outputs, self._results, strict=True)
        return [torch.lerp(output, first[rows].to(output), self._reuse) for output, first in pairs]


@contextmanager
def windows_of_step(options: dict, windows: list[list[int]], sigma: Tensor, model_sampling) -> Iterator[Step]:
    """While the context lasts, the windows of one step find their bank in transformer_options, if they have one."""
    settings = options.get(SETTINGS)
    if settings is not None and len(windows) > 1 and settings.strength > 0:
        if in_range(settings.start_percent, settings.end_percent, sigma, model_sampling):
            options[BANK] = Bank(settings)
    reuses = settings is not None and in_range(0.0, settings.reuse_end_percent, sigma, model_sampling)
    try:
        yield Step(settings, options, windows, reuses)
    finally:
        options.pop(BANK, None)
