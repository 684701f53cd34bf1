"""Characters that dance: people of the small world, drawn with their keypoints, for Animate Anyone to learn from.

A character is eight colours; a dance is an angle for each limb, which swings. Limbs hang on each other as in OpenPose.
F: frames
"""

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
import torch
from torch import Tensor

from ...animate_anyone.poses import BODY, BODY_POINTS, PoseFrame
from ...nodes.media.pose_drawing import draw_pose
from ...training.noise import generator_at
from .scenes import SIZE

# A character's own; wall and floor stand behind it.
COLOURS = ("hair", "skin", "shirt", "sleeves", "trousers", "shoes", "wall", "floor")
HORIZON = 100.0  # pixels from the top, where the floor begins
NOSE, NECK, RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_WRIST, LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST = range(8)
RIGHT_HIP, RIGHT_KNEE, RIGHT_ANKLE, LEFT_HIP, LEFT_KNEE, LEFT_ANKLE = range(8, 14)
RIGHT_EYE, LEFT_EYE, RIGHT_EAR, LEFT_EAR = range(14, BODY_POINTS)
# What hangs on what: child, parent, length in pixels, angle from straight down and how far it swings, in degrees.
LIMBS = (
    (RIGHT_SHOULDER, NECK, 10.0, 80.0, 6.0),
    (RIGHT_ELBOW, RIGHT_SHOULDER, 15.0, 70.0, 65.0),
    (RIGHT_WRIST, RIGHT_ELBOW, 14.0, 80.0, 80.0),
    (LEFT_SHOULDER, NECK, 10.0, -80.0, 6.0),
    (LEFT_ELBOW, LEFT_SHOULDER, 15.0, -70.0, 65.0),
    (LEFT_WRIST, LEFT_ELBOW, 14.0, -80.0, 80.0),
    (RIGHT_HIP, NECK, 30.0, 13.0, 3.0),
    (RIGHT_KNEE, RIGHT_HIP, 18.0, 14.0, 22.0),
    (RIGHT_ANKLE, RIGHT_KNEE, 18.0, 4.0, 18.0),
    (LEFT_HIP, NECK, 30.0, -13.0, 3.0),
    (LEFT_KNEE, LEFT_HIP, 18.0, -14.0, 22.0),
    (LEFT_ANKLE, LEFT_KNEE, 18.0, -4.0, 18.0),
    (NOSE, NECK, 14.0, 180.0, 12.0),
)
FACE = ((RIGHT_EYE, -4.0, -3.0), (LEFT_EYE, 4.0, -3.0), (RIGHT_EAR, -9.0, -1.0), (LEFT_EAR, 9.0, -1.0))  # off the nose
# From back to front: a colour, between which joints, how thick (radius in pixels).
PARTS = (
    ("trousers", RIGHT_HIP, RIGHT_KNEE, 6.5),
    ("trousers", LEFT_HIP, LEFT_KNEE, 6.5),
    ("trousers", RIGHT_KNEE, RIGHT_ANKLE, 5.5),
    ("trousers", LEFT_KNEE, LEFT_ANKLE, 5.5),
    ("shoes", RIGHT_ANKLE, RIGHT_ANKLE, 6.0),
    ("shoes", LEFT_ANKLE, LEFT_ANKLE, 6.0),
    ("shirt", RIGHT_SHOULDER, RIGHT_HIP, 9.0),
    ("shirt", LEFT_SHOULDER, LEFT_HIP, 9.0),
    ("shirt", NECK, NECK, 7.0),
    ("sleeves", RIGHT_SHOULDER, RIGHT_ELBOW, 5.5),
    ("sleeves", LEFT_SHOULDER, LEFT_ELBOW, 5.5),
    ("skin", RIGHT_ELBOW, RIGHT_WRIST, 5.0),
    ("skin", LEFT_ELBOW, LEFT_WRIST, 5.0),
    ("hair", NOSE, NOSE, 12.5),
    ("skin", NOSE, NOSE, 9.5),
)
FACE_LOW = 4.0  # pixels that the face stands below the middle of the head, so that hair is above it


@dataclass(frozen=True)
class Character:
    """colours: (8, 3) in 0..1, as `COLOURS` names them."""

    colours: Tensor


@dataclass(frozen=True)
class Dance:
    """How far and when each limb swings: (13,) each, in radians and cycles of the clip. scale: of all lengths.

    place: of the neck, (x, y) in pixels. sway: how far that goes.
    """

    swing: Tensor
    phase: Tensor
    cycles: Tensor
    scale: float
    place: Tensor
    sway: Tensor

    def keypoints(self, moment: float) -> np.ndarray:
        """(18, 3): x and y in pixels, and 1. moment: from 0, where the clip begins, to 1."""
        turns = torch.sin(2 * math.pi * self.cycles * moment + self.phase)
        points = torch.ones(BODY_POINTS, 3)
        points[NECK, :2] = self.place + self.sway * math.sin(2 * math.pi * moment)
        for (child, parent, length, angle, _), swing, turn in zip(LIMBS, self.swing, turns, strict=True):
            down = math.radians(angle) + float(swing * turn)
            # the picture's left is the figure's right
            step = torch.tensor((-math.sin(down), math.cos(down)))
            points[child, :2] = points[parent, :2] + self.scale * length * step
        for joint, x, y in FACE:
            points[joint, :2] = points[NOSE, :2] + self.scale * torch.tensor((x, y))
        return points.double().numpy()

    def frames(self, num_frames: int) -> list[np.ndarray]:
        """The keypoints of a clip that shows the whole dance."""
        return [self.keypoints(frame / num_frames) for frame in range(num_frames)]


def draw_character(seed: int, number: int) -> Character:
    """The character of a number, the same whenever it is asked for: strong colours before dull ones."""
    hue, saturation, value = torch.rand(3, len(COLOURS), generator=generator_at(seed, "character", number))
    saturation, value = 0.45 + 0.55 * saturation, 0.35 + 0.65 * value
    for part in (COLOURS.index("wall"), COLOURS.index("floor")):
        saturation[part] *= 0.5
        value[part] = 0.6 * value[part] - 0.1
    skin = COLOURS.index("skin")
    hue[skin] = 0.05 + 0.04 * hue[skin]
    saturation[skin] *= 0.7
    return Character(_rgb(hue, saturation, value))


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """(N,) each, in 0..1, to (N, 3)."""
    steps = (torch.tensor((5.0, 3.0, 1.0)) + 6 * hue[:, None]) % 6
    strength = torch.minimum(steps, 4 - steps).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * strength)


def draw_dance(seed: int, number: int) -> Dance:
    generator = generator_at(seed, "dance", number)
    swing, phase, cycles = torch.rand(3, len(LIMBS), generator=generator)
    strongest = torch.tensor([math.radians(limb[4]) for limb in LIMBS])
    scale, x, y, sway_x, sway_y = torch.rand(5, generator=generator).tolist()
    return Dance(
        swing=strongest * (0.3 + 0.7 * swing),
        phase=2 * math.pi * phase,
        cycles=1 + (cycles > 0.5).float(),
        scale=0.85 + 0.2 * scale,
        place=torch.tensor((52 + 24 * x, 42 + 6 * y)),
        sway=torch.tensor((16 * sway_x, 4 * sway_y)),
    )


STANDING = Dance(*torch.zeros(2, len(LIMBS)), torch.ones(len(LIMBS)), 1.0, torch.tensor((64.0, 44.0)), torch.zeros(2))


def skeletons(keypoints: Sequence[np.ndarray]) -> Tensor:
    """As the pack draws poses, (F, H, W, 3) in 0..1."""
    drawn = [draw_pose(PoseFrame(SIZE, SIZE, ({BODY: points},))) for points in keypoints]
    return torch.from_numpy(np.stack(drawn)).float() / 255


def portrait(character: Character) -> Tensor:
    """The character standing, as a reference: (1, H, W, 3) in 0..1."""
    return paint(character, STANDING.frames(1))[0]


def paint(character: Character, keypoints: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Pictures (F, H, W, 3) in 0..1, and how much of each pixel is whose colour: (F, 8, H, W)."""
    joints = torch.from_numpy(np.stack(keypoints)).float()
    rows = torch.arange(SIZE).float()
    places = torch.stack(torch.meshgrid(rows, rows, indexing="xy"), dim=-1)
    floor = (places[..., 1] - HORIZON + 0.5).clamp(0, 1)
    shares = torch.zeros(len(joints), len(COLOURS), SIZE, SIZE)
    shares[:, COLOURS.index("wall")], shares[:, COLOURS.index("floor")] = 1 - floor, floor
    for name, first, second, radius in PARTS:
        low = torch.tensor((0.0, FACE_LOW if (name, first) == ("skin", NOSE) else 0.0))
        covered = _capsule(places, joints[:, first, :2] + low, joints[:, second, :2] + low, radius)[:, None]
        shares = shares * (1 - covered)
        shares[:, COLOURS.index(name)] += covered[:, 0]
    return torch.einsum("fchw,cd->fhwd", shares, character.colours), shares


def _capsule(places: Tensor, first: Tensor, second: Tensor, radius: float) -> Tensor:
    """How much of each pixel is nearer than `radius` to the line between two points (F, 2): (F, H, W)."""
    first, way = first[:, None, None], (second - first)[:, None, None]
    off = places - first
    along = ((off * way).sum(-1) / (way**2).sum(-1).clamp(min=1e-6)).clamp(0, 1)
    return (radius + 0.5 - (off - along[..., None] * way).norm(dim=-1)).clamp(0, 1)
