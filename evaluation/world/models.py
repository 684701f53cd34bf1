"""The parts that the small world trains, put together to sample clips from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...lora.layers import LowRankLayers
from ...lora.low_rank import combine
from ...motion_modules.motion_module import MotionModule
from ...training.base import Base
from ...training.denoiser import Denoiser, Parts
from ...training.low_rank import low_rank_layers, low_rank_of
from ...training.noise import NUM_TIMESTEPS, alphas_cumprod, generator_at
from ...training.sampling import sample_clip
from ...training.stages import MOTION_MODULE, STAGES, Stage
from .autoencoder import FACTOR, colours
from .depth_control import ControlledDenoiser, ControlledParts
from .learning import Words, image_denoiser
from .scenes import SIZE, Scene

FRAMES = 8
GUIDANCE = 3.0  # enough for a world of a few words
SCHEDULE = STAGES[MOTION_MODULE].beta_schedule  # of everything here, so that no part has to make up for another's


@dataclass(frozen=True)
class Sampling:
    """steps: of DDIM. guidance: of the prompt over the empty one."""

    steps: int = 20
    guidance: float = GUIDANCE
    num_frames: int = FRAMES


@dataclass(frozen=True)
class Animator:
    """Image model, motion module, adapter and MotionLoRAs, of which only the first has to be there.

    loras: each with its strength. depth_control: a ControlNet that clips with a hint follow.
    stage: the motion module's, with its betas.
    """

    base: Base
    words: Words
    motion: MotionModule | None = None
    adapter: LowRankLayers | None = None
    adapter_scale: float = 1.0
    loras: Sequence[tuple[LowRankLayers, float]] = ()
    depth_control: nn.Module | None = None
    stage: Stage = STAGES[MOTION_MODULE]

    def sample(self, caption: str, seed: int, sampling: Sampling, hint: Tensor | None = None) -> Tensor:
        """Latents (F, 4, h, w). hint: depth, (F, 3, H, W)."""
        beside = None if hint is None else {"hint": hint}
        return sampled(self.denoiser(), self.words, caption, clip_noise(seed, sampling), sampling, beside)

    def colours(self, scene: Scene, seed: int, sampling: Sampling, hint: Tensor | None = None) -> Tensor:
        """What the scene's words become, as colours (F, h, w, 3) in 0..1."""
        return colours(self.sample(scene.caption, seed, sampling, hint))

    def denoiser(self) -> Denoiser:
        parts = Parts(self.adapter, self.motion, together(self.loras), domain_adapter_scale=self.adapter_scale)
        if self.depth_control is not None:
            parts = ControlledParts(**vars(parts), depth_control=self.depth_control)
            return ControlledDenoiser(self.stage, self.base, parts)
        if self.motion is not None:
            return Denoiser(self.stage, self.base, parts)
        return image_denoiser(self.base, self.adapter, self.adapter_scale)


def clip_noise(seed: int, sampling: Sampling) -> Tensor:
    """What every clip of a seed begins with, (F, 4, h, w)."""
    shape = (sampling.num_frames, 4, SIZE // FACTOR, SIZE // FACTOR)
    return torch.randn(shape, generator=generator_at(seed, "sample"))


def sampled(
    denoiser: Denoiser,
    words: Words,
    caption: str,
    noise: Tensor,
    sampling: Sampling,
    beside: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Latents (F, 4, h, w) out of a denoiser and noise of that shape. beside: what else it is given."""
    contexts = words(caption), words("")
    return sample_clip(denoiser, noise, *contexts, sampling.steps, sampling.guidance, beside=beside).cpu()


def inverted(denoiser: Denoiser, latents: Tensor, context: Tensor, steps: int) -> Tensor:
    """The noise (F, 4, h, w) that `sample_clip` makes these latents of again, about, with a guidance of 1.

    DDIM backwards (Song et al. 2021, arXiv 2010.02502, section 4.3). context: (T, D), of the caption.
    """
    device, spacing = denoiser.base.device, NUM_TIMESTEPS // steps
    alphas = alphas_cumprod(denoiser.stage.beta_schedule).to(device)
    x, context = latents.to(device)[None], context.to(device)[None]
    with torch.no_grad(), denoiser.running(latents.shape[0]):
        before = alphas[0]
        for t in range(1, NUM_TIMESTEPS, spacing):
            predicted = denoiser(x, torch.full((1,), t, device=device), context)
            clean = (x - (1 - before).sqrt() * predicted) / before.sqrt()
            before = alphas[t]
            x = before.sqrt() * clean + (1 - before).sqrt() * predicted
    return x[0].cpu()


def together(loras: Sequence[tuple[LowRankLayers, float]]) -> LowRankLayers | None:
    """The sum of low-rank changes, each times its strength."""
    if not loras:
        return None
    changes = combine((low_rank_of(layers, 1.0), strength) for layers, strength in loras)
    return low_rank_layers({target.removesuffix(".weight"): change for target, change in changes.items()})
