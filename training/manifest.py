"""Which clips are trained on: a fixed list, drawn once from a seed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
import hashlib
import json
import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from ..nodes.media.decode import Selection
from .atomic import write_file
from .camera import CameraMove, move_between, render
from .noise import generator_at
from .sources import Check, Source

logger = logging.getLogger(__name__)

ROUNDED = 0.1  # by how much the shape of drawn poses may differ from their video's: sides rounded to multiples of 64


@dataclass(frozen=True)
class ClipSampling:
    """How clips are drawn from videos.

    num_frames: of a clip. stride: every how many-th frame of the video is taken. frame_rate: videos are brought to it
    first, so that strides mean the same in all of them; 0: each keeps its own.
    size: (width, height) of the clips in pixels; videos are cut and scaled to it, never stretched.
    gentle, strong: each clip gets a camera move in between; None: none.
    flip: mirror half of the clips, but for moves that would become others.
    """

    num_frames: int = 16
    stride: int = 4
    frame_rate: float = 0.0
    size: tuple[int, int] = (256, 256)
    clips_per_video: int = 1
    gentle: CameraMove | None = None
    strong: CameraMove | None = None
    flip: bool = False
    seed: int = 0

    def __post_init__(self):
        for name in ("num_frames", "stride", "clips_per_video"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, but it has to be 1 or more.")
        if any(side < 64 or side % 8 for side in self.size):
            raise ValueError(f"size {self.size} is unusable: width and height are multiples of 8, from 64 on.")

    @property
    def span(self) -> int:
        """Frames of the video that a clip reaches over."""
        return (self.num_frames - 1) * self.stride + 1


@dataclass(frozen=True)
class Clip:
    """One clip of one video. start: its first frame, counted at `frame_rate`."""

    source: Source
    start: int
    stride: int
    num_frames: int
    frame_rate: float
    size: tuple[int, int]
    move: CameraMove = CameraMove()
    flip: bool = False

    def frames(self, check: Check = lambda: None) -> Tensor:
        """(F, H, W, 3) in 0..1, as it is trained on. Raises ValueError if the video is damaged or ends before."""
        return self._rendered(self._read(self.source, check))

    def frames_and_poses(self, check: Check = lambda: None) -> tuple[Tensor, Tensor]:
        """The frames, and the same ones of the video's poses, cut and scaled alike.

        Poses are stretched to the video's shape, for tools round the sizes of what they draw. Raises ValueError for a
        video without poses, or if their shape is another one.
        """
        if self.source.poses is None:
            raise ValueError(f"{self.source.name} has no poses: put a video of its name into the folder of poses.")
        frames, poses = (self._read(source, check) for source in (self.source, self.source.poses))
        (height, width), (posed_height, posed_width) = frames.shape[1:3], poses.shape[1:3]
        shape = width / height
        if abs(posed_width / posed_height - shape) > ROUNDED * shape:
            raise ValueError(
                f"{self.source.name} is of {width} x {height} pixels and its poses of {posed_width} x {posed_height}: "
                "draw them for the whole picture."
            )
        if posed_width * height != posed_height * width:
            poses = nn.functional.interpolate(poses.movedim(-1, 1), (height, width), mode="bilinear").movedim(1, -1)
        return self._rendered(frames), self._rendered(poses)

    def _rendered(self, frames: Tensor) -> Tensor:
        try:
            return render(frames.flip(2) if self.flip else frames, self.move, self.size)
        except ValueError as error:
            raise ValueError(f"{self.source.name}: {error}") from error

    def _read(self, source: Source, check: Check) -> Tensor:
        selection = Selection(self.frame_rate, self.start, self.stride, self.num_frames)
        frames = source.frames(selection, check)
        if frames.shape[0] < self.num_frames:
            raise ValueError(
                f"{source.name} is damaged or cut short: of the clip from frame {self.start} on it gives "
                f"{frames.shape[0]} of {self.num_frames} frames."
            )
        return frames

    def description(self) -> dict[str, object]:
        """For a manifest, in JSON's types."""
        own = {key: getattr(self, key) for key in ("start", "stride", "num_frames", "frame_rate", "size", "flip")}
        poses = {"poses": self.source.poses.name} if self.source.poses else {}
        return {"video": self.source.name, **poses, "caption": self.source.caption, **own, "move": asdict(self.move)}


@dataclass(frozen=True)
class Manifest:
    """clips: to train on. rejected: for each video or clip that cannot be used, why."""

    clips: tuple[Clip, ...]
    rejected: tuple[str, ...] = ()

    def digest(self) -> str:
        """Changes with any clip of the list, or any video behind it."""
        content = [(clip.description(), *(source.digest() for source in _sources(clip))) for clip in self.clips]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()

    def write(self, path: Path) -> None:
        """As JSON, one clip per line."""
        text = "".join(json.dumps(clip.description()) + "\n" for clip in self.clips)
        write_file(path, lambda part: part.write_text(text, encoding="utf-8"))


def draw_clips(videos: Sequence[Source], sampling: ClipSampling, check: Check = lambda: None) -> Manifest:
    """Draw clips from videos; the same seed gives the same clips.

    A video that cannot be read, is too short or as long as its poses is not, is named and left out: a smaller stride
    would slow down what is to be learnt. Raises ValueError if that leaves none.
    """
    clips, rejected = [], []
    for video in videos:
        check()
        try:
            length = _length(video, sampling.frame_rate, check)
        except ValueError as error:
            rejected.append(str(error))
            continue
        if length < sampling.span:
            rejected.append(
                f"{video.name} has {length} frames, but a clip of {sampling.num_frames} frames at stride "
                f"{sampling.stride} takes {sampling.span}: lower num_frames or stride."
            )
            continue
        clips += [_draw_clip(video, length, sampling, number) for number in range(sampling.clips_per_video)]
    for reason in rejected:
        logger.warning("left out: %s", reason)
    if not clips:
        raise ValueError(no_clips(len(videos), rejected))
    return Manifest(tuple(clips), tuple(rejected))


def no_clips(num_videos: int, rejected: Sequence[str]) -> str:
    """The message for a set that nothing is left of."""
    if not num_videos:
        return "There is no video to draw clips from."
    few = " ".join(rejected[:3]) + (f" And {len(rejected) - 3} more." if len(rejected) > 3 else "")
    return f"{'The video cannot' if num_videos == 1 else f'None of the {num_videos} videos can'} be used. {few}"


def _length(video: Source, frame_rate: float, check: Check) -> int:
    """Frames that video and poses both have. Raises ValueError if the two do not belong together."""
    length = video.num_frames(frame_rate, check)
    if video.poses is None:
        return length
    posed = video.poses.num_frames(frame_rate, check)
    if abs(posed - length) > 1:  # one frame is what containers and frame rates disagree by
        raise ValueError(f"{video.name} has {length} frames and its poses have {posed}: they have to be the same.")
    return min(length, posed)


def _sources(clip: Clip) -> list[Source]:
    return [clip.source, *([clip.source.poses] if clip.source.poses else [])]


def _draw_clip(video: Source, length: int, sampling: ClipSampling, number: int) -> Clip:
    # by the video's name, so that a video that is added or removed leaves the others' clips as they are
    generator = generator_at(sampling.seed, "clip", video.name, number)
    start = int(torch.randint(length - sampling.span + 1, (), generator=generator))
    share, side = torch.rand(2, generator=generator).tolist()
    move = CameraMove()
    if sampling.gentle is not None and sampling.strong is not None:
        move = move_between(sampling.gentle, sampling.strong, share)
    # poses are drawn in colours that tell left from right, and mirrored they would tell wrongly
    flip = sampling.flip and side < 0.5 and not move.mirrors_unlike and video.poses is None
    shape = (sampling.stride, sampling.num_frames, sampling.frame_rate, sampling.size)
    return Clip(video, start, *shape, move, flip)
