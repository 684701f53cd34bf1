"""Batches of encoded clips: which clips a step sees, and with which noise.

All of it follows from (seed, step, number in the batch), so that a run can be resumed at any step, and several
processes draw together what one process would draw alone.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from .noise import NUM_TIMESTEPS, generator_at


@dataclass(frozen=True)
class Batch:
    """latents, noise: (B, F, 4, H, W); t: (B,), one timestep per clip; context: (B, T, D).

    beside: what else the network is given, (B, ..), by the names of its arguments.
    """

    latents: Tensor
    noise: Tensor
    t: Tensor
    context: Tensor
    beside: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> "Batch":
        tensors = (self.latents, self.noise, self.t, self.context)
        beside = {name: value.to(device, non_blocking=True) for name, value in self.beside.items()}
        return Batch(*(value.to(device, non_blocking=True) for value in tensors), beside)


class Draw(Protocol):
    """What a batch depends on beside the clips."""

    seed: int
    batch_size: int
    text_dropout: float
    timestep_power: float


@dataclass(frozen=True)
class EncodedClip:
    """mean, deviation: of the latents, (F, 4, H, W), in the UNet's scale; context: the encoded caption, (T, D)."""

    mean: Tensor
    deviation: Tensor
    context: Tensor

    def drawn(self, empty_context: Tensor, draw: Draw, generator: torch.Generator) -> Batch:
        """The clip as one step sees it."""
        mean = self.mean.float()
        latents = mean + self.deviation.float() * torch.randn(mean.shape, generator=generator)
        noise = torch.randn(mean.shape, generator=generator)
        t = (NUM_TIMESTEPS * torch.rand(1, generator=generator) ** draw.timestep_power).long()
        dropped = torch.rand((), generator=generator) < draw.text_dropout
        context = empty_context if dropped else self.context
        return Batch(latents[None], noise[None], t, context.float()[None])

    def fixed(self, noise: Tensor, t: int) -> Batch:
        """The whole clip, the same every time."""
        return Batch(self.mean.float()[None], noise[None], torch.tensor([t]), self.context.float()[None])


class Share(Protocol):
    """Which part of a batch this process takes."""

    rank: int
    world_size: int


class ReadAhead:
    """Batches by their step; the one after it is read in a thread while the device computes."""

    def __init__(self, draw: Callable[[int], Batch]):
        self.draw = draw
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="animatic_batches")
        self.next: tuple[int, Future[Batch]] | None = None

    def at(self, step: int, last: bool) -> Batch:
        """Raises what reading raises. last: no step comes after it."""
        step_read, reading = self.next or (None, None)
        batch = reading.result() if step_read == step else self.draw(step)
        self.next = None if last else (step + 1, self.reader.submit(self.draw, step + 1))
        return batch


def draw_batch(clips: Sequence[EncodedClip], empty_context: Tensor, draw: Draw, step: int, share: Share) -> Batch:
    """This process's part of the batch of a step, counted from 0.

    empty_context: (T, D), for captions that are dropped, so that the model also learns to do without.
    """
    numbers = range(share.rank, draw.batch_size, share.world_size)
    return stack([_draw_clip(clips, empty_context, draw, step, number) for number in numbers])


def clip_index(num_clips: int, seed: int, position: int) -> int:
    """The clip at a position of an endless sequence in which every epoch has each clip once, in its own order."""
    epoch, place = divmod(position, num_clips)
    return int(_order(num_clips, seed, epoch)[place])


@lru_cache(maxsize=2)  # a batch can reach from one epoch into the next
def _order(num_clips: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(num_clips, generator=generator_at(seed, "epoch", epoch))


def stack(batches: list[Batch]) -> Batch:
    """One batch of several; raises ValueError if their clips are of different sizes or lengths."""
    shapes = {tuple(batch.latents.shape[1:]) for batch in batches}
    if len(shapes) > 1:
        raise ValueError(
            f"clips of different sizes cannot be trained together: latents are {sorted(shapes)}. Give all one size."
        )
    joined = [torch.cat([getattr(batch, name) for batch in batches]) for name in ("latents", "noise", "t", "context")]
    beside = {name: torch.cat([batch.beside[name] for batch in batches]) for name in batches[0].beside}
    return Batch(*joined, beside)


def _draw_clip(clips: Sequence[EncodedClip], empty_context: Tensor, draw: Draw, step: int, number: int) -> Batch:
    clip = clips[clip_index(len(clips), draw.seed, step * draw.batch_size + number)]
    return clip.drawn(empty_context, draw, generator_at(draw.seed, "step", step, number))
