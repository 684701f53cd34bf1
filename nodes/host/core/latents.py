"""Pictures to latents of a clip's size."""

from collections.abc import Callable

import comfy.utils
from torch import Tensor


def encode_images(vae, images: Tensor, height: int, width: int, process_in: Callable[[Tensor], Tensor]) -> Tensor:
    """Images (N, H, W, 3) cropped to the shape of a latent and encoded: (N, 4, height, width), in the UNet's scale."""
    if vae is None:
        raise ValueError("The checkpoint brings no VAE: load one with Load VAE and connect it.")
    pixels = vae.spacial_compression_encode()
    images = comfy.utils.common_upscale(images.movedim(-1, 1), width * pixels, height * pixels, "lanczos", "center")
    return process_in(vae.encode(images.movedim(1, -1)[..., :3]))
