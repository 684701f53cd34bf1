"""The noise that a clip starts from: shared between windows, blended with an image, refined by earlier passes.

One wrapper does all three, so that their order does not depend on the order of nodes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
import logging

import comfy.model_management
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
import torch
from torch import Tensor

from ...motion_modules.free_init import mix_frequencies
from ...motion_modules.keyframes import Keyframes
from ...motion_modules.windows import free_noise, rows_of
from .arguments import call_with, named_arguments
from .motion_image import encode

logger = logging.getLogger(__name__)
KEY = "animatic_noise"
FRESH = 0x5EED  # on the seed, which by itself would give the noise that the run began with


@dataclass(frozen=True, eq=False)
class StartImage:
    """image: (N, H, W, 3), frame by frame, the last one staying. weight: its share in the noise, by frame."""

    image: Tensor
    vae: object
    weight: Keyframes


@dataclass(frozen=True, eq=False)
class NoiseOptions:
    """shared: context length and overlap of FreeNoise. iterations: FreeInit's passes, 1 for plain sampling."""

    shared: tuple[int, int] | None = None
    start: StartImage | None = None
    iterations: int = 1


def set_noise_options(model: ModelPatcher, **changes) -> ModelPatcher:
    """A clone of `model` with these fields of its NoiseOptions changed.

    Raises ValueError for a model of another kind than Stable Diffusion, whose noise means something else.
    """
    if not isinstance(model.get_model_object("diffusion_model"), UNetModel):
        raise ValueError(
            f"This node is for Stable Diffusion 1.5 and SDXL models, not for {type(model.model).__name__}."
        )
    model = model.clone()
    model.set_attachments(KEY, replace(model.get_attachment(KEY) or NoiseOptions(), **changes))
    model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, KEY)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, sample_from_noise)
    return model


def sample_from_noise(executor, *args, **kwargs):
    """OUTER_SAMPLE wrapper: FreeNoise wherever noise is added; image and FreeInit in runs from an empty latent."""
    call = named_arguments(executor, args, kwargs)
    patcher, noise, seed = executor.class_obj.model_patcher, call["noise"], call.get("seed") or 0
    options = patcher.get_attachment(KEY)
    if options.shared and noise.shape[0] > options.shared[0]:
        noise = free_noise(noise, *options.shared, torch.Generator().manual_seed(seed))
    adds_noise = bool(noise.any())
    pure = adds_noise and not call["latent_image"].any()
    if adds_noise and not pure and (options.start or options.iterations > 1):
        logger.warning("Start From Image and FreeInit do nothing here: the latent that comes in is not empty.")
    finishes = float(call["sigmas"][-1]) == 0
    if pure and not finishes and options.iterations > 1:
        logger.warning("FreeInit does nothing here: the run ends before all noise is gone.")
    if pure and options.start:
        noise = blended(noise, options.start, patcher.model.process_latent_in)

    def sampled(noise: Tensor) -> Tensor:
        changed_args, changed_kwargs = call_with(executor, args, kwargs, noise=noise)
        return executor(*changed_args, **changed_kwargs)

    output, first = sampled(noise), noise
    generator = torch.Generator().manual_seed(seed ^ FRESH)
    for _ in range(options.iterations - 1 if pure and finishes else 0):
        comfy.model_management.throw_exception_if_processing_interrupted()
        clean = patcher.model.process_latent_in(output.to(noise))
        output = sampled(refined(clean, first, call["sigmas"][0].to(noise), generator))
    return output


def blended(noise: Tensor, start: StartImage, process_in: Callable[[Tensor], Tensor]) -> Tensor:
    """Noise has unit variance, as latents in the UNet's scale have, so a weight is a share of both."""
    num_frames = noise.shape[0]
    latents = encode(start.vae, start.image[:num_frames], *noise.shape[-2:], process_in).to(noise)
    rows = rows_of(latents, range(num_frames), last_stays=True)
    weight = torch.tensor(start.weight.over(range(num_frames))).to(noise)
    return torch.lerp(noise, rows, weight[:, None, None, None])


def refined(clean: Tensor, first: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
    """FreeInit's next noise: the last result noised again with the first noise, its detail replaced by fresh noise."""
    diffused = (clean + sigma * first) / (1 + sigma**2) ** 0.5
    fresh = torch.randn(first.shape, generator=generator, dtype=torch.float32).to(first)
    return mix_frequencies(diffused, fresh)
