"""Frechet Video Distance (Unterthiner et al. 2018, arXiv 1812.01717) of a folder of clips from one of real clips."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .clips import clips_in, read_clip
from .frechet import frechet_distance
from .i3d import CLASSES, SHORTEST, I3d, logits_of

FRAMES = 16  # of each clip, from its first on: as FVD is mostly given


@dataclass(frozen=True)
class Distance:
    """clips: how many of each side, ours first."""

    value: float
    clips: tuple[int, int]


def video_distances(network: I3d, folders: Mapping[str, Path], truth: Path, frames: int) -> dict[str, Distance]:
    """Of each folder from the true one. Raises FileNotFoundError and ValueError that name the folder or the clip."""
    if frames < SHORTEST:
        raise ValueError(f"I3D looks at {SHORTEST} frames or more, not at {frames}.")
    for folder in (truth, *folders.values()):
        found = len(clips_in(folder))
        if found < 2:
            raise ValueError(
                f"FVD is between many clips, and {folder} holds {found}. Put one video, or one folder of frames, for "
                "each clip into it; hundreds make a number that can be relied on."
            )
    real = _features(network, truth, frames)
    ours = {name: _features(network, folder, frames) for name, folder in folders.items()}
    return {name: Distance(frechet_distance(x, real), (len(x), len(real))) for name, x in ours.items()}


def _features(network: I3d, folder: Path, frames: int) -> Tensor:
    return torch.stack([logits_of(network, _beginning(path, frames)) for path in clips_in(folder)])


def _beginning(path: Path, frames: int) -> Tensor:
    clip = read_clip(path, frames)
    if len(clip) < frames:
        way_out = f"Take {len(clip)} of each, or" if len(clip) >= SHORTEST else f"I3D needs {SHORTEST} or more:"
        raise ValueError(f"{path} has {len(clip)} frames, and FVD takes {frames} of each clip. {way_out} remove it.")
    return clip


def distance_table(distances: Mapping[str, Distance]) -> str:
    """Markdown: a row for each folder; below it what must be read with it."""
    lines = ["|  | FVD | clips | true clips |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {d.value:.2f} | {d.clips[0]} | {d.clips[1]} |" for name, d in distances.items()]
    if min(min(distance.clips) for distance in distances.values()) <= CLASSES:
        lines += [
            "",
            "The fewer clips, the higher FVD comes out: compare it only at equal numbers of clips and frames.",
        ]
    return "\n".join(lines)
