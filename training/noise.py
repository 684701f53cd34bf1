"""The forward process of diffusion and its random draws (Ho et al. 2020; AnimateDiff, arXiv 2307.04725, eq. 2).

Every draw comes from a generator of its own, seeded by where it is used: (seed, step, number in the batch). So a run
that is resumed, or spread over several processes, draws the same noise, and there is no generator state to save.
"""

import hashlib

import torch
from torch import Tensor

NUM_TIMESTEPS = 1000
FIRST_BETA, LAST_BETA = 0.00085, 0.012


def linear_betas() -> Tensor:
    """A straight line, float64: AnimateDiff's schedule, which the host calls "sqrt_linear"."""
    return torch.linspace(FIRST_BETA, LAST_BETA, NUM_TIMESTEPS, dtype=torch.float64)


def scaled_linear_betas() -> Tensor:
    """Straight in the square root, float64: Stable Diffusion's own schedule, which the host calls "linear"."""
    return torch.linspace(FIRST_BETA**0.5, LAST_BETA**0.5, NUM_TIMESTEPS, dtype=torch.float64) ** 2


# The betas by the host's name of the schedule, which stands in written files.
BETAS = {"sqrt_linear": linear_betas, "linear": scaled_linear_betas}


def alphas_cumprod(beta_schedule: str, zero_snr: bool = False) -> Tensor:
    """The share of the clean latent's variance at each timestep, (1000,) in float32.

    zero_snr: stretched so that the first stays and the last is 0 (Lin et al. 2023, arXiv 2305.08891, algorithm 1).
    """
    alphas = torch.cumprod(1.0 - BETAS[beta_schedule](), dim=0)
    if zero_snr:
        roots = alphas.sqrt()
        alphas = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
    return alphas.float()


def q_sample(latents: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Latents (B, ..) with noise of the same shape mixed in; alpha: (B,), of each clip's timestep."""
    alpha = alpha.reshape(-1, *[1] * (latents.ndim - 1)).to(latents)
    return alpha.sqrt() * latents + (1.0 - alpha).sqrt() * noise


def velocity(latents: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """v (Salimans and Ho 2022, arXiv 2202.00512), of latents and noise (B, ..); alpha: (B,), of the timesteps."""
    alpha = alpha.reshape(-1, *[1] * (latents.ndim - 1)).to(latents)
    return alpha.sqrt() * noise - (1.0 - alpha).sqrt() * latents


def generator_at(seed: int, *where: int | str) -> torch.Generator:
    """A CPU generator that is the same whenever and in whichever process the same place is asked for."""
    name = "/".join(str(part) for part in (seed, *where))
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
