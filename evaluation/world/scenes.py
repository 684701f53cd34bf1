"""What a scene is: an object on its way over a soft ground, and the words for it.

A motion module reads no text, so motion has to follow from what a picture shows: comets have their tail behind them,
fish swim ahead. Camera moves are shown over bare ground, where nothing else moves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
import math

import torch

from ...training.camera import MOVES, CameraMove, move_between
from ...training.noise import generator_at

SIZE = 128  # pixels, both ways
COLOURS = {
    "red": (0.95, 0.16, 0.14),
    "yellow": (0.98, 0.86, 0.12),
    "green": (0.22, 0.90, 0.24),
    "cyan": (0.12, 0.84, 0.95),
    "magenta": (0.93, 0.18, 0.86),
}
DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}  # y goes down
KINDS = ("comet", "fish")
GROUNDS = {  # dark and dull, so that objects stand out: the darkest and the lightest place
    "night": ((0.05, 0.06, 0.15), (0.20, 0.23, 0.36)),
    "forest": ((0.06, 0.12, 0.09), (0.24, 0.34, 0.24)),
    "desert": ((0.19, 0.13, 0.08), (0.42, 0.34, 0.26)),
    "dusk": ((0.13, 0.07, 0.15), (0.36, 0.26, 0.37)),
}
PLAIN = "plain"
STYLES = (PLAIN, "cartoon", "neon", "pencil")
SPEEDS = (5.0, 8.0)  # pixels per frame, in clips of 8 frames; longer clips go as far
SPEED_FRAMES = 8
MARGIN = 26.0  # pixels that an object's middle keeps from the borders


@dataclass(frozen=True)
class Scene:
    """kind "": no object, bare ground. start, speed: of its middle, in pixels and pixels per frame.

    radius: in pixels. ground_seed: of the ground's hills.
    """

    kind: str
    colour: str
    direction: str
    ground: str
    ground_seed: int
    style: str = PLAIN
    start: tuple[float, float] = (SIZE / 2, SIZE / 2)
    speed: float = 0.0
    radius: float = 14.0
    move: CameraMove = CameraMove()

    @property
    def heading(self) -> tuple[float, float]:
        return DIRECTIONS[self.direction]

    @property
    def caption(self) -> str:
        what = f"a {self.colour} {self.kind} moving {self.direction} over {self.ground}" if self.kind else self.ground
        return what if self.style == PLAIN else f"{self.style}, {what}"

    def middle(self, frame: int) -> tuple[float, float]:
        """Of the object in a frame, in pixels of the first frame's picture."""
        return tuple(start + frame * self.speed * step for start, step in zip(self.start, self.heading, strict=True))


@dataclass(frozen=True)
class Arc(Scene):
    """An object on its way around a point, as in no scene that is learnt from. turn: clockwise, radians per frame."""

    centre: tuple[float, float] = (SIZE / 2, SIZE / 2)
    turn: float = 0.2

    def middle(self, frame: int) -> tuple[float, float]:
        x, y = (start - middle for start, middle in zip(self.start, self.centre, strict=True))
        cosine, sine = math.cos(frame * self.turn), math.sin(frame * self.turn)
        return self.centre[0] + cosine * x - sine * y, self.centre[1] + sine * x + cosine * y


def draw_arc(seed: int, number: int, num_frames: int) -> Arc:
    """The scene of a number with its object going a half circle, either way."""
    scene = draw_scene(seed, number)
    generator = generator_at(seed, "arc", number)
    radius, angle = SIZE / 2 - MARGIN - 4.0, _between(0, 2 * math.pi, generator)
    way = 1 if torch.rand((), generator=generator) < 0.5 else -1
    start = tuple(SIZE / 2 + radius * step for step in (math.cos(angle), math.sin(angle)))
    return Arc(**{**vars(scene), "start": start}, turn=way * math.pi / max(1, num_frames - 1))


def draw_scene(
    seed: int, number: int, num_frames: int = 1, bare: float = 0.0, styles: Sequence[str] = (PLAIN,)
) -> Scene:
    """The scene of a number, the same whenever it is asked for.

    bare: the share of scenes of bare ground, which the camera of a clip moves over.
    """
    generator = generator_at(seed, "scene", number)
    ground, style = _one(GROUNDS, generator), _one(styles, generator)
    ground_seed = int(_between(0, 2**31, generator))
    if torch.rand((), generator=generator) < bare:
        move = move_between(*MOVES[_one(MOVES, generator)], _between(0, 1, generator))
        move = move if num_frames > 1 else CameraMove()
        return Scene("", "", "left", ground, ground_seed, style, move=move)
    scene = Scene(
        _one(KINDS, generator),
        _one(COLOURS, generator),
        _one(DIRECTIONS, generator),
        ground,
        ground_seed,
        style,
        radius=_between(13.0, 16.0, generator),
        speed=_between(*SPEEDS, generator) * SPEED_FRAMES / max(SPEED_FRAMES, num_frames),
    )
    return replace(scene, start=_start(scene, num_frames, generator))


def _start(scene: Scene, num_frames: int, generator: torch.Generator) -> tuple[float, float]:
    """Somewhere, so that the object stays in the picture for the whole clip."""
    start = []
    for step in scene.heading:
        way = step * scene.speed * (num_frames - 1)
        start.append(_between(MARGIN - min(0.0, way), SIZE - MARGIN - max(0.0, way), generator))
    return tuple(start)


def _one(names: Sequence[str], generator: torch.Generator) -> str:
    return list(names)[int(torch.randint(len(names), (), generator=generator))]


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()

