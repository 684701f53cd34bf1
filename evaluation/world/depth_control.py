"""A ControlNet for depth in the small world (Zhang et al. 2023, arXiv 2302.05543), learnt from stills.

The paper combines AnimateDiff with ControlNets that were trained on pictures (section 5.4): a depth sequence steers the
clip, one frame each. This one begins as the image model's own first half, with connections at zero.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...training.base import Base
from ...training.batches import Batch, Draw, EncodedClip
from ...training.denoiser import Denoiser, Parts
from ...training.stages import Stage
from .drawing import Drawn
from .learning import Clips
from .scenes import Scene

DEPTH_CONTROL = Stage("depth_control", "depth ControlNet", 1, "sqrt_linear", False, "controlnet")
CONNECTIONS = ("zero_convs", "middle_block_out", "input_hint_block.14")


@dataclass(frozen=True)
class ControlledParts(Parts):
    """depth_control: called as depth_control(x, hint, timesteps, context); gives what is added in the UNet."""

    depth_control: nn.Module | None = None


class ControlledDenoiser(Denoiser):
    """Predicts the noise of clips whose depth is given."""

    def forward(self, x: Tensor, t: Tensor, context: Tensor, hint: Tensor | None = None) -> Tensor:
        """As `Denoiser.forward`. hint: (B, F, 3, 8 H, 8 W) in 0..1."""
        num_frames = x.shape[1]
        rows = (x.flatten(0, 1), t.repeat_interleave(num_frames), context.repeat_interleave(num_frames, dim=0))
        control = self.parts.depth_control(rows[0], hint.flatten(0, 1), *rows[1:])
        return self.base.unet(*rows, control=control).unflatten(0, x.shape[:2])


@dataclass(frozen=True)
class HintedClip(EncodedClip):
    """hint: (F, 3, 8 h, 8 w) in 0..1."""

    hint: Tensor

    def drawn(self, empty_context: Tensor, draw: Draw, generator: torch.Generator) -> Batch:
        return self._hinted(super().drawn(empty_context, draw, generator))

    def fixed(self, noise: Tensor, t: int) -> Batch:
        return self._hinted(super().fixed(noise, t))

    def _hinted(self, batch: Batch) -> Batch:
        return Batch(batch.latents, batch.noise, batch.t, batch.context, {"hint": self.hint[None]})


@dataclass(frozen=True)
class HintedClips(Clips):
    def encoded(self, scene: Scene, drawn: Drawn) -> HintedClip:
        clip = super().encoded(scene, drawn)
        return HintedClip(clip.mean, clip.deviation, clip.context, hint_of(drawn))


def hint_of(drawn: Drawn) -> Tensor:
    """Depth as ControlNets for depth have it, near is light: (F, 3, H, W)."""
    return drawn.depth[:, None].expand(-1, 3, -1, -1).contiguous()


def controlled(base: Base, control: nn.Module) -> ControlledDenoiser:
    """For training the ControlNet alone."""
    return ControlledDenoiser(DEPTH_CONTROL, base, ControlledParts(depth_control=control))


def begin_as(control: nn.Module, unet: nn.Module) -> nn.Module:
    """Give a ControlNet the first half of the UNet's weights, and connections that add nothing yet."""
    shared = {key: value for key, value in unet.state_dict().items() if key in control.state_dict()}
    with torch.no_grad():
        control.load_state_dict(shared, strict=False)
        for name, parameter in control.named_parameters():
            if name.startswith(CONNECTIONS):
                parameter.zero_()
    return control
