"""Claim A1: does a clip show the reference's character in the skeletons' poses? Both are known, as everything is drawn.

F: frames   h, w: the latent's size
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..certainty import mean
from .autoencoder import FACTOR, mean_colours
from .characters import COLOURS, Character, Dance, draw_character, draw_dance, paint, portrait, skeletons
from .dancing import danced
from .figures import Effort, Figure
from .learning import NUM_SCENES
from .measures import change
from .models import Sampling
from .world import World

WORN = [COLOURS.index(name) for name in COLOURS if name not in ("wall", "floor")]
MOSTLY = 0.35  # of a latent pixel; limbs are hardly wider than one
APART = 0.15  # in a colour, of a figure from what is beside it
GUIDANCE = 1.5  # of the reference over nothing


@dataclass(frozen=True)
class Wanted:
    """What a clip should be: its pictures' means (F, h, w, 3), and how much of each is whose colour (F, 8, h, w)."""

    means: Tensor
    shares: Tensor

    @classmethod
    def of(cls, character: Character, dance: Dance, num_frames: int) -> "Wanted":
        pictures, shares = paint(character, dance.frames(num_frames))
        return cls(mean_colours(pictures), nn.functional.avg_pool2d(shares, FACTOR))


def copying(world: World, effort: Effort) -> Iterator[Figure]:
    """Characters and dances that no training showed; in the reference the character stands."""
    seeds = effort.camera_seeds  # clips vary as little
    numbers = range(2 * NUM_SCENES, 2 * NUM_SCENES + seeds)
    characters, dances = [draw_character(0, n) for n in numbers], [draw_dance(0, n) for n in numbers]
    sampling = referred(effort.sampling)
    whole, by_itself = world.animator(), world.animator(moving=False)
    own = [Wanted.of(*both, sampling.num_frames) for both in zip(characters, dances, strict=True)]
    others = [*characters[1:], characters[0]]
    dressed = [Wanted.of(*both, sampling.num_frames) for both in zip(others, dances, strict=True)]
    rows: dict[str, Callable[[int], Tensor]] = {
        "as it is drawn": lambda n: own[n].means,
        "without a reference": lambda n: danced(whole, None, dances[n], n, sampling),
        "reference and poses": lambda n: danced(whole, characters[n], dances[n], n, sampling),
        "the same, each frame by itself": lambda n: danced(by_itself, characters[n], dances[n], n, sampling),
    }
    for what, clip_of in rows.items():
        clips = [clip_of(n) for n in range(seeds)]
        estimates = copied(clips, own, dressed)
        shown = torch.cat(_beside(characters[0], dances[0], world.dancers(clips[0])), dim=2)
        yield Figure(what, {name: mean(values) for name, values in estimates.items()}, clips[0], shown)


def referred(sampling: Sampling) -> Sampling:
    return replace(sampling, guidance=GUIDANCE)


def copied(clips: Sequence[Tensor], own: Sequence[Wanted], dressed: Sequence[Wanted]) -> dict[str, list[float]]:
    """clips: colours (F, h, w, 3). dressed: the same dances by the next one's character."""
    posed = [*own[1:], own[0]]
    return {
        "worn as in the reference": [likeness(*both) for both in zip(clips, own, strict=True)],
        "as in another's": [likeness(*both) for both in zip(clips, dressed, strict=True)],
        "in its pose": [overlap(*both) for both in zip(clips, own, strict=True)],
        "in another's": [overlap(*both) for both in zip(clips, posed, strict=True)],
        "change from frame to frame, %": [change(clip) for clip in clips],
    }


def likeness(clip: Tensor, wanted: Wanted) -> float:
    """Correlation of the colours of hair, skin and clothes with the wanted ones, where those should be."""
    weights = wanted.shares[:, WORN] * (wanted.shares[:, WORN] > MOSTLY)
    sizes = weights.sum((0, 2, 3))
    found, right = (
        torch.einsum("fkhw,fhwc->kc", weights, colours)[sizes > 0] / sizes[sizes > 0, None]
        for colours in (clip, wanted.means)
    )
    return float(torch.corrcoef(torch.stack((found.flatten(), right.flatten())))[0, 1])


def overlap(clip: Tensor, wanted: Wanted) -> float:
    """Intersection over union of the clip's figure and the wanted one, over all frames."""
    edges = torch.cat((clip[:, :, :2], clip[:, :, -2:]), dim=2)
    found = (clip - edges.median(dim=2, keepdim=True).values).abs().amax(-1) > APART
    figure = wanted.shares[:, WORN].sum(1) > 0.5
    return float((found & figure).sum() / (found | figure).sum())


def _beside(character: Character, dance: Dance, pictures: Tensor) -> list[Tensor]:
    """The reference, the skeletons and what came of them, (F, H, W, 3) each."""
    return [portrait(character).expand_as(pictures), skeletons(dance.frames(len(pictures))), pictures]
