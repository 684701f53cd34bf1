"""FreeInit (Wu et al. 2023, arXiv 2312.07537): layout from the last result, detail from fresh noise."""

import torch
from torch import Tensor

CUTOFF = 0.25  # of the highest frequency, in space as in time
ORDER = 4


def mix_frequencies(low: Tensor, high: Tensor) -> Tensor:
    """Low frequencies of one and high ones of another, (F, C, H, W) each, split over frames, height and width.

    The filter is a Butterworth low-pass on the distance from the middle of the spectrum (section 4.2 of the paper).
    """
    frames, _, height, width = low.shape
    axes = (0, 2, 3)
    squares = sum(
        (torch.fft.fftfreq(size, d=0.5).view([-1 if axis == i else 1 for i in range(4)]) / CUTOFF) ** 2
        for axis, size in zip(axes, (frames, height, width), strict=True)
    ).to(low.device)
    keep = 1 / (1 + squares**ORDER)
    spectra = (torch.fft.fftn(part.float(), dim=axes) for part in (low, high))  # half precision has no such transform
    lows, highs = (spectrum * share for spectrum, share in zip(spectra, (keep, 1 - keep), strict=True))
    return torch.fft.ifftn(lows + highs, dim=axes).real.to(low.dtype)
