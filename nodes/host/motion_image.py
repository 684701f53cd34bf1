"""A still that a motion module animates: the image inputs of PIA and AnimateLCM-I2V."""

from collections.abc import Callable
from dataclasses import dataclass

import comfy.utils
import torch
from torch import Tensor

from ...motion_modules.config import ANIMATELCM_I2V, PIA
from ...motion_modules.image_encoder import with_image_channels
from ...motion_modules.motion_module import MotionModule
from ...motion_modules.temporal_transformer import plus_by_frame

# How alike frames stay to the image, by their distance from it; the last number goes on (PIA's own settings).
LIKENESS = {
    "small": (1, 0.9, 0.85, 0.85, 0.85, 0.8),
    "moderate": (1, 0.8, 0.8, 0.8, 0.79, 0.78, 0.75),
    "large": (1, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.5),
    "small style transfer": (0.5, 0.2),
    "moderate style transfer": (0.5, 0.4, 0.4, 0.4, 0.35, 0.35, 0.3, 0.25, 0.2),
    "large style transfer": (0.5, 0.4, 0.4, 0.4, 0.35, 0.3),
}


@dataclass(frozen=True, eq=False)
class MotionImage:
    """image: (1, H, W, 3). likeness: PIA's mask by distance from image_frame; `loop` counts the distance on a circle
    on which first and last frame meet. drift: how much AnimateLCM-I2V lets the frames differ from the image.
    """

    image: Tensor
    vae: object
    likeness: tuple[float, ...] = LIKENESS["small"]
    image_frame: int = 0
    loop: bool = False
    drift: float = 0.5

    def likeness_of(self, frames: list[int], full_length: int) -> Tensor:
        """(F,) for frames of a clip of full_length frames."""
        around = max(1, full_length - 1)
        distances = [abs(frame - self.image_frame) for frame in frames]
        if self.loop:
            distances = [min(d % around, around - d % around) for d in distances]
        return torch.tensor([self.likeness[min(d, len(self.likeness) - 1)] for d in distances])


def encode(vae, images: Tensor, height: int, width: int, process_in: Callable[[Tensor], Tensor]) -> Tensor:
    """Images (N, H, W, 3) cropped to the shape of a latent and encoded: (N, 4, height, width), in the UNet's scale."""
    if vae is None:
        raise ValueError("The checkpoint brings no VAE: load one with Load VAE and connect it.")
    pixels = vae.spacial_compression_encode()
    images = comfy.utils.common_upscale(images.movedim(-1, 1), width * pixels, height * pixels, "lanczos", "center")
    return process_in(vae.encode(images.movedim(1, -1)[..., :3]))


def first_block_term(
    module: MotionModule, still: MotionImage, latent: Tensor, frames: list[int], full_length: int
) -> Tensor | None:
    """(F, C, H, W) that PIA adds to the UNet's first convolution."""
    if module.config.image_input != PIA:
        return None
    return with_image_channels(module.conv_in, still.likeness_of(frames, full_length), latent)


def site_terms(module: MotionModule, still: MotionImage, latent: Tensor, num_frames: int) -> dict[str, Tensor]:
    """What AnimateLCM-I2V adds to what goes into the second motion module of each down block, by site."""
    if module.config.image_input != ANIMATELCM_I2V:
        return {}
    features = module.img_encoder(latent.expand(num_frames, -1, -1, -1), still.drift)
    return {f"down_blocks.{level}.motion_modules.1": feature for level, feature in enumerate(features)}


def with_term(run: Callable[[Tensor], Tensor], term: Tensor | None) -> Callable[[Tensor], Tensor]:
    """`run` on its input with a term for each frame added."""
    return run if term is None else lambda x: run(plus_by_frame(x, term))
