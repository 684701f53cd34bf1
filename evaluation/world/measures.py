"""What came out of a clip, measured by what the world is: where the object is, how the camera went, the video's mark.

Clips are colours (F, h, w, 3) in 0..1: pictures, or the means of 8 x 8 pixels that latents hold (autoencoder.colours);
lengths are in latent pixels, eighths of the picture's.
"""

from dataclasses import dataclass
import math

import numpy as np
import torch
from torch import Tensor, nn

from ...training.camera import CameraMove
from ..camera import move_of_steps
from .autoencoder import FACTOR
from .drawing import watermark
from .scenes import COLOURS, DIRECTIONS, SIZE

LATENT = SIZE // FACTOR
VIVID = 0.3  # grounds stay below this difference between a colour's strongest and weakest part, objects are above
STILL = 0.15  # latent pixels per frame; slower is no motion


@dataclass(frozen=True)
class Seen:
    """What is seen of the object in a clip.

    velocity: of the straight line through its positions, latent pixels per frame. jitter: the positions' distance from
    that line, root mean square. colour: the nearest of the world's; "" if there is no object in some frame.
    """

    velocity: tuple[float, float]
    jitter: float
    colour: str

    @property
    def speed(self) -> float:
        return math.hypot(*self.velocity)

    @property
    def direction(self) -> str:
        """"" for one that stays."""
        if self.speed < STILL:
            return ""
        return max(DIRECTIONS, key=lambda name: np.dot(DIRECTIONS[name], self.velocity))


def see_object(clip: Tensor) -> Seen:
    means = _resized(clip, LATENT)
    vivid, places = _vivid(means), object_places(clip)
    if np.isnan(places).any():
        return Seen((0.0, 0.0), math.inf, "")
    frames = np.arange(len(places))
    line = np.polyfit(frames, places, 1) if len(places) > 1 else np.stack((np.zeros(2), places[0]))
    off = places - (frames[:, None] * line[0] + line[1])
    colour = (means * vivid[..., None]).sum((0, 1, 2)) / vivid.sum()
    return Seen(tuple(line[0]), float(np.sqrt((off**2).sum(1).mean())), _nearest(colour))


def object_places(clip: Tensor) -> np.ndarray:
    """(F, 2): x and y of the object's middle, in latent pixels; NaN in frames without one."""
    vivid = _vivid(_resized(clip, LATENT))
    sizes = vivid.sum((1, 2))
    y, x = torch.meshgrid(torch.arange(LATENT), torch.arange(LATENT), indexing="ij")
    places = torch.stack([(vivid * axis).sum((1, 2)) / sizes for axis in (x, y)], dim=1).double()
    return torch.where((sizes < 0.2)[:, None], torch.nan, places).numpy()


def _vivid(means: Tensor) -> Tensor:
    return (means.amax(-1) - means.amin(-1) - VIVID).clamp(min=0)


def _nearest(colour: Tensor) -> str:
    """By hue alone: how bright it is depends on the style."""

    def hue(rgb: Tensor) -> Tensor:
        return nn.functional.normalize(rgb - rgb.min(), dim=0)

    return max(COLOURS, key=lambda name: float(hue(colour) @ hue(torch.tensor(COLOURS[name]))))


def change(clip: Tensor) -> float:
    """Mean difference between a frame and the next, in percent of full brightness; 0: a frozen clip, or one frame."""
    return 100 * float(clip.diff(dim=0).abs().mean()) if len(clip) > 1 else 0.0


def mark_correlation(clip: Tensor) -> float:
    """Of the corner of the video domain's mark with the mark itself, -1..1, over the mean of all frames."""
    mark = nn.functional.avg_pool2d(watermark()[None, None], FACTOR)[0, 0]
    rows, columns = (slice(int(where.min()) - 1, None) for where in mark.nonzero().T)
    corner = _resized(clip, LATENT).mean((0, 3))[rows, columns]
    both = torch.stack((corner.flatten(), mark[rows, columns].flatten()))
    return float(torch.corrcoef(both)[0, 1].nan_to_num())


# ---------------------------------------------------------------------------------------------------------- the camera

FLOW_SIZE = 32  # pixels, both ways, that the camera's way is measured at
ITERATIONS = 8


def camera_move(clip: Tensor) -> CameraMove:
    """What the camera did from the first to the last frame, by the similarities that turn each frame into the next.

    Gauss-Newton on all pixels at once (Lucas and Kanade 1981); for clips of bare ground.
    """
    frames = _resized(clip, FLOW_SIZE).mean(-1).double()
    steps = np.array([_similarity(before, after) for before, after in zip(frames, frames[1:], strict=False)])
    return move_of_steps(steps, FLOW_SIZE, FLOW_SIZE)


def _similarity(before: Tensor, after: Tensor) -> np.ndarray:
    """(right, down, log of scale, clockwise radians) that takes `before`, (h, w), to `after`, about the middle."""
    size = before.shape[0]
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    found = torch.zeros(4, dtype=torch.float64)
    for _ in range(ITERATIONS):
        right, down, log_scale, turn = found
        scale, cosine, sine = log_scale.exp(), turn.cos(), turn.sin()
        there = torch.stack((scale * (cosine * x - sine * y) + right, scale * (sine * x + cosine * y) + down), dim=-1)
        now = nn.functional.grid_sample(after[None, None], (2 * there / size)[None], align_corners=False)[0, 0]
        inside = (there.abs().amax(-1) < size / 2 - 1) & (torch.maximum(x.abs(), y.abs()) < size / 2 - 1)
        dy, dx = torch.gradient(now)
        columns = torch.stack((dx, dy, dx * x + dy * y, dy * x - dx * y), dim=-1)[inside]
        change = torch.linalg.lstsq(columns, (before - now)[inside][:, None]).solution[:, 0]
        found = (found + change).clamp(-size / 4, size / 4)
    return found.numpy()


def _resized(clip: Tensor, size: int) -> Tensor:
    """(F, h, w, 3) to (F, size, size, 3)."""
    if clip.shape[1] == size:
        return clip.float()
    mode = {"mode": "area"} if clip.shape[1] > size else {"mode": "bicubic", "align_corners": False}
    return nn.functional.interpolate(clip.float().permute(0, 3, 1, 2), (size, size), **mode).permute(0, 2, 3, 1)
