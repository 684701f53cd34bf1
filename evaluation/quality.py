"""How near a clip is to the true one, frame by frame; both (F, h, w, 3) in 0..1."""

import torch
from torch import Tensor, nn

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


def psnr(clip: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels, (F,); infinite for equal frames."""
    require_same_shape(clip, truth)
    return -10 * (clip.double() - truth.double()).square().mean((1, 2, 3)).log10()


def ssim(clip: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004), (F,): a Gaussian of 11 pixels that never leaves the picture.

    The mean over the three colours, each with a range of 1. Raises ValueError for less than 11 pixels.
    """
    require_same_shape(clip, truth)
    if min(clip.shape[1:3]) < WINDOW:
        height, width = clip.shape[1:3]
        raise ValueError(f"SSIM looks at {WINDOW} x {WINDOW} pixels, but these pictures have {width} x {height}.")
    x, y = (pictures.double().permute(0, 3, 1, 2) for pictures in (clip, truth))
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    cov = _blurred(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    alike = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return alike.mean((1, 2, 3))


def require_same_shape(clip: Tensor, truth: Tensor) -> None:
    if clip.shape != truth.shape:
        raise ValueError(
            f"A clip is compared frame by frame with one of its own length and size: {_words(clip)} here, "
            f"{_words(truth)} in the true one."
        )


def _words(clip: Tensor) -> str:
    frames, height, width = clip.shape[:3]
    return f"{frames} frames of {width} x {height}"


def _blurred(pictures: Tensor) -> Tensor:
    offsets = torch.arange(WINDOW, dtype=pictures.dtype) - WINDOW // 2
    kernel = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    kernel = (kernel / kernel.sum()).repeat(pictures.shape[1], 1, 1, 1)
    across = nn.functional.conv2d(pictures, kernel, groups=pictures.shape[1])
    return nn.functional.conv2d(across, kernel.transpose(2, 3), groups=pictures.shape[1])
