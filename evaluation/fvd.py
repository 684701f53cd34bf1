"""Frechet Video Distance (Unterthiner et al. 2018, arXiv 1812.01717) of a folder of clips from one of real clips."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
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


def video_distances(
    network: I3d, folders: Mapping[str, Path], truth: Path, frames: int, report: Callable[[int, int], None]
) -> dict[str, Distance]:
    """Of each folder from the true one. report: takes how many clips I3D has seen, and of how many, after each.

    Raises FileNotFoundError and ValueError that name the folder or the clip.
    """
    if frames < SHORTEST:
        raise ValueError(f"I3D looks at {SHORTEST} frames or more, not at {frames}.")
    found = [_clips_of(folder) for folder in (truth, *folders.values())]
    total = sum(map(len, found))
    features: list[Tensor] = []
    for path in chain(*found):
        features.append(logits_of(network, _beginning(path, frames)))
        report(len(features), total)
    real, *ours = torch.stack(features).split([len(paths) for paths in found])
    rows = zip(folders, ours, strict=True)
    return {name: Distance(frechet_distance(x, real), (len(x), len(real))) for name, x in rows}


def _clips_of(folder: Path) -> list[Path]:
    found = clips_in(folder)
    if len(found) < 2:
        raise ValueError(
            f"FVD is between many clips, and {folder} holds {len(found)}. Put one video, or one folder of frames, for "
            "each clip into it; hundreds make a number that can be relied on."
        )
    return found


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
