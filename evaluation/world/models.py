"""The parts that the small world trains, put together to sample clips from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...lora.layers import LowRankLayers
from ...lora.low_rank import combine
from ...motion_modules.motion_module import MotionModule
from ...training.base import Base
from ...training.denoiser import Denoiser, Parts
from ...training.low_rank import low_rank_layers, low_rank_of
from ...training.noise import generator_at
from ...training.sampling import sample_clip
from ...training.stages import MOTION_MODULE, STAGES
from .autoencoder import FACTOR, colours
from .learning import Words, image_denoiser
from .scenes import SIZE, Scene

FRAMES = 8
GUIDANCE = 3.0  # enough for a world of a few words


@dataclass(frozen=True)
class Sampling:
    """steps: of DDIM. guidance: of the prompt over the empty one."""

    steps: int = 20
    guidance: float = GUIDANCE
    num_frames: int = FRAMES


@dataclass(frozen=True)
class Animator:
    """Image model, motion module, adapter and MotionLoRAs, of which only the first has to be there.

    loras: each with its strength.
    """

    base: Base
    words: Words
    motion: MotionModule | None = None
    adapter: LowRankLayers | None = None
    adapter_scale: float = 1.0
    loras: Sequence[tuple[LowRankLayers, float]] = ()

    def sample(self, caption: str, seed: int, sampling: Sampling) -> Tensor:
        """Latents (F, 4, h, w)."""
        shape = (sampling.num_frames, 4, SIZE // FACTOR, SIZE // FACTOR)
        noise = torch.randn(shape, generator=generator_at(seed, "sample"))
        contexts = self.words(caption), self.words("")
        return sample_clip(self.denoiser(), noise, *contexts, sampling.steps, sampling.guidance).cpu()

    def colours(self, scene: Scene, seed: int, sampling: Sampling) -> Tensor:
        """What the scene's words become, as colours (F, h, w, 3) in 0..1."""
        return colours(self.sample(scene.caption, seed, sampling))

    def denoiser(self) -> Denoiser:
        parts = Parts(self.adapter, self.motion, together(self.loras), domain_adapter_scale=self.adapter_scale)
        if self.motion is not None:
            return Denoiser(STAGES[MOTION_MODULE], self.base, parts)
        return image_denoiser(self.base, self.adapter, self.adapter_scale)


def together(loras: Sequence[tuple[LowRankLayers, float]]) -> LowRankLayers | None:
    """The sum of low-rank changes, each times its strength."""
    if not loras:
        return None
    changes = combine((low_rank_of(layers, 1.0), strength) for layers, strength in loras)
    return low_rank_layers({target.removesuffix(".weight"): change for target, change in changes.items()})
