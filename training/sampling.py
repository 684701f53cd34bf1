"""Clips out of the network under training, to look at on the way (DDIM, Song et al. 2021, arXiv 2010.02502)."""

from collections.abc import Mapping

import torch
from torch import Tensor, autocast

from .denoiser import Denoiser
from .noise import NUM_TIMESTEPS, alphas_cumprod
from .sources import Check


def sample_clip(
    denoiser: Denoiser,
    noise: Tensor,
    context: Tensor,
    empty_context: Tensor,
    steps: int = 25,
    guidance: float = 8.0,
    check: Check = lambda: None,
    beside: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Latents (F, 4, H, W) from noise of that shape, in the UNet's scale, deterministic.

    context, empty_context: (T, D), of the caption and of "". steps, guidance: AnimateDiff's for its validation clips.
    beside: what else the network is given, by the names of its arguments.
    check: called before each step; stops the work by raising.
    """
    # what is made in a host's inference mode cannot be trained with later; leaving that mode turns gradients on
    with torch.inference_mode(False), torch.no_grad():
        device = denoiser.base.device
        stage = denoiser.stage
        alphas = alphas_cumprod(stage.beta_schedule, stage.zero_snr).to(device)
        contexts = torch.stack((context, empty_context)).to(device, torch.float32, copy=True)
        x = noise.to(device, torch.float32, copy=True)
        given = {name: value.to(device).expand(2, *value.shape) for name, value in (beside or {}).items()}
        spacing = NUM_TIMESTEPS // steps
        # Stable Diffusion's steps begin at 1; those of a schedule that ends in noise alone end at its end
        last = NUM_TIMESTEPS - 1 if stage.zero_snr else (steps - 1) * spacing + 1
        with denoiser.running(noise.shape[0]), autocast(device.type, denoiser.base.dtype, _mixed(denoiser)):
            for t in range(last, 0, -spacing):
                check()
                both = denoiser(x.expand(2, *x.shape), torch.full((2,), t, device=device), contexts, **given).float()
                predicted = both[1] + guidance * (both[0] - both[1])
                alpha, before = alphas[t], alphas[t - spacing] if t > spacing else alphas[0]
                if stage.v_prediction:
                    clean = alpha.sqrt() * x - (1 - alpha).sqrt() * predicted
                    predicted = alpha.sqrt() * predicted + (1 - alpha).sqrt() * x
                else:
                    clean = (x - (1 - alpha).sqrt() * predicted) / alpha.sqrt()
                x = before.sqrt() * clean + (1 - before).sqrt() * predicted
    return x


def _mixed(denoiser: Denoiser) -> bool:
    """The base is smaller than the float32 of what is trained."""
    return denoiser.base.dtype != torch.float32
