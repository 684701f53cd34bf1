"""Pictures to latents of a clip's size."""

from collections.abc import Callable

import comfy.utils
from einops import rearrange
from torch import Tensor


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
    return process_in(vae.encode(rearrange(images, "n c h w -> n h w c")[..., :3]))
