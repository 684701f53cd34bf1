"""Pictures of what the parts do together: one scene in every style, and one ground under two camera moves and both."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from .claims import TWO_MOVES, TWO_STRENGTH
from .figures import Effort, unseen_scenes
from .models import Animator
from .page import save_clip
from .scenes import STYLES
from .world import World

STYLED, BARE = 5, 1  # of the unseen scenes; T1 counts how often a style loses its object


def write_strips(folder: Path, world: World, effort: Effort) -> None:
    """styles.webp and moves.webp; what stands there is kept."""
    for name, draw in (("styles", styles), ("moves", moves)):
        path = folder / f"{name}.webp"
        if not path.is_file():
            save_clip(path, _beside([world.pictures(clip) for clip in draw(world, effort)]))


def styles(world: World, effort: Effort) -> list[Tensor]:
    """The same scene, seed and motion module in each personalised style."""
    motion = world.motion_module()
    scene = unseen_scenes(STYLED + 1)[STYLED]
    return [
        Animator(world.image_model(style), world.words, motion).colours(
            replace(scene, style=style), STYLED, effort.sampling
        )
        for style in STYLES[1:]
    ]


def moves(world: World, effort: Effort) -> list[Tensor]:
    """The same ground under one MotionLoRA, another, and both."""
    base, motion = world.image_model(), world.motion_module()
    scene = unseen_scenes(BARE + 1, bare=True)[BARE]
    first, second = ((world.motion_lora(move, motion), TWO_STRENGTH) for move in TWO_MOVES)
    return [
        Animator(base, world.words, motion, loras=loras).colours(scene, BARE, effort.camera_sampling)
        for loras in ((first,), (second,), (first, second))
    ]


def _beside(clips: Sequence[Tensor], gap: int = 4) -> Tensor:
    """Clips (F, H, W, 3) as one, side by side on white."""
    space = torch.ones_like(clips[0][:, :, :gap])
    return torch.cat([part for clip in clips for part in (clip, space)][:-1], dim=2)
