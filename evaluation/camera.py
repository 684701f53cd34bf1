"""What the camera did in a clip: the similarity that turns each frame into the next, and the move that they make."""

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
from torch import Tensor

from ..nodes.media.opencv import opencv
from ..training.camera import MOVES, CameraMove
from .flow import grey, shrunk

WHO = "Measuring the camera"
TILES, TILE = 4, 32  # along the shorter side, and at least so many pixels each; they overlap by half
SMALLEST = 64  # pixels of the shorter side; there are nine tiles then
REFINEMENTS, REWEIGHTINGS = 3, 10
FLAT = 2.0  # of 255: a tile whose grey varies less has no place that could be found again
UNSURE = 0.1  # a peak of the correlation below this stands for no shift
AGREES = 1.0  # pixels


@dataclass(frozen=True)
class CameraFit:
    """The move, from the first to the last frame, and which share of the picture's tiles follows it."""

    move: CameraMove
    agreement: float

    def __str__(self) -> str:
        """Without what cannot be told from standing still."""
        move = self.move
        zoom = move.zoom if abs(math.log(move.zoom)) > 0.01 else 1.0
        pan, tilt = (amount if abs(amount) > 0.005 else 0.0 for amount in (move.pan, move.tilt))
        seen = CameraMove(zoom, pan, tilt, move.roll if abs(move.roll) > 0.5 else 0.0)
        return f"{seen.picture_motion()} ({self.agreement:.0%} of it)"


def fit_camera(clip: Tensor) -> CameraFit | None:
    """Of a clip (F, h, w, 3): phase correlation of tiles, least squares over them, frame by frame.

    Few or small things that go their own way count little. None for a single frame, for pictures below 64 pixels, and
    where a step has too little texture to be seen.
    """
    greys = [grey(shrunk(frame)).astype(np.float32) for frame in clip]
    if len(greys) < 2 or min(greys[0].shape) < SMALLEST:
        return None
    fits = [_similarity(before, after) for before, after in zip(greys, greys[1:], strict=False)]
    if any(fit is None for fit in fits):
        return None
    height, width = greys[0].shape
    move = move_of_steps(np.array([step for step, _ in fits]), width, height)
    return CameraFit(move, float(np.mean([agreement for _, agreement in fits])))


def move_of_steps(steps: np.ndarray, width: int, height: int) -> CameraMove:
    """steps: (F - 1, 4), each to the right, down (pixels), log of scale and clockwise radians, about the middle."""
    right, down, log_scale, turn = steps.sum(0).tolist() if len(steps) else (0.0,) * 4
    return CameraMove(math.exp(log_scale), -right / width, down / height, math.degrees(turn))


def nearest_move(move: CameraMove) -> str:
    """The one of the eight that a measured move is most like, each counted in its own strongest form."""
    return max(MOVES, key=lambda name: likeness(move, name))


def likeness(move: CameraMove, name: str) -> float:
    """How much of the named move's strongest form there is in a measured one; 1: all of it."""
    (zoom, pan, tilt, roll), strong = _amounts(move), _amounts(MOVES[name][1])
    index = next(i for i, amount in enumerate(strong) if amount)
    return (zoom, pan, tilt, roll)[index] / strong[index]


def _amounts(move: CameraMove) -> tuple[float, float, float, float]:
    return math.log(move.zoom), move.pan, move.tilt, move.roll


def _similarity(before: np.ndarray, after: np.ndarray) -> tuple[Sequence[float], float] | None:
    """(right, down, log of scale, clockwise radians) that takes one grey picture to the next, and the tiles' agreement.

    Each refinement looks for what is left once the last fit is undone, which takes away the bias of small shifts.
    """
    cv2 = opencv(WHO)
    middle = (np.array(before.shape[::-1]) - 1) / 2
    matrix = np.eye(2, 3)
    for _ in range(REFINEMENTS):
        undone = cv2.warpAffine(after, matrix, before.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        places, shifts, weights = _tile_shifts(before, undone)
        if len(places) < 3:
            return None
        there = (places + shifts) @ matrix[:, :2].T + matrix[:, 2]
        matrix, off = _least_squares(places - middle, there - middle, weights)
        matrix[:, 2] += middle - matrix[:, :2] @ middle
    right, down = matrix @ (*middle, 1) - middle
    scale, turn = math.hypot(matrix[0, 0], matrix[1, 0]), math.atan2(matrix[1, 0], matrix[0, 0])
    return (right, down, math.log(scale), turn), float((off < AGREES).mean())


def _tile_shifts(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middles of tiles (N, 2), their shifts in pixels (N, 2), and how sure these are (N,)."""
    cv2 = opencv(WHO)
    size = max(TILE, min(before.shape) // TILES)
    window = cv2.createHanningWindow((size, size), cv2.CV_32F)
    found = []
    for top in range(0, before.shape[0] - size + 1, size // 2):
        for left in range(0, before.shape[1] - size + 1, size // 2):
            tiles = [np.ascontiguousarray(p[top : top + size, left : left + size]) for p in (before, after)]
            if min(tile.std() for tile in tiles) < FLAT:
                continue
            shift, sure = cv2.phaseCorrelate(*(tile - tile.mean() for tile in tiles), window)
            if sure > UNSURE:
                found.append((left + (size - 1) / 2, top + (size - 1) / 2, *shift, sure))
    table = np.array(found).reshape(-1, 5)
    return table[:, :2], table[:, 2:4], table[:, 4]


def _least_squares(here: np.ndarray, there: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The similarity (2, 3) that takes places (N, 2) there, and how far off each is; outliers lose their weight."""
    x, y = here.T
    ones, zeros = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate((np.stack((x, -y, ones, zeros), 1), np.stack((y, x, zeros, ones), 1)))
    now = weights
    for _ in range(REWEIGHTINGS):
        root = np.sqrt(np.tile(now, 2))
        a, b, right, down = np.linalg.lstsq(rows * root[:, None], there.T.reshape(-1) * root, rcond=None)[0]
        matrix = np.array([[a, -b, right], [b, a, down]])
        off = np.linalg.norm(here @ matrix[:, :2].T + matrix[:, 2] - there, axis=1)
        now = weights / (1 + (2 * off) ** 2)  # Cauchy's, at half a pixel
    return matrix, off
