"""The network under training: a frozen UNet with the parts of AnimateDiff around it, one of which learns."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..lora.layers import LowRankLayers, LowRankUse
from ..motion_modules.changed_forward import Change, changed_forwards
from ..motion_modules.motion_module import MotionModule
from .base import Base, motion_changes, recomputed_blocks
from .low_rank import adapter_weights, fresh_low_rank, motion_lora_weights, temporal_attention_layers
from .motion import fresh_motion_module
from .stages import DOMAIN_ADAPTER, MOTION_LORA, MOTION_MODULE, Stage


@dataclass(frozen=True)
class Parts:
    """What acts inside the UNet beside its own layers; None: there is none.

    scales: what the low-rank parts are multiplied by: alpha / rank while they learn, a strength when they are frozen.
    """

    domain_adapter: LowRankLayers | None = None
    motion_module: MotionModule | None = None
    motion_lora: LowRankLayers | None = None
    domain_adapter_scale: float = 1.0
    motion_lora_scale: float = 1.0


@dataclass(frozen=True)
class LowRankSize:
    """rank: of each low-rank change. alpha: it is scaled by alpha / rank; None: by 1."""

    rank: int = 16
    alpha: float | None = None

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha / self.rank


class Denoiser(nn.Module):
    """Predicts the noise of clips. Its parameters and its state dict are what the stage trains, and nothing else.

    The frozen parts are not registered, so that neither an optimizer nor a process group sees them.
    """

    def __init__(self, stage: Stage, base: Base, parts: Parts):
        """The part that learns goes to the base's device in float32, the others in the base's dtype."""
        super().__init__()
        self.stage, self.base, self.parts = stage, base, parts
        base.unet.requires_grad_(False)
        trained = getattr(parts, stage.name)
        for name in (DOMAIN_ADAPTER, MOTION_MODULE, MOTION_LORA):
            part = getattr(parts, name)
            if part is not None and part is not trained:
                freeze(part, base)
        self.trained = trained.to(base.device, torch.float32).requires_grad_(True)

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """The predicted noise of x (B, F, 4, H, W), in its shape; inside `running` alone.

        t: (B,), one timestep for all frames of a clip. context: (B, T, D), the encoded caption of each clip.
        """
        num_frames, dtype = x.shape[1], self.base.dtype
        noise = self.base.unet(
            x.flatten(0, 1).to(dtype),
            t.repeat_interleave(num_frames),
            context.repeat_interleave(num_frames, dim=0).to(dtype),
        )
        return noise.unflatten(0, x.shape[:2])

    @contextmanager
    def running(self, num_frames: int, recompute: bool = False) -> Iterator[None]:
        """While the context lasts, the parts act inside the UNet.

        recompute: gradient checkpointing; then backward has to run inside the context, because it runs the layers a
        second time.
        """
        with changed_forwards(self._changes(num_frames, recompute)):
            yield

    def _changes(self, num_frames: int, recompute: bool) -> Iterator[Change]:
        base, parts = self.base, self.parts
        if parts.domain_adapter is not None:
            yield from LowRankUse(base.unet, parts.domain_adapter, parts.domain_adapter_scale).changes()
        if parts.motion_lora is not None:
            yield from LowRankUse(parts.motion_module, parts.motion_lora, parts.motion_lora_scale).changes()
        if recompute:
            yield from recomputed_blocks(base.unet)
        if parts.motion_module is not None:  # after the blocks, each of which is recomputed without its motion
            yield from motion_changes(base, parts.motion_module, num_frames, recompute)

    def file_weights(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """What was learnt, in the keys that loaders know, on the CPU."""
        if self.stage.name == DOMAIN_ADAPTER:
            paths = self.base.attention_layers()
            weights = adapter_weights(self.trained, self.parts.domain_adapter_scale, paths)
        elif self.stage.name == MOTION_LORA:
            weights = motion_lora_weights(self.trained, self.parts.motion_lora_scale)
        else:
            weights = self.trained.state_dict()
        return {key: value.detach().to("cpu", dtype).contiguous() for key, value in weights.items()}

    def files(self, dtype: torch.dtype = torch.float32) -> dict[str, dict[str, Tensor]]:
        """The weights of each file that the stage writes, by what it is; "" for the only one."""
        return {"": self.file_weights(dtype)}


def fresh_denoiser(
    stage: Stage,
    base: Base,
    frozen: Parts,
    seed: int,
    low_rank: LowRankSize = LowRankSize(),
    max_frames: int = 32,
    mid_block: bool = False,
) -> Denoiser:
    """A network whose trained part changes nothing yet; a motion module that is given is trained further.

    max_frames, mid_block: of a new motion module: the longest clip that it will know, and AnimateDiff v2's layout
    instead of v3's. Raises ValueError if a MotionLoRA has no motion module to change.
    """
    if stage.name == DOMAIN_ADAPTER:
        layers = fresh_low_rank(base.unet, list(base.attention_layers()), low_rank.rank, seed)
        return Denoiser(stage, base, Parts(domain_adapter=layers, domain_adapter_scale=low_rank.scale))
    if stage.name == MOTION_MODULE:
        if frozen.motion_module is None:
            frozen = replace(frozen, motion_module=new_motion_module(base, max_frames, mid_block, seed))
        return Denoiser(stage, base, frozen)
    if frozen.motion_module is None:
        raise ValueError("a MotionLoRA changes a motion module: choose the one that it shall be for.")
    layers = fresh_low_rank(frozen.motion_module, temporal_attention_layers(frozen.motion_module), low_rank.rank, seed)
    return Denoiser(stage, base, replace(frozen, motion_lora=layers, motion_lora_scale=low_rank.scale))


def new_motion_module(base: Base, max_frames: int, mid_block: bool, seed: int) -> MotionModule:
    """One for the base's UNet that changes nothing yet."""
    sites = {site: c for site, c in base.site_channels.items() if mid_block or not site.startswith("mid_block")}
    return fresh_motion_module(sites, max_frames, seed)


def freeze(module: nn.Module, base: Base) -> None:
    module.requires_grad_(False).to(base.device)
    for parameter in module.parameters():  # position tables are no parameters; they stay in float32
        parameter.data = parameter.data.to(base.dtype)
