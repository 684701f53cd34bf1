"""Context windows: which frames are denoised together, and how much each window counts where windows overlap.

A schedule gives lists of frame indices for one sampling step. Every frame is in at least one window, no window holds a
frame twice, and positions in a list are what the motion module sees as time.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
import math

import torch
from torch import Tensor


def static_standard(num_frames: int, length: int, overlap: int, stride: int, step: int) -> list[list[int]]:
    """The same windows at every step, each `overlap` frames into the one before; the last is moved to the end."""
    starts = [*range(0, num_frames - length, length - overlap), num_frames - length]
    return [list(range(start, start + length)) for start in starts]


def uniform_standard(num_frames: int, length: int, overlap: int, stride: int, step: int) -> list[list[int]]:
    """Windows that begin elsewhere at each step, so that no seam stays; with stride also over every 2nd, 4th frame."""
    windows = []
    for spread in spreads(num_frames, length, stride):
        reach = (length - 1) * spread + 1
        advance = length * spread - overlap
        first = offset(step, advance) - advance
        starts = {min(max(start, 0), num_frames - reach) for start in range(first, num_frames, advance)}
        windows += [list(range(start, start + reach, spread)) for start in sorted(starts)]
    return windows


def uniform_looped(num_frames: int, length: int, overlap: int, stride: int, step: int) -> list[list[int]]:
    """The same around a closed loop: windows run over the end into the beginning, so that the clip repeats."""
    windows = []
    for spread in spreads(num_frames, length, stride):
        advance = length * spread - overlap
        first = offset(step, num_frames)
        for start in range(first, first + num_frames, advance):
            windows.append([(start + i * spread) % num_frames for i in range(length)])
    return windows


def uniform_looped_open(num_frames: int, length: int, overlap: int, stride: int, step: int) -> list[list[int]]:
    """AnimateDiff-Evolved's looped windows with closed_loop off: they wrap, but the last need not meet the first.

    A window that would hold a frame twice, as strides make them in short clips, is left out.
    """
    windows = []
    turned = round(num_frames * halving(step))
    for spread in [2**i for i in range(min(stride, math.ceil(math.log2(num_frames / length)) + 1))]:
        if length <= num_frames // math.gcd(num_frames, spread):
            first, end = turned + offset(step, spread), turned + num_frames - overlap
            for start in range(first, end, length * spread - overlap):
                windows.append([(start + i * spread) % num_frames for i in range(length)])
    return windows


def batched(num_frames: int, length: int, overlap: int, stride: int, step: int) -> list[list[int]]:
    """One clip after another, without overlap; the last may be shorter."""
    return [list(range(start, min(start + length, num_frames))) for start in range(0, num_frames, length)]


def spreads(num_frames: int, length: int, stride: int) -> list[int]:
    """Distances between a window's frames: 1, 2, 4... as many as `stride` allows, while a window fits into the clip."""
    return [2**i for i in range(stride) if i == 0 or length * 2**i <= num_frames]


def offset(step: int, span: int) -> int:
    """Where in `span` the windows of a step begin."""
    return int(halving(step) * span)


def halving(step: int) -> float:
    """Bit-reversed counting, 0, 1/2, 1/4, 3/4, 1/8...: it visits the range from 0 to 1 evenly."""
    return int(f"{step:016b}"[::-1], 2) / 2**16


SCHEDULES: dict[str, Callable[[int, int, int, int, int], list[list[int]]]] = {
    "static standard": static_standard,
    "uniform standard": uniform_standard,
    "uniform looped": uniform_looped,
    "uniform looped, open": uniform_looped_open,
    "batched": batched,
}
LOOPED = ("uniform looped", "uniform looped, open")
VIEWS_ONLY = "views only"  # no windows: the motion module alone sees the clip in parts


def rows_of(values: Tensor, frames: Sequence[int], last_stays: bool = False) -> Tensor:
    """The rows of (N, ..) that belong to these frames; fewer rows than frames repeat, or the last one stays."""
    count = values.shape[0]
    return values[[min(frame, count - 1) if last_stays else frame % count for frame in frames]]


def flat(length: int, overlap: int, ramp_in: bool, ramp_out: bool) -> list[float]:
    """Every frame of a window counts alike."""
    return [1.0] * length


def pyramid(length: int, overlap: int, ramp_in: bool, ramp_out: bool) -> list[float]:
    """A frame counts by its distance to the nearer end of the window."""
    return [float(min(i, length - 1 - i) + 1) for i in range(length)]


def relative(length: int, overlap: int, ramp_in: bool, ramp_out: bool) -> list[float]:
    """A frame counts by its nearness to the window's middle, almost nothing at the ends."""
    half = (length - 1 + 0.01) / 2
    return [max(0.01, 1 - abs(i - (length - 1) / 2) / half) for i in range(length)]


def overlap_linear(length: int, overlap: int, ramp_in: bool, ramp_out: bool) -> list[float]:
    """Full weight but where windows overlap: there one fades in while the other fades out."""
    weights = [1.0] * length
    for i in range(min(overlap, length)):
        fade = (i + 1) / (overlap + 1)
        if ramp_in:
            weights[i] = min(weights[i], fade)
        if ramp_out:
            weights[-1 - i] = min(weights[-1 - i], fade)
    return weights


FUSE_METHODS: dict[str, Callable[[int, int, bool, bool], list[float]]] = {
    "overlap-linear": overlap_linear,
    "pyramid": pyramid,
    "flat": flat,
    "relative": relative,
}


def fuse_weights(windows: Sequence[Sequence[int]], num_frames: int, method: str, overlap: int) -> list[Tensor]:
    """For each window the share of each of its frames in the result; a frame's shares over all windows sum to one."""
    weights = []
    looped = any(b < a for window in windows for a, b in pairwise(window))  # then every window has neighbours
    for window in windows:
        ramp_in, ramp_out = looped or window[0] > 0, looped or window[-1] < num_frames - 1
        shares = FUSE_METHODS[method](len(window), overlap, ramp_in, ramp_out)
        weights.append(torch.tensor(shares, dtype=torch.float64))
    total = torch.zeros(num_frames, dtype=torch.float64)
    for window, shares in zip(windows, weights, strict=True):
        total[list(window)] += shares
    return [shares / total[list(window)] for window, shares in zip(windows, weights, strict=True)]


def free_noise(noise: Tensor, length: int, overlap: int, generator: torch.Generator) -> Tensor:
    """FreeNoise (Qiu et al. 2023, arXiv 2310.15169): frames past the first window reuse its noise, shuffled.

    noise: (F, C, H, W). Each further stretch of length - overlap frames is a permutation of the one `length` frames
    earlier, so that any two windows see the same noises in another order.
    """
    shared = noise.clone()
    advance = length - overlap
    for start in range(length, noise.shape[0], advance):
        count = min(advance, noise.shape[0] - start)
        order = torch.randperm(advance, generator=generator)[:count]
        shared[start : start + count] = shared[start - length : start - length + advance][order]
    return shared
