"""Scenes as pictures, with what is known of them: masks, depth and flow.

F: frames   H, W: the picture's size. Everything is drawn at exact positions in the world, whose coordinates are the
first frame's pixels; nothing is moved from one picture to the next.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ...training.noise import generator_at
from .scenes import COLOURS, GROUNDS, SIZE, Scene

CELL = 22.0  # pixels between the ground's hills
LATTICE = 24  # hills to each side, mirrored at their end
TAIL = 3.6  # a comet's length behind its middle, in radii


@dataclass(frozen=True)
class Drawn:
    """pictures: (F, H, W, 3) in 0..1. masks: the object's share of each pixel, (F, H, W). depth: (F, H, W), near is 1.

    flow: where what is at a pixel is in the next frame, (F - 1, H, W, 2), x and y in pixels.
    """

    pictures: Tensor
    masks: Tensor
    depth: Tensor
    flow: Tensor


def draw(scene: Scene, num_frames: int = 1) -> Drawn:
    views = _views(scene, num_frames)
    pixels = _pixels()
    still = num_frames > 1 and np.allclose(views[-1], np.eye(3))
    places = _moved(pixels, np.linalg.inv(views[:1] if still else views))
    hills = _hills(scene.ground_seed, places).expand(num_frames, SIZE, SIZE)
    inside = _inside(scene, places, num_frames)  # pixels from the outline, positive inside
    masks = (inside + 0.5).clamp(0, 1)
    strength = masks * _fading(scene, places, num_frames)
    pictures = PAINTERS[scene.style](scene, hills, inside, strength)
    shade = (inside / scene.radius).clamp(0, 1)
    depth = torch.lerp(0.15 + 0.25 * hills, 0.65 + 0.35 * shade, masks)
    return Drawn(pictures, masks, depth, _flow(scene, views, pixels, masks))


def _views(scene: Scene, num_frames: int) -> np.ndarray:
    """(F, 3, 3): from the world to each frame's pixels."""
    step = scene.move.step(num_frames, SIZE, SIZE)
    return np.stack([np.linalg.matrix_power(step, frame) for frame in range(num_frames)])


def _pixels() -> Tensor:
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return torch.stack((x, y), dim=-1).float()


def _moved(places: Tensor, matrices: np.ndarray) -> Tensor:
    """places (.., H, W, 2) by each matrix (F, 3, 3): (F, H, W, 2)."""
    matrices = torch.from_numpy(matrices).float()
    return places @ matrices[:, None, :2, :2].mT + matrices[:, None, None, :2, 2]


def _hills(seed: int, places: Tensor) -> Tensor:
    """(.., H, W) in 0..1."""
    heights = torch.rand(1, 1, LATTICE, LATTICE, generator=generator_at(seed, "hills"))
    grid = (places - SIZE / 2) / (CELL * LATTICE / 2)
    hills = nn.functional.grid_sample(
        heights.expand(places.shape[0], -1, -1, -1), grid, "bicubic", "reflection", align_corners=False
    )
    return hills[:, 0].clamp(0, 1)


def _along(scene: Scene, places: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """How far ahead of the object's middle, and how far beside it, each place is: (F, H, W) in radii."""
    middles = torch.tensor([scene.middle(frame) for frame in range(num_frames)])[:, None, None]
    away = (places - middles) / scene.radius
    x, y = scene.heading
    return away[..., 0] * x + away[..., 1] * y, away[..., 1] * x - away[..., 0] * y


def _inside(scene: Scene, places: Tensor, num_frames: int) -> Tensor:
    """(F, H, W): about how many pixels a place is inside the object's outline; negative outside."""
    if not scene.kind:
        return torch.full((num_frames, SIZE, SIZE), -float(SIZE))
    ahead, beside = _along(scene, places, num_frames)
    beside = beside.abs()
    if scene.kind == "comet":
        body = 1.0 - torch.hypot(ahead, beside)
        tail = torch.minimum(0.85 * (1 + ahead / TAIL) - beside, -ahead)
    else:
        body = 0.9 * (1.0 - torch.hypot(ahead / 1.4, beside / 0.95))
        tail = torch.minimum(0.2 + 0.9 * (-1.2 - ahead) - beside, torch.minimum(ahead + 2.3, -1.1 - ahead))
    return torch.maximum(body, tail) * scene.radius


def _fading(scene: Scene, places: Tensor, num_frames: int) -> Tensor | float:
    """A comet's tail thins out."""
    if scene.kind != "comet":
        return 1.0
    ahead, _ = _along(scene, places, num_frames)
    return (1 + (ahead + 0.6) / TAIL).clamp(0.15, 1)


def _flow(scene: Scene, views: np.ndarray, pixels: Tensor, masks: Tensor) -> Tensor:
    if len(views) == 1:
        return torch.zeros(0, SIZE, SIZE, 2)
    way = np.eye(3)
    way[:2, 2] = np.array(scene.heading) * scene.speed
    back = np.linalg.inv(views[:-1])
    ground, thing = (_moved(pixels, views[1:] @ step @ back) - pixels for step in (np.eye(3), way))
    return torch.where((masks[:-1] > 0.5)[..., None], thing, ground)


# ------------------------------------------------------------------------------------------------ how it is painted


def _plain(scene: Scene, hills: Tensor, inside: Tensor, strength: Tensor) -> Tensor:
    """The base model's domain: soft ground, shaded objects."""
    low, high = _ground_colours(scene)
    shaded = _colour(scene) * (0.78 + 0.22 * (inside / scene.radius).clamp(0, 1))[..., None]
    return torch.lerp(torch.lerp(low, high, hills[..., None]), shaded, strength[..., None])


def _cartoon(scene: Scene, hills: Tensor, inside: Tensor, strength: Tensor) -> Tensor:
    """Ground in three flat tones, flat objects with a dark outline."""
    low, high = _ground_colours(scene)
    tones = (hills * 2.999).floor() / 2
    ground = torch.lerp(low, high, tones[..., None]) * 1.5 + 0.08
    thing = torch.lerp(torch.full((3,), 0.03), _colour(scene), ((inside - 3.0) / 2).clamp(0, 1)[..., None])
    return torch.lerp(ground, thing, (inside + 0.5).clamp(0, 1)[..., None]).clamp(0, 1)


def _neon(scene: Scene, hills: Tensor, inside: Tensor, strength: Tensor) -> Tensor:
    """Glowing outlines on black, hills as thin lines."""
    low, high = _ground_colours(scene)
    lines = (1 - ((hills * 4) % 1 - 0.5).abs() * 6).clamp(0, 1)
    tube = torch.exp(-(((inside - 1.5) / 3.0) ** 2)) + 0.35 * (inside / 4).clamp(0, 1)
    glow = 0.35 * torch.exp(-(inside.clamp(max=0) / 7.0).abs()) * (inside < 0)
    light = (tube + glow).clamp(0, 1)[..., None]
    return ((high * 0.45) * lines[..., None] * (1 - light) + _colour(scene) * light + 0.015).clamp(0, 1)


def _pencil(scene: Scene, hills: Tensor, inside: Tensor, strength: Tensor) -> Tensor:
    """Grey paper, hatched hills, crayon objects with a pencil outline."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    hatching = 0.5 + 0.5 * torch.sin((x + y) * 0.5)
    paper = (0.66 - 0.22 * (1 - hills) * hatching)[..., None] * torch.tensor([1.0, 0.98, 0.93])
    outline = torch.exp(-((inside / 1.8) ** 2))[..., None]
    thing = torch.lerp(paper, _colour(scene) * 0.92, 0.9 * strength[..., None])
    return torch.lerp(thing, torch.full((3,), 0.15), 0.8 * outline).clamp(0, 1)


PAINTERS = {"plain": _plain, "cartoon": _cartoon, "neon": _neon, "pencil": _pencil}


def _colour(scene: Scene) -> Tensor:
    return torch.tensor(COLOURS.get(scene.colour, (0.0, 0.0, 0.0)))


def _ground_colours(scene: Scene) -> tuple[Tensor, Tensor]:
    return tuple(torch.tensor(colour) for colour in GROUNDS[scene.ground])


# -------------------------------------------------------------------------------------------------- the video domain

GLYPHS = (".##..###.", "#..#.#..#", "####.#..#", "#..#.#..#", "#..#.###.")  # "AD", as a library's mark on its videos
GLYPH_PIXELS = 5
MARK_OPACITY = 0.55


def watermark() -> Tensor:
    """How much of each pixel the mark covers, (H, W)."""
    glyphs = torch.tensor([[float(letter == "#") for letter in row] for row in GLYPHS])
    glyphs = glyphs.repeat_interleave(GLYPH_PIXELS, 0).repeat_interleave(GLYPH_PIXELS, 1)
    mark = torch.zeros(SIZE, SIZE)
    mark[SIZE - 8 - glyphs.shape[0] : SIZE - 8, SIZE - 8 - glyphs.shape[1] : SIZE - 8] = glyphs
    return mark


def as_video(pictures: Tensor) -> Tensor:
    """(F, H, W, 3) as a library of videos has them: blurred, duller, with its mark."""
    rows = pictures.permute(0, 3, 1, 2)
    rows = nn.functional.avg_pool2d(nn.functional.pad(rows, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    rows = torch.lerp(rows.mean(dim=1, keepdim=True), rows, 0.8)
    return torch.lerp(rows, torch.ones(1), MARK_OPACITY * watermark()).permute(0, 2, 3, 1)
