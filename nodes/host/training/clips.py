"""Clips to learn from, as they travel between nodes, and how they are shown."""

from dataclasses import dataclass, replace

from einops import rearrange
import torch
from torch import Tensor

from ....training.camera import CameraMove
from ....training.manifest import ClipSampling, Manifest, draw_clips, no_clips
from ....training.sources import (
    VIDEO_ENDINGS,
    FrameBatch,
    Source,
    VideoFile,
    videos_in_folder,
    videos_in_table,
    with_poses,
)
from ..core.paths import fingerprint, input_files, input_path, path_inside
from ..core.progress import check_interrupted

SHOWN = 4  # clips beside each other in a preview


@dataclass(frozen=True)
class TrainingClips:
    """Videos, and how clips are drawn from them."""

    videos: tuple[Source, ...]
    sampling: ClipSampling

    def manifest(self) -> Manifest:
        """The clips themselves; raises ValueError if there is none."""
        return draw_clips(self.videos, self.sampling, check_interrupted)

    def moved(self, gentle: CameraMove, strong: CameraMove) -> "TrainingClips":
        """Each clip with a camera move between the two."""
        return replace(self, sampling=replace(self.sampling, gentle=gentle, strong=strong))

    def single_frames(self) -> "TrainingClips":
        """Stills in place of clips, as many, and without a camera that moves."""
        return replace(self, sampling=replace(self.sampling, num_frames=1, stride=1, gentle=None, strong=None))


def video_folders() -> list[str]:
    """The folders below the input folder that have videos in them."""
    return sorted({name.rpartition("/")[0] for name in input_files(tuple(VIDEO_ENDINGS))} - {""})


def videos_of(folder: str, table: str, caption: str) -> list[Source]:
    """The videos of a folder of the input folder; table: a csv in it with their captions, or "".

    Raises ValueError for a name that leads out of it, and as the functions of training/sources.py do.
    """
    place = input_path(folder, folder=True)
    if not table.strip():
        return videos_in_folder(place, caption)
    path = path_inside(place, table)
    if path is None:
        raise ValueError(f"{table} is outside of the folder {folder}. Copy the table into it.")
    return videos_in_table(path, place, caption)


def with_drawn_poses(clips: TrainingClips, folder: str | None, poses: Tensor | None) -> TrainingClips:
    """The clips with poses: of a folder of the input folder for videos, of an IMAGE batch for images.

    Raises ValueError for a name that leads out of the folder, and if no video gets poses.
    """
    videos = list(clips.videos)
    files = [video for video in videos if isinstance(video, VideoFile)]
    if folder is not None and files:
        posed = iter(with_poses(files, input_path(folder, folder=True)))
        videos = [next(posed) if isinstance(video, VideoFile) else video for video in videos]
    if poses is not None:
        drawn = FrameBatch(poses, "", "poses")
        videos = [replace(video, poses=drawn) if isinstance(video, FrameBatch) else video for video in videos]
    if not any(video.poses for video in videos):
        raise ValueError("No clip has poses: choose the folder of pose videos, or connect poses for the images.")
    return replace(clips, videos=tuple(videos))


def folder_fingerprint(folder: str) -> str:
    """Changes when a file of the folder does, or one comes or goes."""
    return fingerprint(sorted(path for path in input_path(folder, folder=True).iterdir() if path.is_file()))


def describe(manifest: Manifest) -> str:
    """For the node: how many clips there are, and what was left out."""
    videos = len({clip.source.name for clip in manifest.clips})
    clip = manifest.clips[0]
    width, height = clip.size
    lines = [f"{len(manifest.clips)} clips of {clip.num_frames} frames, {width} x {height}, from {videos} videos"]
    if manifest.rejected:
        lines.append(f"{len(manifest.rejected)} left out:")
        lines += manifest.rejected
    return "\n".join(lines)


def side_by_side(manifest: Manifest) -> Tensor:
    """The first few clips that can be read, in a row, (F, H, W, 3) in 0..1. Raises ValueError if none can."""
    shown, rejected = [], list(manifest.rejected)
    for clip in manifest.clips:
        if len(shown) < SHOWN:
            try:
                shown.append(clip.frames(check_interrupted))
            except ValueError as error:
                rejected.append(str(error))
    if not shown:
        raise ValueError(no_clips(len({clip.source.name for clip in manifest.clips}), rejected))
    return rearrange(torch.stack(shown), "n f h w c -> f h (n w) c")


def beside_poses(manifest: Manifest) -> Tensor:
    """The first clip that can be read, beside its poses, (F, H, W, 3) in 0..1. Raises ValueError if none can."""
    rejected = list(manifest.rejected)
    for clip in manifest.clips:
        try:
            return torch.cat(clip.frames_and_poses(check_interrupted), dim=2)
        except ValueError as error:
            rejected.append(str(error))
    raise ValueError(no_clips(len({clip.source.name for clip in manifest.clips}), rejected))
