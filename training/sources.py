"""Videos to learn from: files with captions, a WebVid-style table, or frames that are in memory already."""

import codecs
from collections.abc import Callable, Mapping, Sequence
import csv
from dataclasses import dataclass, replace
from functools import cached_property
import hashlib
import io
import logging
from pathlib import Path, PureWindowsPath
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..nodes.media.decode import Selection, VideoInfo, probe, read_frames

logger = logging.getLogger(__name__)

VIDEO_ENDINGS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".gif", ".webp"}
WEBVID_COLUMNS = ("videoid", "name", "page_dir")
DIGEST_BYTES = 2**16  # from each end of a file; with size and time it tells any file from what it was before

Check = Callable[[], None]

_lengths: dict[tuple[str, float], int] = {}  # of videos in frames, by digest and frame rate: each node asks again


class Source(Protocol):
    """A video. name: for messages and manifests. caption: what it shows. poses: a video of them, frame by frame."""

    name: str
    caption: str
    poses: "Source | None"

    def num_frames(self, frame_rate: float, check: Check) -> int:
        """At this frame rate, 0 for its own. A file that does not surely tell is decoded once, to count."""

    def frames(self, selection: Selection, check: Check) -> Tensor:
        """(F, H, W, 3) in 0..1; F is less than selection.cap where the video ends early."""

    def digest(self) -> str:
        """Changes when the video does."""


@dataclass(frozen=True)
class VideoFile:
    """Read through the pack's own decoder, which raises ValueError for what is no video."""

    path: Path
    caption: str
    poses: "VideoFile | None" = None

    @property
    def name(self) -> str:
        return self.path.name

    def num_frames(self, frame_rate: float, check: Check) -> int:
        key = self.digest(), frame_rate
        if key not in _lengths:
            info, whole = probe(self.path, check), Selection(force_rate=frame_rate)
            _lengths[key] = whole.expected(info) if info.counted else self._count(info, whole, check)
        return _lengths[key]

    def _count(self, info: VideoInfo, whole: Selection, check: Check) -> int:
        return len(read_frames(self.path, info, whole, lambda frame: None, check))

    def frames(self, selection: Selection, check: Check) -> Tensor:
        frames: list[np.ndarray] = []
        read_frames(self.path, VideoInfo(), selection, frames.append, check)  # a clip counts its frames itself
        return torch.from_numpy(np.stack(frames)).float() / 255 if frames else torch.empty(0, 1, 1, 3)

    def digest(self) -> str:
        status = self.path.stat()
        digest = hashlib.blake2b(f"{status.st_size} {status.st_mtime_ns}".encode(), digest_size=16)
        with open(self.path, "rb") as file:
            digest.update(file.read(DIGEST_BYTES))
            file.seek(max(0, status.st_size - DIGEST_BYTES))
            digest.update(file.read())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """pictures: (F, H, W, 3) in 0..1, such as an IMAGE of a graph; they have no frame rate but their own."""

    pictures: Tensor
    caption: str
    name: str = "frames"
    poses: "FrameBatch | None" = None

    def num_frames(self, frame_rate: float, check: Check) -> int:
        return self.pictures.shape[0]

    def frames(self, selection: Selection, check: Check) -> Tensor:
        last = selection.skip + selection.nth * selection.cap
        with torch.inference_mode(False):
            return self.pictures[selection.skip : last : selection.nth, ..., :3].cpu().float().clone()

    def digest(self) -> str:
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return hashlib.blake2b(self.pictures.cpu().contiguous().numpy().tobytes(), digest_size=16).hexdigest()


def videos_in_folder(folder: Path, caption: str = "") -> list[VideoFile]:
    """The videos of a folder, each with the text of the .txt file of its name, or without any with `caption`.

    Raises FileNotFoundError without a folder, and ValueError without a video in it or for a caption not in UTF-8.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}. Choose the folder that holds your videos.")
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    paths = [path for path in files if path.suffix.lower() in VIDEO_ENDINGS]
    texts = {path.stem: path for path in files if path.suffix.lower() == ".txt"}
    if not paths:
        endings = ", ".join(sorted(VIDEO_ENDINGS))
        found = f"only captions ({len(texts)} .txt files), and no video for them" if texts else "no video"
        raise ValueError(f"{folder} has {found}. Put videos into it ({endings}).")
    bare = [path.name for path in paths if path.stem not in texts]
    if bare and texts:
        logger.warning("%d of %d videos have no caption file, such as %s", len(bare), len(paths), bare[0])
    lonely = sorted(texts.keys() - {path.stem for path in paths})
    if lonely:
        logger.warning("%d captions have no video, such as %s", len(lonely), texts[lonely[0]].name)
    captions = {path.stem: " ".join(_text(texts[path.stem]).split()) for path in paths if path.stem in texts}
    return [VideoFile(path, captions.get(path.stem) or caption) for path in paths]


def videos_in_table(table: Path, folder: Path, caption: str = "") -> list[VideoFile]:
    """The rows of a WebVid-style csv (videoid, name, page_dir) whose `<videoid>.mp4` is in the folder.

    caption: of rows without a name. Raises FileNotFoundError without the table, and ValueError for a missing column,
    for a videoid that is more than a file's name, for a table not in UTF-8, or when no video is there.
    """
    if not table.is_file():
        raise FileNotFoundError(f"There is no table {table}. Check its name.")
    rows = csv.DictReader(io.StringIO(_text(table), newline=""))
    missing = [column for column in WEBVID_COLUMNS[:2] if column not in (rows.fieldnames or ())]
    if missing:
        raise ValueError(
            f"{table.name} has no column {' and no column '.join(missing)}, only "
            f"{', '.join(rows.fieldnames or ['an empty first line'])}. The first line of a WebVid table reads "
            f"{','.join(WEBVID_COLUMNS)}, with commas; page_dir is not used."
        )
    videos = [VideoFile(folder / _file_of(row, table), row["name"] or caption) for row in rows if row["videoid"]]
    there = [video for video in videos if video.path.is_file()]
    if not there:
        raise ValueError(f"None of the {len(videos)} videos of {table.name} is in {folder}, called <videoid>.mp4.")
    missing_files = len(videos) - len(there)
    if missing_files:
        logger.warning("%d of the %d videos of %s are not in %s", missing_files, len(videos), table.name, folder)
    return there


def _file_of(row: Mapping[str, str], table: Path) -> str:
    if PureWindowsPath(row["videoid"]).name != row["videoid"]:  # knows both kinds of slashes, and drives
        raise ValueError(
            f"{table.name} has the videoid {row['videoid']!r}. It must be a file's name without its .mp4: the videos "
            "are in one folder."
        )
    return f"{row['videoid']}.mp4"


def with_poses(videos: Sequence[VideoFile], folder: Path) -> list[VideoFile]:
    """The same videos, each with the video of its name in a folder of poses, whatever the ending.

    One that has none stays without. Raises FileNotFoundError without the folder, ValueError if no video has poses.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}. Choose the folder that holds the videos' poses.")
    poses = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in VIDEO_ENDINGS}
    posed = [replace(v, poses=VideoFile(poses[v.path.stem], "") if v.path.stem in poses else None) for v in videos]
    if not any(video.poses for video in posed):
        raise ValueError(f"{folder} has no poses for these videos: they are videos of the same names.")
    return posed


def _text(path: Path) -> str:
    """Raises ValueError for a file in any encoding but UTF-8, and UTF-16 where the file says so, as Windows' does."""
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is not in UTF-8, so its letters are not known. Save it in UTF-8.") from None
