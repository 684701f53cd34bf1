"""Optical flow: how much moves in a clip, and what flickers beside that.

Flow is OpenCV's DIS (Kroeger et al. 2016, arXiv 1603.03590) between grey pictures whose shorter side is at most 256
pixels, so that the size of a clip does not change what is measured.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..nodes.media.opencv import opencv

SIDE = 256
SMALLEST = 16  # pixels; the flow's patches do not fit into less
WHO = "Optical flow"


@dataclass(frozen=True, eq=False)
class Step:
    """From a frame to the next. moved: mean length of the flow in percent of the picture's shorter side.

    flicker: mean difference between the frame and the last one moved along the flow, in percent of full brightness,
    where flows there and back agree (Lai et al. 2018, arXiv 1808.00449); nan where they nowhere do.
    """

    flow: np.ndarray  # (h, w, 2), to the right and down
    moved: float
    flicker: float


def steps_of(clip: Tensor) -> Iterator[Step]:
    """A clip (F, h, w, 3) gives F - 1 of them. Raises ValueError for pictures that are too small."""
    frames = [shrunk(frame) for frame in clip]
    if min(frames[0].shape[:2]) < SMALLEST:
        height, width = clip.shape[1:3]
        raise ValueError(f"Optical flow needs pictures of {SMALLEST} pixels or more, these have {width} x {height}.")
    greys = [grey(frame) for frame in frames]
    for index in range(len(frames) - 1):
        there = optical_flow(greys[index], greys[index + 1])
        back = optical_flow(greys[index + 1], greys[index])
        moved = 100 * float(np.linalg.norm(there, axis=-1).mean()) / min(there.shape[:2])
        yield Step(there, moved, _flicker(frames[index], frames[index + 1], there, back))


def shrunk(frame: Tensor) -> np.ndarray:
    """(h, w, 3), its shorter side at most SIDE."""
    height, width = frame.shape[:2]
    share = SIDE / min(height, width)
    pixels = frame.numpy()
    if share >= 1:
        return pixels
    cv2 = opencv(WHO)
    return cv2.resize(pixels, (round(width * share), round(height * share)), interpolation=cv2.INTER_AREA)


def grey(frame: np.ndarray) -> np.ndarray:
    """Luma (Rec. 601) of colours in 0..1, as 0 to 255."""
    return np.round(frame @ np.array([0.299, 0.587, 0.114], np.float32) * 255).astype(np.uint8)


def optical_flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(h, w, 2): what is at p in the first grey picture is at p + flow in the second."""
    cv2 = opencv(WHO)
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(before, after, None)


def _flicker(before: np.ndarray, after: np.ndarray, there: np.ndarray, back: np.ndarray) -> float:
    came_from = back + _places(back.shape[:2])
    height, width = back.shape[:2]
    inside = ((came_from >= 0) & (came_from <= (width - 1, height - 1))).all(-1)
    returned = _at(there, came_from)
    lengths = (returned**2).sum(-1) + (back**2).sum(-1)
    seen = inside & (((returned + back) ** 2).sum(-1) < 0.01 * lengths + 0.5)  # as in Sundaram et al. 2010
    if not seen.any():
        return float("nan")
    return 100 * float(np.abs(after - _at(before, came_from)).mean(-1)[seen].mean())


def _places(size: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return np.stack((x, y), axis=-1)


def _at(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    cv2 = opencv(WHO)
    return cv2.remap(picture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
