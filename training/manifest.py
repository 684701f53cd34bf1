"""Which clips are trained on: a fixed list, drawn once from a seed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
import hashlib
import json
import logging
from pathlib import Path

import torch
from torch import Tensor

from ..nodes.media.decode import Selection
from .atomic import write_file
from .camera import CameraMove, move_between, render
from .noise import generator_at
from .sources import Check, Source

logger = logging.getLogger(__name__)


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
        selection = Selection(self.frame_rate, self.start, self.stride, self.num_frames)
        frames = self.source.frames(selection, check)
        if frames.shape[0] < self.num_frames:
            raise ValueError(
                f"{self.source.name} is damaged or cut short: of the clip from frame {self.start} on it gives "
                f"{frames.shape[0]} of {self.num_frames} frames."
            )
        return render(frames.flip(2) if self.flip else frames, self.move, self.size)

    def description(self) -> dict[str, object]:
        """For a manifest, in JSON's types."""
        own = {key: getattr(self, key) for key in ("start", "stride", "num_frames", "frame_rate", "size", "flip")}
        return {"video": self.source.name, "caption": self.source.caption, **own, "move": asdict(self.move)}


@dataclass(frozen=True)
class Manifest:
    """clips: to train on. rejected: for each video or clip that cannot be used, why."""

    clips: tuple[Clip, ...]
    rejected: tuple[str, ...] = ()

    def digest(self) -> str:
        """Changes with any clip of the list, or any video behind it."""
        content = [(clip.description(), clip.source.digest()) for clip in self.clips]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()

    def write(self, path: Path) -> None:
        """As JSON, one clip per line."""
        text = "".join(json.dumps(clip.description()) + "\n" for clip in self.clips)
        write_file(path, lambda part: part.write_text(text, encoding="utf-8"))


def draw_clips(videos: Sequence[Source], sampling: ClipSampling, check: Check = lambda: None) -> Manifest:
    """Draw clips from videos; the same seed gives the same clips.

    A video that cannot be read or is too short is named and left out: a smaller stride would slow down what is to be
    learnt. Raises ValueError if that leaves none.
    """
    clips, rejected = [], []
    for video in videos:
        check()
        try:
            length = video.num_frames(sampling.frame_rate, check)
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
    return f"None of the {num_videos} videos can be used. {few}"


def _draw_clip(video: Source, length: int, sampling: ClipSampling, number: int) -> Clip:
    # by the video's name, so that a video that is added or removed leaves the others' clips as they are
    generator = generator_at(sampling.seed, "clip", video.name, number)
    start = int(torch.randint(length - sampling.span + 1, (), generator=generator))
    share, side = torch.rand(2, generator=generator).tolist()
    move = CameraMove()
    if sampling.gentle is not None and sampling.strong is not None:
        move = move_between(sampling.gentle, sampling.strong, share)
    flip = sampling.flip and side < 0.5 and not move.mirrors_unlike
    shape = (sampling.stride, sampling.num_frames, sampling.frame_rate, sampling.size)
    return Clip(video, start, *shape, move, flip)
