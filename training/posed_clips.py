"""Clips with poses (Animate Anyone, arXiv 2311.17117): encoded, kept on disk, and drawn as reference and target frames.

    <folder>/ab/ab12...posed.safetensors   mean and deviation of latents (F, 4, h, w), and what CLIP Vision sees in each
                                           frame (F, D), all in float16; each frame's pose, (H, W, 3) in 0..255, packed

Poses are kept as pictures, because the network that makes features of them is trained too. They are cut and scaled as
their frames are. Any frame can be the reference, so all are encoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
import zlib

from safetensors.torch import load_file
import torch
from torch import Tensor

from .batches import Batch, Draw, EncodedClip
from .cache import Cache, Encoders, whole, write_tensors
from .manifest import Clip, Manifest, no_clips
from .sources import Check
from .stages import ANIMATE_ANYONE, Stage


@dataclass(frozen=True)
class PackedPoses:
    """frames: of each frame a compressed picture; poses are mostly black. size: (height, width)."""

    frames: tuple[bytes, ...]
    size: tuple[int, int]

    @classmethod
    def of(cls, pictures: Tensor) -> "PackedPoses":
        """pictures: (F, H, W, 3) in 0..1."""
        rows = (pictures[..., :3] * 255).round().to(torch.uint8).cpu().contiguous()
        return cls(tuple(zlib.compress(row.numpy().tobytes(), 1) for row in rows), tuple(rows.shape[1:3]))

    def at(self, frames: Sequence[int]) -> Tensor:
        """(F, 3, H, W), uint8."""
        unpacked = (bytearray(zlib.decompress(self.frames[frame])) for frame in frames)
        pictures = [torch.frombuffer(one, dtype=torch.uint8).reshape(*self.size, 3) for one in unpacked]
        return torch.stack(pictures).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class PosedClip(EncodedClip):
    """context: what CLIP Vision sees in each frame, (F, D), of which the reference's is the prompt.

    pairs: a step sees one frame besides the reference; or else all of them.
    """

    poses: PackedPoses
    pairs: bool

    def drawn(self, empty_context: Tensor, draw: Draw, generator: torch.Generator) -> Batch:
        num_frames = self.mean.shape[0]
        reference = int(torch.randint(num_frames, (), generator=generator))
        targets = list(range(num_frames))
        if self.pairs:
            other = int(torch.randint(num_frames - 1, (), generator=generator))
            targets = [other + (other >= reference)]
        shown = EncodedClip(self.mean[targets], self.deviation[targets], self._prompt(reference))
        return replace(shown.drawn(empty_context, draw, generator), beside=self._beside(reference, targets))

    def fixed(self, noise: Tensor, t: int) -> Batch:
        """All frames, with the first as reference."""
        shown = EncodedClip(self.mean, self.deviation, self._prompt(0))
        return replace(shown.fixed(noise, t), beside=self._beside(0, range(self.mean.shape[0])))

    def _prompt(self, reference: int) -> Tensor:
        return self.context[reference : reference + 1]

    def _beside(self, reference: int, targets: Sequence[int]) -> dict[str, Tensor]:
        return {"reference": self.mean[reference].float()[None], "poses": self.poses.at(targets)[None]}


@dataclass(frozen=True)
class PosedCache(Cache):
    """pairs: of the clips that come out of it, see `PosedClip`."""

    pairs: bool = False

    def clip_path(self, clip: Clip) -> Path:
        poses = clip.source.poses
        facts = {**clip.description(), "video": "", "poses": "", "caption": ""}
        return self._path("posed", [clip.source.digest(), poses and poses.digest(), facts])

    def begin(self) -> None:
        """There is no empty caption."""

    def add(self, clip: Clip, check: Check) -> None:
        """Encode the clip unless it is there. Raises ValueError and OSError."""
        path = self.clip_path(clip)
        if whole(path):
            return
        frames, pictures = clip.frames_and_poses(check)
        poses = PackedPoses.of(pictures)
        mean, deviation = self.encoders.frames(frames)
        content = {"mean": mean, "deviation": deviation, "looks": self.encoders.looks(frames)}
        if not all(value.isfinite().all() for value in content.values()):
            raise ValueError(f"{clip.source.name} is encoded to values that are not numbers. Use another VAE.")
        content["size"] = torch.tensor(poses.size)
        for number, frame in enumerate(poses.frames):
            content[f"pose.{number}"] = torch.frombuffer(bytearray(frame), dtype=torch.uint8)
        write_tensors(path, content)

    def clips(self, manifest: Manifest) -> "CachedPosedClips":
        """Those that are encoded. Raises ValueError if there is none."""
        there = tuple(path for clip in manifest.clips if (path := self.clip_path(clip)).exists())
        if not there:
            raise ValueError(no_clips(len({clip.source.name for clip in manifest.clips}), manifest.rejected))
        return CachedPosedClips(there, self.pairs, self.encoders.identity, manifest.rejected)


@dataclass(frozen=True)
class CachedPosedClips(Sequence):
    """As `CachedClips`."""

    paths: tuple[Path, ...]
    pairs: bool
    encoders: str
    rejected: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> PosedClip:
        content = load_file(self.paths[index])
        num_frames = content["mean"].shape[0]
        frames = tuple(content[f"pose.{number}"].numpy().tobytes() for number in range(num_frames))
        poses = PackedPoses(frames, tuple(content["size"].tolist()))
        return PosedClip(content["mean"], content["deviation"], content["looks"], poses, self.pairs)

    @cached_property
    def empty_context(self) -> Tensor:
        """(1, D): zeros, as the open release samples."""
        return torch.zeros_like(self[0].context[:1])


def cache_for(stage: Stage, folder: Path, encoders: Encoders) -> Cache:
    """The cache of what a stage learns from."""
    return PosedCache(folder, encoders, stage.name == ANIMATE_ANYONE) if stage.posed else Cache(folder, encoders)
