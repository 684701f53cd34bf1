"""Pictures to latents of a clip's size."""

from collections.abc import Callable

import comfy.utils
from einops import rearrange
from torch import Tensor

CHANNELS = 4  # of a latent, in Stable Diffusion 1.x and 2.x and SDXL


def encode_images(
    vae, images: Tensor, height: int, width: int, process_in: Callable[[Tensor], Tensor], crop: str = "center"
) -> Tensor:
    """Images (N, H, W, 3) cropped to the shape of a latent and encoded: (N, 4, height, width), in the UNet's scale.

    crop: "center", or "disabled" to stretch them to that shape.
    """
    if vae is None:
        raise ValueError("The checkpoint brings no VAE: load one with Load VAE and connect it.")
    pixels = vae.spacial_compression_encode()
    images = rearrange(images, "n h w c -> n c h w")
    images = comfy.utils.common_upscale(images, width * pixels, height * pixels, "lanczos", crop)
    latents = vae.encode(rearrange(images, "n c h w -> n h w c")[..., :3])
    if latents.ndim != 4 or latents.shape[1] != CHANNELS:
        raise ValueError("This VAE belongs to another kind of model: connect the VAE of the checkpoint.")
    return process_in(latents)
