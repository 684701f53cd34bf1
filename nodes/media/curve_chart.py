"""Curves over the steps of a training, or over the frames of a clip."""

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont
import torch
from torch import Tensor

SIZE = 960, 230  # pixels of a panel
LEFT, RIGHT, TOP, BOTTOM = 104, 34, 42, 34  # margins in a panel, for its title and numbers
SHARPER = 2  # lines are drawn larger and scaled down, which smooths them
BACKGROUND, GRID, TEXT = "#1e1e1e", "#3a3a3a", "#c8c8c8"
FAINT, STRONG = "#4a6378", "#7cc4ff"
Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Panel:
    """One diagram. points: (step or frame, value), joined. smoothed: drawn over them as a running mean.

    summary: stands behind the title, in place of the last value and step.
    """

    title: str
    points: Points
    smoothed: bool = False
    summary: str = ""


def curve_chart(panels: Sequence[Panel]) -> Tensor:
    """A picture (H, W, 3) in 0..1, the panels below each other; one without a finite number is left out.

    Raises ValueError if that leaves none.
    """
    shown = [panel for panel in panels if any(math.isfinite(value) for _, value in panel.points)]
    if not shown:
        raise ValueError("There is nothing to draw: the training has not made a step, or the clip has a single frame.")
    return torch.from_numpy(np.concatenate([_drawn(panel) for panel in shown])).float() / 255


def running_mean(points: Points) -> list[tuple[int, float]]:
    """An exponential mean over about a twentieth of the steps, which starts without a bias towards nothing."""
    keep = 1 - 1 / max(1.0, len(points) / 20)
    mean = weight = 0.0
    smooth = []
    for step, value in points:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + 1 - keep
        smooth.append((step, mean / weight))
    return smooth


def _drawn(panel: Panel) -> np.ndarray:
    width, height = (side * SHARPER for side in SIZE)
    image = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(image)
    points = [(step, value) for step, value in panel.points if math.isfinite(value)]
    steps, values = zip(*points, strict=True)
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    low, high = low - room, high + room

    def place(step: float, value: float) -> tuple[float, float]:
        across = (step - steps[0]) / max(1, steps[-1] - steps[0])
        up = (value - low) / (high - low)
        x = LEFT + across * (SIZE[0] - LEFT - RIGHT)
        return x * SHARPER, (SIZE[1] - BOTTOM - up * (SIZE[1] - TOP - BOTTOM)) * SHARPER

    font = ImageFont.load_default(20 * SHARPER)
    summary = panel.summary or f"{values[-1]:.4g} after {steps[-1]} steps"
    _text(draw, (LEFT, TOP / 2), f"{panel.title}: {summary}", font, "lm")
    for share in (0.0, 0.5, 1.0):
        value, step = low + room + share * (high - low - 2 * room), steps[0] + share * (steps[-1] - steps[0])
        start, end = place(steps[0], value), place(steps[-1], value)
        draw.line([(LEFT * SHARPER, start[1]), ((SIZE[0] - RIGHT) * SHARPER, end[1])], fill=GRID, width=SHARPER)
        _text(draw, (LEFT - 8, start[1] / SHARPER), f"{value:.3g}", font, "rm")
        _text(draw, (place(step, low)[0] / SHARPER, SIZE[1] - BOTTOM / 2), f"{step:.0f}", font, "mm")
    _line(draw, [place(*point) for point in points], FAINT if panel.smoothed else STRONG)
    if panel.smoothed:
        _line(draw, [place(*point) for point in running_mean(points)], STRONG)
    return np.asarray(image.resize(SIZE, Image.Resampling.LANCZOS))


def _text(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, font, anchor: str) -> None:
    draw.text((place[0] * SHARPER, place[1] * SHARPER), text, fill=TEXT, font=font, anchor=anchor)


def _line(draw: ImageDraw.ImageDraw, places: list[tuple[float, float]], color: str) -> None:
    if len(places) > 1:
        draw.line(places, fill=color, width=2 * SHARPER, joint="curve")
    for x, y in places if len(places) < 60 else ():
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=color)
