"""A folder of the small world's programme: how much it takes at a time, and what has been trained in it."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from safetensors.torch import load_file
import torch
from torch import Tensor, nn

from ...lora.layers import LowRankLayers
from ...motion_modules.motion_module import MotionModule
from ...motion_modules.tune_a_video import TuneAVideo
from ...training.animate_anyone import AnimateDenoiser, AnimateNetworks
from ...training.base import Base
from ...training.low_rank import fresh_low_rank, temporal_attention_layers
from ...training.motion import motion_module_from
from ...training.stages import ANIMATE_ANYONE, ANIMATE_ANYONE_MOTION
from ...training.state import states
from ...training.tune_a_video import fresh_network
from .autoencoder import latents_of
from .contrastive import WorldClip, learn_clip
from .convolution import convolutional
from .dancing import first_stage_files, networks_of, second_stage
from .learning import Words, cached_words
from .models import FRAMES
from .picture_training import dancers, learn_decoder, scenes

LORA_RANK, ADAPTER_RANK = 8, 16
DANCERS_DECODER = "dancers_decoder"


@dataclass(frozen=True)
class Sizes:
    """Of a step: stills, single frames for an adapter, clips and their frames, pairs of frames.

    shown: clips of the fixed-noise loss.
    """

    stills: int = 32
    adapter: int = 16
    clips: int = 4
    num_frames: int = FRAMES
    shown: int = 4
    pairs: int = 16


SMOKE = Sizes(1, 1, 1, 2, 1, 1)


class Host(Protocol):
    """The host's classes that the world is made of."""

    def fresh_base(self, seed: int) -> Base: ...

    def fresh_control(self, seed: int) -> nn.Module: ...

    def text2video_zero(
        self,
        base: Base,
        beta_schedule: str,
        contexts: tuple[Tensor, Tensor],
        noise: Tensor,
        steps: int,
        guidance: float,
        motion: tuple[float, float],
    ) -> Tensor: ...

    def tokenize(self, caption: str) -> Tensor: ...

    def reference_names(self) -> dict[str, str]: ...


@dataclass
class World:
    """Where the programme works, for how long, and on what. seconds: of training, in all."""

    folder: Path
    host: Host
    seconds: float
    device: torch.device = torch.device("cpu")
    sizes: Sizes = Sizes()
    words: Words = field(init=False)

    def __post_init__(self):
        self.words = cached_words(self.host.tokenize)

    # ------------------------------------------------------------------------------------ what has been trained

    def weights(self, name: str) -> dict[str, Tensor]:
        """Of a row's newest state. Raises ValueError if there is none."""
        phases = sorted(self.folder.glob(f"{name}-[0-9]"))
        found = [state for phase in phases for state in states(phase)]
        if not found:
            raise ValueError(f"{self.folder} has no {name} yet: run the programme's rows in their order.")
        weights = load_file(found[-1] / "trainables.safetensors")
        return {key.removeprefix("trained."): value for key, value in weights.items()}

    def image_model(self, name: str = "image_model") -> Base:
        base = self.host.fresh_base(0)
        with torch.no_grad():
            base.unet.load_state_dict(self.weights(name))
        base.unet.to(self.device)
        return base

    def adapter(self, base: Base) -> LowRankLayers:
        layers = fresh_low_rank(base.unet, list(base.attention_layers()), ADAPTER_RANK, 0)
        layers.load_state_dict(self.weights("domain_adapter"))
        return layers

    def motion_module(self, name: str = "motion_module") -> MotionModule:
        return motion_module_from(self.weights(name))

    def depth_control(self) -> nn.Module:
        control = self.host.fresh_control(0)
        control.load_state_dict(self.weights("depth_control"))
        return control.to(self.device)

    @cached_property
    def clip(self) -> WorldClip:
        return learn_clip(self.folder / "clip.safetensors", 0.0)

    @cached_property
    def decoder(self) -> nn.Module:
        return learn_decoder(self.folder / "decoder.safetensors", 0.0, scenes)

    @cached_property
    def dancers_decoder(self) -> nn.Module:
        return learn_decoder(self.folder / f"{DANCERS_DECODER}.safetensors", 0.0, dancers)

    def pictures(self, means: Tensor) -> Tensor:
        """Mean colours (F, h, w, 3), such as a clip's, as the decoder draws them: (F, 8 h, 8 w, 3) in 0..1."""
        return decoded(self.decoder, means)

    def dancers(self, means: Tensor) -> Tensor:
        """The same of characters."""
        return decoded(self.dancers_decoder, means)

    def convolution(self) -> MotionModule:
        """The motion module that convolves over time."""
        motion = convolutional(self.motion_module("motion_module_alone"), 0)
        motion.load_state_dict(self.weights("motion_module_convolution"))
        return motion

    def tuned_video(self, direction: str, base: Base) -> TuneAVideo:
        """What Tune-A-Video learnt from a clip of a direction."""
        network = fresh_network(base, 0)
        network.load_state_dict(self.weights(tuned_name(direction)))
        return network

    def animate_networks(self, base: Base) -> AnimateNetworks:
        """What Animate Anyone's first stage trained; the base becomes the denoising UNet."""
        return networks_of(base, self.weights(ANIMATE_ANYONE))

    def animator(self, moving: bool = True) -> AnimateDenoiser:
        """Animate Anyone's networks. moving: with its motion module; otherwise each frame is by itself."""
        base = self.host.fresh_base(0)
        base.unet.to(self.device)
        motion = self.motion_module(ANIMATE_ANYONE_MOTION) if moving else None  # a new one changes nothing
        return second_stage(base, self.animate_networks(base), motion)

    def animate_files(self) -> dict[str, dict[str, Tensor]]:
        """Of both stages, by what each is."""
        base = self.host.fresh_base(0)
        files = first_stage_files(base, self.animate_networks(base), self.host.reference_names())
        return files | {ANIMATE_ANYONE_MOTION: self.weights(ANIMATE_ANYONE_MOTION)}

    def motion_lora(self, name: str, motion: MotionModule, rank: int = LORA_RANK) -> LowRankLayers:
        layers = fresh_low_rank(motion, temporal_attention_layers(motion), rank, 0)
        layers.load_state_dict(self.weights(name))
        return layers


def decoded(decoder: nn.Module, means: Tensor) -> Tensor:
    return decoder(latents_of(means)).clamp(0, 1).permute(0, 2, 3, 1)


def tuned_name(direction: str) -> str:
    """Of the row that tunes a video model on a clip of that direction."""
    return f"tuned_{direction}"
