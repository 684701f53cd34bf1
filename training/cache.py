"""Latents and text encodings, computed once and kept on disk.

    <folder>/ab/ab12...clip.safetensors   mean and deviation (F, 4, H, W), float16
    <folder>/cd/cd34...text.safetensors   context (T, D), float16

A name is the digest of all that the content depends on, so a video that changes gets a new one, and nothing that is
found is ever out of date. Means and deviations are kept instead of samples, because every step samples anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import hashlib
import json
import logging
import math
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
import torch
from torch import Tensor

from .atomic import write_file
from .batches import EncodedClip
from .engine import Engine
from .manifest import Clip, Manifest, no_clips
from .sources import Check

logger = logging.getLogger(__name__)

VERSION = 1  # of the files' content


@dataclass(frozen=True)
class Encoders:
    """The host's VAE and text encoder, or in its place CLIP Vision.

    frames: (F, H, W, 3) in 0..1 to the mean and the deviation of their latents, (F, 4, h, w), in the UNet's scale.
    text: a caption to its encoding, (T, D), with the same T for all. identity: changes with any one's weights.
    looks: frames (F, H, W, 3) in 0..1 to what CLIP Vision sees in them, (F, D), for stages that are posed.
    """

    frames: Callable[[Tensor], tuple[Tensor, Tensor]]
    text: Callable[[str], Tensor] | None
    identity: str
    looks: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Cache:
    """A folder of encodings, by those encoders."""

    folder: Path
    encoders: Encoders

    def begin(self) -> None:
        """Encode what all clips need."""
        self.add_text("")

    def add(self, clip: Clip, check: Check) -> None:
        """Encode a clip and its caption unless they are there. Raises ValueError and OSError."""
        self.add_clip(clip, check)
        self.add_text(clip.source.caption)

    def clips(self, manifest: Manifest) -> "CachedClips":
        """Those that are encoded. Raises ValueError if there is none."""
        return cached_clips(manifest, self)

    def clip_path(self, clip: Clip) -> Path:
        return self._path("clip", [clip.source.digest(), {**clip.description(), "video": "", "caption": ""}])

    def text_path(self, caption: str) -> Path:
        return self._path("text", [caption])

    def add_clip(self, clip: Clip, check: Check) -> Path:
        """Encode the clip unless it is there. Raises ValueError and OSError."""
        path = self.clip_path(clip)
        if not whole(path):
            mean, deviation = self.encoders.frames(clip.frames(check))
            if not (mean.isfinite().all() and deviation.isfinite().all()):
                raise ValueError(f"{clip.source.name} is encoded to values that are not numbers. Use another VAE.")
            write_tensors(path, {"mean": mean, "deviation": deviation})
        return path

    def add_text(self, caption: str) -> Path:
        path = self.text_path(caption)
        if not whole(path):
            write_tensors(path, {"context": self.encoders.text(caption)})
        return path

    def _path(self, kind: str, content: list) -> Path:
        key = json.dumps([VERSION, kind, self.encoders.identity, content])
        name = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        return self.folder / name[:2] / f"{name}.{kind}.safetensors"


@dataclass(frozen=True)
class CachedClips(Sequence):
    """Encoded clips, read when they are asked for. paths: of each clip and of its caption.

    encoders: the identity of those that encoded them. rejected: for each video or clip that cannot be used, why.
    """

    paths: tuple[tuple[Path, Path], ...]
    empty_context_path: Path
    encoders: str
    rejected: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> EncodedClip:
        clip, text = self.paths[index]
        content = load_file(clip)
        return EncodedClip(content["mean"], content["deviation"], load_file(text)["context"])

    @property
    def empty_context(self) -> Tensor:
        """(T, D), the encoded empty caption."""
        return load_file(self.empty_context_path)["context"]


def encode_manifest(
    manifest: Manifest,
    cache: Cache,
    engine: Engine,
    progress: Callable[[int, int], None] = lambda done, total: None,
    check: Check = lambda: None,
) -> tuple[str, ...]:
    """Encode what the cache lacks, this process's share of it; returns why clips were left out, which is also logged.

    The processes wait for each other after every clip, so that an engine's time limit holds for one clip and not for
    the difference of whole shares: only a process that gets no further is given up.
    progress: called with the clips done and their number. check: stops the work by raising.
    """
    rejected = []
    clips = manifest.clips[engine.rank :: engine.world_size]
    cache.begin()
    for done in range(math.ceil(len(manifest.clips) / engine.world_size)):
        for clip in clips[done : done + 1]:  # in the last round some have none
            progress(done, len(clips))
            check()
            try:
                cache.add(clip, check)
            except ValueError as error:
                rejected.append(str(error))
                logger.warning("left out: %s", error)
        engine.wait()
    progress(len(clips), len(clips))
    return tuple(rejected)


def cached_clips(manifest: Manifest, cache: Cache) -> CachedClips:
    """The clips of a manifest that are encoded. Raises ValueError if there is none."""
    pairs = [(cache.clip_path(clip), cache.text_path(clip.source.caption)) for clip in manifest.clips]
    there = tuple((clip, text) for clip, text in pairs if clip.exists() and text.exists())
    if not there:
        raise ValueError(no_clips(len({clip.source.name for clip in manifest.clips}), manifest.rejected))
    return CachedClips(there, cache.text_path(""), cache.encoders.identity, manifest.rejected)


def whole(path: Path) -> bool:
    try:
        with safe_open(path, "pt") as file:  # which compares the header with the size
            return bool(file.keys())
    except (OSError, SafetensorError):  # not there, or damaged from outside
        return False


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    with torch.inference_mode(False):
        on_cpu = {name: value.detach().cpu() for name, value in tensors.items()}
        content = {name: (v.half() if v.is_floating_point() else v).contiguous() for name, v in on_cpu.items()}
    write_file(path, lambda part: save_file(content, part))
