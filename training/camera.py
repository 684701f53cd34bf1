"""Camera moves over a clip, as the paper makes its MotionLoRA data (Guo et al. 2023, arXiv 2307.04725, section 4.3).

A move is one small similarity M per frame, in pixels of the output: what is at p in one frame is at M p in the next.
It is the same for every pair of frames, so that speed is constant to the eye (a zoom is geometric). Frame i shows at p
what the first frame would show at M^-i p, and the first frame's view is as large as it can be while no frame leaves
the source. Each frame is sampled once, at exact positions: whole-pixel crops shake, and the shaking would be learnt.
"""

from dataclasses import dataclass
import math

import numpy as np
import torch
from torch import Tensor, nn

MARGIN = 0.5  # pixels that a view stays away from the source's outermost centres, so that no rounding reaches past them


@dataclass(frozen=True)
class CameraMove:
    """What the camera does from the first to the last frame.

    zoom: by how much the picture grows; below 1 it shrinks.
    pan: by how many picture widths the camera goes to the right, so that the picture moves to the left.
    tilt: by how many picture heights the camera goes up, so that the picture moves down.
    roll: by how many degrees the picture turns clockwise.
    """

    zoom: float = 1.0
    pan: float = 0.0
    tilt: float = 0.0
    roll: float = 0.0

    def __post_init__(self):
        if not self.zoom > 0:
            raise ValueError(f"a zoom of {self.zoom:g} is impossible: above 1 the picture grows, below 1 it shrinks.")

    def at_speed(self, speed: float) -> "CameraMove":
        """The same move `speed` times as far in the same number of frames; negative: backwards."""
        return CameraMove(self.zoom**speed, self.pan * speed, self.tilt * speed, self.roll * speed)

    @property
    def mirrors_unlike(self) -> bool:
        """Mirrored left to right it would be another move, so its clips must not be flipped."""
        return self.pan != 0 or self.roll != 0

    def picture_motion(self) -> str:
        """What one sees, for the metadata of files: names of camera moves are ambiguous."""
        words = []
        if self.zoom != 1:
            words.append(f"{'grows' if self.zoom > 1 else 'shrinks'} {max(self.zoom, 1 / self.zoom):.3g} times")
        for amount, one, other, unit in (
            (self.pan, "moves left", "moves right", "widths"),
            (self.tilt, "moves down", "moves up", "heights"),
            (self.roll, "turns clockwise", "turns anticlockwise", "degrees"),
        ):
            if amount:
                words.append(f"{one if amount > 0 else other} {abs(amount):.3g} {unit}")
        return "picture " + (", ".join(words) or "stays")

    def step(self, num_frames: int, width: int, height: int) -> np.ndarray:
        """M, (3, 3), about the middle of an output of this size, on pixel centres (x to the right, y down)."""
        share = 1.0 / max(1, num_frames - 1)
        angle, scale = math.radians(self.roll * share), self.zoom**share
        turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        shift = np.array([-self.pan * width, self.tilt * height]) * share
        matrix = np.eye(3)
        matrix[:2, :2] = turn
        matrix[:2, 2] = middle - turn @ middle + shift
        return matrix


# The eight moves of AnimateDiff's MotionLoRAs in their gentlest and strongest form; a clip gets one in between.
# Pans and tilts make 2 to 6 pixels per frame in 16 frames of 256 pixels.
MOVES = {
    "ZoomIn": (CameraMove(zoom=1.3), CameraMove(zoom=2.0)),
    "ZoomOut": (CameraMove(zoom=1 / 1.3), CameraMove(zoom=1 / 2.0)),
    "PanLeft": (CameraMove(pan=-0.12), CameraMove(pan=-0.35)),
    "PanRight": (CameraMove(pan=0.12), CameraMove(pan=0.35)),
    "TiltUp": (CameraMove(tilt=0.12), CameraMove(tilt=0.35)),
    "TiltDown": (CameraMove(tilt=-0.12), CameraMove(tilt=-0.35)),
    "RollingClockwise": (CameraMove(roll=20.0), CameraMove(roll=60.0)),
    "RollingAnticlockwise": (CameraMove(roll=-20.0), CameraMove(roll=-60.0)),
}


def move_between(gentle: CameraMove, strong: CameraMove, share: float) -> CameraMove:
    """share 0: the gentle one, 1: the strong one; zooms in between are geometric."""

    def mixed(a: float, b: float) -> float:
        return a + (b - a) * share

    zoom = math.exp(mixed(math.log(gentle.zoom), math.log(strong.zoom)))
    return CameraMove(zoom, *(mixed(getattr(gentle, n), getattr(strong, n)) for n in ("pan", "tilt", "roll")))


def views(move: CameraMove, num_frames: int, source: tuple[int, int], output: tuple[int, int]) -> list[np.ndarray]:
    """For each frame the map (3, 3) from output to source pixel centres; sizes are (width, height).

    Raises ValueError if the source is too small for a picture without borders.
    """
    width, height = output
    back = np.linalg.inv(move.step(num_frames, width, height))
    steps = [np.linalg.matrix_power(back, frame) for frame in range(num_frames)]
    corners = np.array([[x, y, 1.0] for x in (0, width - 1) for y in (0, height - 1)]).T
    reach = np.concatenate([(step @ corners)[:2] for step in steps], axis=1)
    low, high = reach.min(axis=1), reach.max(axis=1)
    room = np.array(source) - 1 - 2 * MARGIN
    if (room <= 0).any():
        raise ValueError(
            f"a picture of {source[0]} x {source[1]} pixels is too small to cut a clip out of. Lower width and height."
        )
    scale = (room / np.maximum(high - low, 1e-9)).min()
    first = np.diag([scale, scale, 1.0])
    first[:2, 2] = (np.array(source) - 1) / 2 - scale * (low + high) / 2
    return [first @ step for step in steps]


def render(frames: Tensor, move: CameraMove, output: tuple[int, int]) -> Tensor:
    """Frames (F, H, W, 3) in 0..1 as the moving camera shows them, (F, height, width, 3); output: (width, height).

    The plain `CameraMove()` gives the largest centred cut-out. What is made smaller is blurred first, by as much as
    each frame needs.
    """
    num_frames, height, width = frames.shape[:3]
    shown = []
    for frame, view in zip(frames, views(move, num_frames, (width, height), output), strict=True):
        picture = _blurred(frame.permute(2, 0, 1)[None].float(), math.sqrt(abs(np.linalg.det(view[:2, :2]))))
        shown.append(_sampled(picture, view, output)[0].permute(1, 2, 0).clamp(0, 1))
    return torch.stack(shown)


def _sampled(picture: Tensor, view: np.ndarray, output: tuple[int, int]) -> Tensor:
    """picture: (1, 3, H, W); positions are computed in float64.

    Bilinear, which shakes least: against the true picture its frames are off by 0.0003 pixels (root mean square),
    bicubic ones by 0.004, OpenCV's warpAffine by 0.0005 to 0.004 (4.10, which rounds positions).
    """
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in reversed(output)), indexing="ij")
    positions = torch.stack((x, y, torch.ones_like(x)), dim=-1) @ torch.from_numpy(view).T
    size = torch.tensor([picture.shape[3], picture.shape[2]])
    grid = (2 * positions[..., :2] + 1) / size - 1  # -1..1 from edge to edge, as grid_sample counts
    return nn.functional.grid_sample(picture, grid[None].float(), mode="bilinear", align_corners=False)


def _blurred(picture: Tensor, minified: float) -> Tensor:
    """A Gaussian that takes away what `minified` source pixels per output pixel cannot show."""
    if minified <= 1:
        return picture
    sigma = 0.5 * math.sqrt(minified**2 - 1)
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).repeat(picture.shape[1], 1, 1, 1)
    for padding, weight in (((radius, radius, 0, 0), kernel), ((0, 0, radius, radius), kernel.transpose(2, 3))):
        picture = nn.functional.pad(picture, padding, mode="replicate")
        picture = nn.functional.conv2d(picture, weight, groups=picture.shape[1])
    return picture
