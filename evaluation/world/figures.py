"""What a figure of the small world is, and how clips are measured for it; over scenes that no training drew."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ...training.camera import CameraMove
from ..camera import likeness, nearest_move
from ..certainty import Estimate, mean, share
from .learning import NUM_SCENES
from .measures import camera_move, change, mark_correlation, see_object
from .models import Animator, Sampling
from .scenes import PLAIN, Scene, draw_scene


@dataclass(frozen=True)
class Effort:
    """How many clips a figure is over and how they are sampled; of the camera's, which vary less, fewer."""

    seeds: int = 40
    sampling: Sampling = Sampling()
    camera_seeds: int = 20
    camera_sampling: Sampling = Sampling(steps=10)


@dataclass(frozen=True)
class Figure:
    """A row of a claim's table. clip: colours (F, h, w, 3) to show beside it.

    pictures: (F, H, W, 3), to show instead of what the world's decoder makes of the clip.
    """

    what: str
    estimates: dict[str, Estimate]
    clip: Tensor | None = None
    pictures: Tensor | None = None


def unseen_scenes(count: int, bare: bool = False, style: str = PLAIN) -> list[Scene]:
    first = 2 * NUM_SCENES
    return [draw_scene(0, first + number, bare=float(bare), styles=(style,)) for number in range(count)]


def object_figure(what: str, animator: Animator, effort: Effort, style: str = PLAIN) -> Figure:
    scenes = unseen_scenes(effort.seeds, style=style)
    clips = [animator.colours(scene, seed, effort.sampling) for seed, scene in enumerate(scenes)]
    return Figure(what, object_estimates(scenes, clips), clips[0])


def object_estimates(scenes: Sequence[Scene], clips: Sequence[Tensor]) -> dict[str, Estimate]:
    """What became of each scene's object in its clip."""
    pairs = [(scene, see_object(clip)) for scene, clip in zip(scenes, clips, strict=True)]
    found = [one for _, one in pairs if one.colour]
    estimates = {
        "direction": share([one.direction == scene.direction for scene, one in pairs]),
        "colour": share([one.colour == scene.colour for scene, one in pairs]),
        "change from frame to frame, %": mean([change(clip) for clip in clips]),
    }
    if found:
        estimates["jitter, latent pixels"] = mean([one.jitter for one in found])
        estimates["speed, latent pixels per frame"] = mean([one.speed for one in found])
    return estimates


def mark_figure(what: str, animator: Animator, effort: Effort) -> Figure:
    clips = [
        animator.colours(scene, seed, effort.sampling) for seed, scene in enumerate(unseen_scenes(effort.seeds))
    ]
    return Figure(what, {"mark": mean([mark_correlation(clip) for clip in clips])}, clips[0])


def camera_moves(animator: Animator, effort: Effort) -> tuple[list[CameraMove], Tensor]:
    """What the camera does in clips of bare ground, and the first clip."""
    scenes = unseen_scenes(effort.camera_seeds, bare=True)
    clips = [animator.colours(scene, seed, effort.camera_sampling) for seed, scene in enumerate(scenes)]
    return [camera_move(clip) for clip in clips], clips[0]


def camera_figure(what: str, animator: Animator, effort: Effort, moves: Sequence[str]) -> Figure:
    """Of each move how much is in the clips; named: how many are most like the first one."""
    found, clip = camera_moves(animator, effort)
    estimates = {"named": share([nearest_move(move) == moves[0] for move in found])}
    estimates |= {name: mean([likeness(move, name) for move in found]) for name in moves}
    return Figure(what, estimates, clip)
