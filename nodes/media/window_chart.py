"""A drawing of context windows."""

import colorsys

import torch
from torch import Tensor

BAR, GAP, STEP_GAP = 10, 3, 14  # pixels: height of a bar, between bars, between steps
BACKGROUND, UNCOVERED = 0.12, 0.2


def window_chart(steps: list[list[list[int]]], shares: list[list[Tensor]], num_frames: int) -> Tensor:
    """A picture (H, W, 3) in 0..1: for each step a bar for each window, frames from left to right.

    steps: for each step its windows, lists of frames. shares: how much each frame of each window counts.
    """
    cell = max(4, min(24, 960 // num_frames))
    height = STEP_GAP + sum(len(windows) * (BAR + GAP) + STEP_GAP for windows in steps)
    picture = torch.full((height, 2 * STEP_GAP + cell * num_frames, 3), BACKGROUND)
    top = STEP_GAP
    for windows, weights in zip(steps, shares, strict=True):
        for number, (window, share) in enumerate(zip(windows, weights, strict=True)):
            color = torch.tensor(colorsys.hsv_to_rgb(number * 0.382 % 1, 0.55, 1.0))
            lane = picture[top : top + BAR, STEP_GAP:-STEP_GAP]
            lane[:] = UNCOVERED
            for frame, weight in zip(window, share.tolist(), strict=True):
                lane[:, frame * cell : (frame + 1) * cell - 1] = color * (0.3 + 0.7 * weight)
            top += BAR + GAP
        top += STEP_GAP
    return picture
