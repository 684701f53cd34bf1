"""A still that a motion module animates: the image inputs of PIA and AnimateLCM-I2V."""

from collections.abc import Sequence
from dataclasses import dataclass

from comfy.model_patcher import ModelPatcher
import torch
from torch import Tensor

from ....motion_modules.families import ENCODER_INPUT, PIA_INPUT
from ....motion_modules.image_encoder import with_image_channels
from ....motion_modules.motion_module import MotionModule
from ....motion_modules.temporal_transformer import resized_to
from ..core.call import Call
from ..core.latents import encode_images

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

    def likeness_of(self, frames: Sequence[int], full_length: int) -> Tensor:
        """(F,) for frames of a clip of full_length frames."""
        around = max(1, full_length - 1)
        distances = [abs(frame - self.image_frame) for frame in frames]
        if self.loop:
            distances = [min(d % around, around - d % around) for d in distances]
        return torch.tensor([self.likeness[min(d, len(self.likeness) - 1)] for d in distances])

    def encoded(self, patcher: ModelPatcher, height: int, width: int) -> "EncodedImage":
        latent = encode_images(self.vae, self.image, height, width, patcher.model.process_latent_in)
        return EncodedImage(self, latent.cpu())


class EncodedImage:
    """A still during one sampling run: its latent (1, 4, H, W), and features that are the same at every step."""

    def __init__(self, still: MotionImage, latent: Tensor):
        self.still = still
        self.latent = latent
        self._features: dict[tuple[int, ...], dict[str, Tensor]] = {}

    def first_conv(self, module: MotionModule, call: Call) -> Tensor | None:
        """(F, C, H, W) that PIA adds to the UNet's first convolution."""
        if module.config.family.image_input != PIA_INPUT:
            return None
        likeness = self.still.likeness_of(call.frames, call.full_length)
        return with_image_channels(module.conv_in, likeness, self._latent_for(call))

    def features(self, module: MotionModule, call: Call) -> dict[str, Tensor]:
        """What AnimateLCM-I2V adds to what goes into the second motion module of each down block, by site."""
        if module.config.family.image_input != ENCODER_INPUT:
            return {}
        # conds with an area run on a part of the picture, and on several graphics cards each has its own
        key = call.num_frames, *call.latents.shape[2:], call.latents.device
        if key not in self._features:
            latents = self._latent_for(call).expand(call.num_frames, -1, -1, -1)
            features = module.img_encoder(latents, self.still.drift)
            self._features[key] = {f"down_blocks.{i}.motion_modules.1": feature for i, feature in enumerate(features)}
        return self._features[key]

    def _latent_for(self, call: Call) -> Tensor:
        return resized_to(self.latent, call.latents).to(call.dtype)  # features of a whole clip are large
