"""Clips that begin from an image, and FreeInit: both change the noise that sampling starts from."""

from dataclasses import dataclass

import comfy.model_management
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
import torch
from torch import Tensor

from ...motion_modules.free_init import mix_frequencies
from ...motion_modules.keyframes import Keyframes
from .arguments import call_with, named_arguments
from .motion_image import encode

START = "animatic_start_image"
FREE_INIT = "animatic_free_init"
FRESH = 0x5EED  # on the seed, which by itself would give the noise that the run began with


@dataclass(frozen=True, eq=False)
class StartImage:
    """image: (N, H, W, 3), frame by frame, the last one staying. weight: its share in the noise, by frame."""

    image: Tensor
    vae: object
    weight: Keyframes


def start_from_image(model: ModelPatcher, start: StartImage) -> ModelPatcher:
    """A clone of `model` whose sampling from pure noise starts from weight * image + (1 - weight) * noise."""
    return _with_wrapper(model, START, start, blend_start)


def free_init(model: ModelPatcher, iterations: int) -> ModelPatcher:
    """A clone of `model` that samples `iterations` times in all, from noise refined in between."""
    return _with_wrapper(model, FREE_INIT, iterations, refine_noise)


def _with_wrapper(model: ModelPatcher, key: str, attachment, wrapper) -> ModelPatcher:
    model = model.clone()
    model.set_attachments(key, attachment)
    model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, key)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, key, wrapper)
    return model


def blend_start(executor, *args, **kwargs):
    """OUTER_SAMPLE wrapper: the image goes into the noise, which has unit variance as latents in the UNet's scale."""
    call = named_arguments(executor, args, kwargs)
    patcher, noise = executor.class_obj.model_patcher, call["noise"]
    if starts_from_noise(patcher, call):
        start = patcher.get_attachment(START)
        images = start.image[: noise.shape[0]]
        latents = encode(start.vae, images, *noise.shape[-2:], patcher.model.process_latent_in).to(noise)
        rows = latents[[min(frame, len(latents) - 1) for frame in range(noise.shape[0])]]
        weight = torch.tensor(start.weight.over(range(noise.shape[0]))).to(noise)[:, None, None, None]
        args, kwargs = call_with(executor, args, kwargs, noise=torch.lerp(noise, rows, weight))
    return executor(*args, **kwargs)


def refine_noise(executor, *args, **kwargs):
    """OUTER_SAMPLE wrapper: FreeInit, in runs that start from pure noise."""
    call = named_arguments(executor, args, kwargs)
    patcher, noise = executor.class_obj.model_patcher, call["noise"]
    output = executor(*args, **kwargs)
    if not starts_from_noise(patcher, call):
        return output
    sigma = call["sigmas"][0].to(noise)
    generator = torch.Generator().manual_seed((call.get("seed") or 0) ^ FRESH)
    first = noise
    for _ in range(patcher.get_attachment(FREE_INIT) - 1):
        comfy.model_management.throw_exception_if_processing_interrupted()
        clean = patcher.model.process_latent_in(output.to(noise))
        diffused = (clean + sigma * first) / (1 + sigma**2) ** 0.5
        fresh = torch.randn(noise.shape, generator=generator, dtype=torch.float32).to(noise)
        noise = mix_frequencies(diffused, fresh)
        args, kwargs = call_with(executor, args, kwargs, noise=noise)
        output = executor(*args, **kwargs)
    return output


def starts_from_noise(patcher: ModelPatcher, call: dict) -> bool:
    """Whether a run begins at the top of the noise schedule on an empty latent."""
    if call["latent_image"].any() or not call["noise"].any():
        return False
    top = float(patcher.get_model_object("model_sampling").sigma_max)
    return float(call["sigmas"][0]) >= top * 0.99
