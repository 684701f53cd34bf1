"""Clips that move in a known way."""

import torch


def texture(size: int, seed: int = 0) -> torch.Tensor:
    """(size, size, 3), soft enough to be followed."""
    rough = torch.rand(1, 3, size // 6, size // 6, generator=torch.Generator().manual_seed(seed))
    soft = torch.nn.functional.interpolate(rough, (size, size), mode="bicubic", align_corners=False)
    return soft.clamp(0, 1)[0].permute(1, 2, 0)


def sliding(pixels: int, frames: int = 4, size: int = 96) -> torch.Tensor:
    """A cut-out whose picture goes so many pixels to the left from frame to frame."""
    wide = texture(size + frames * abs(pixels))
    return torch.stack([wide[:size, pixels * i : pixels * i + size] for i in range(frames)])
