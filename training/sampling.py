"""Clips out of the network under training, to look at on the way (DDIM, Song et al. 2021, arXiv 2010.02502)."""

import torch
from torch import Tensor

from .denoiser import Denoiser
from .noise import NUM_TIMESTEPS, alphas_cumprod
from .sources import Check


@torch.no_grad()
def sample_clip(
    denoiser: Denoiser,
    noise: Tensor,
    context: Tensor,
    empty_context: Tensor,
    steps: int = 25,
    guidance: float = 8.0,
    check: Check = lambda: None,
) -> Tensor:
    """Latents (F, 4, H, W) from noise of that shape, in the UNet's scale, deterministic.

    context, empty_context: (T, D), of the caption and of "". steps, guidance: AnimateDiff's for its validation clips.
    check: called before each step; stops the work by raising.
    """
    with torch.inference_mode(False):  # what is made in a host's inference mode cannot be trained with later
        device = denoiser.base.device
        alphas = alphas_cumprod(denoiser.stage.beta_schedule).to(device)
        contexts = torch.stack((context, empty_context)).to(device, torch.float32, copy=True)
        x = noise.to(device, torch.float32, copy=True)
        spacing = NUM_TIMESTEPS // steps
        with denoiser.running(noise.shape[0]), torch.autocast(device.type, denoiser.base.dtype, _mixed(denoiser)):
            for t in range((steps - 1) * spacing + 1, 0, -spacing):  # Stable Diffusion's steps begin at 1
                check()
                both = denoiser(x.expand(2, *x.shape), torch.full((2,), t, device=device), contexts).float()
                predicted = both[1] + guidance * (both[0] - both[1])
                alpha, before = alphas[t], alphas[t - spacing] if t > spacing else alphas[0]
                clean = (x - (1 - alpha).sqrt() * predicted) / alpha.sqrt()
                x = before.sqrt() * clean + (1 - before).sqrt() * predicted
    return x


def _mixed(denoiser: Denoiser) -> bool:
    """The base is smaller than the float32 of what is trained."""
    return denoiser.base.dtype != torch.float32
