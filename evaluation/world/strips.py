"""Pictures of what the parts do together: a scene in every style, a ground under two camera moves, a dance by three."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from .characters import draw_character, draw_dance, portrait, skeletons
from .claims import TWO_MOVES, TWO_STRENGTH
from .copying import referred
from .dancing import danced
from .figures import Effort, unseen_scenes
from .learning import NUM_SCENES
from .models import Animator
from .page import save_clip
from .scenes import STYLES
from .world import World

STYLED, BARE = 5, 1  # of the unseen scenes; T1 counts how often a style loses its object
DANCE, DANCERS = 2 * NUM_SCENES + 2, range(2 * NUM_SCENES + 1, 2 * NUM_SCENES + 4)


def write_strips(folder: Path, world: World, effort: Effort) -> None:
    """styles.webp, moves.webp and dancers.webp; what stands there is kept."""
    for name, draw in (("styles", styles), ("moves", moves), ("dancers", dancers)):
        path = folder / f"{name}.webp"
        if not path.is_file():
            save_clip(path, _beside(draw(world, effort)))


def styles(world: World, effort: Effort) -> list[Tensor]:
    """The same scene, seed and motion module in each personalised style."""
    motion = world.motion_module()
    scene = unseen_scenes(STYLED + 1)[STYLED]
    clips = []
    for style in STYLES[1:]:
        animator = Animator(world.image_model(style), world.words, motion)
        clips.append(animator.colours(replace(scene, style=style), STYLED, effort.sampling))
    return [world.pictures(clip) for clip in clips]


def moves(world: World, effort: Effort) -> list[Tensor]:
    """The same ground under one MotionLoRA, another, and both."""
    base, motion = world.image_model(), world.motion_module()
    scene = unseen_scenes(BARE + 1, bare=True)[BARE]
    first, second = ((world.motion_lora(move, motion), TWO_STRENGTH) for move in TWO_MOVES)
    clips = [
        Animator(base, world.words, motion, loras=loras).colours(scene, BARE, effort.camera_sampling)
        for loras in ((first,), (second,), (first, second))
    ]
    return [world.pictures(clip) for clip in clips]


def dancers(world: World, effort: Effort) -> list[Tensor]:
    """The skeletons of a dance, and of three characters the reference and what comes of it."""
    sampling, dance, denoiser = referred(effort.sampling), draw_dance(0, DANCE), world.animator()
    shown = [skeletons(dance.frames(sampling.num_frames))]
    for number in DANCERS:
        character = draw_character(0, number)
        clip = danced(denoiser, character, dance, number, sampling)
        shown += [portrait(character).expand_as(shown[0]), world.dancers(clip)]
    return shown


def _beside(clips: Sequence[Tensor], gap: int = 4) -> Tensor:
    """Clips (F, H, W, 3) as one, side by side on white."""
    space = torch.ones_like(clips[0][:, :, :gap])
    return torch.cat([part for clip in clips for part in (clip, space)][:-1], dim=2)
