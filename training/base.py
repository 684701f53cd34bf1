"""The frozen UNet under training, and where motion and low-rank layers go in it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
import hashlib
import re

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..motion_modules.changed_forward import Change, on_output
from ..motion_modules.motion_module import MotionModule
from ..motion_modules.temporal_transformer import norms_over_frames

TRANSFORMER_BLOCK = re.compile(r"(?:^|\.)transformer_blocks\.\d+$")
ATTENTION_LAYER = re.compile(r"(?:^|\.)attn[12]\.to_(?:q|k|v|out\.0)$")


@dataclass(frozen=True)
class Base:
    """A UNet in the LDM layout (`input_blocks`, `middle_block`, `output_blocks`), on its device and in its dtype.

    unet: called as unet(x (B*F, 4, H, W), t (B*F,), context (B*F, T, D)); returns the noise, shaped like x. A dict
        `transformer_options` that it is given too reaches its self-attentions under that name.
    motion_sites: the layer that each temporal transformer comes after, by the site's name in motion-module files.
    site_channels: the UNet's width there, by the same names.
    frame_norms: norms that take their statistics over all frames of a clip; none but for motion modules of a family
        that is trained so (AnimateDiff v1).
    """

    unet: nn.Module
    motion_sites: Mapping[str, nn.Module]
    site_channels: Mapping[str, int]
    frame_norms: tuple[nn.Module, ...] = ()

    @property
    def dtype(self) -> torch.dtype:
        return next(self.unet.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    def attention_layers(self) -> dict[str, str]:
        """The spatial attentions' q, k, v and out layers: path in this UNet -> path in diffusers' UNet.

        The attention that diffusers calls `down_blocks.0.attentions.1` is in the layer that
        `down_blocks.0.motion_modules.1` comes after.
        """
        own_paths = {module: path for path, module in self.unet.named_modules()}
        return {
            own_paths[layer]: f"{site.replace('motion_modules', 'attentions')}.{name}"
            for site, site_layer in self.motion_sites.items()
            for name, layer in site_layer.named_modules()
            if ATTENTION_LAYER.search(name)
        }

    def transformer_blocks(self) -> dict[str, nn.Module]:
        """Those of the spatial transformers, by their names in diffusers' UNet."""
        return {
            f"{site.replace('motion_modules', 'attentions')}.{name}": block
            for site, layer in self.motion_sites.items()
            for name, block in layer.named_modules()
            if TRANSFORMER_BLOCK.search(name)
        }


def weights_digest(weights: nn.Module | Mapping[str, Tensor]) -> str:
    """A short fingerprint of all weights, bit for bit; of a network, or by name."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted((weights.state_dict() if isinstance(weights, nn.Module) else weights).items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def motion_changes(base: Base, motion: MotionModule, num_frames: int, recompute: bool) -> Iterator[Change]:
    """For `changed_forwards`: the temporal transformers run at their sites, as in inference.

    recompute: keep no activations of a temporal transformer but its input; backward must then be in the context too.
    """
    for name, transformer in motion.sites.items():
        run = partial(_recomputed, transformer) if recompute else transformer
        yield base.motion_sites[name], on_output(partial(run, num_frames=num_frames))
    yield from norms_over_frames(base.frame_norms, num_frames)


def recomputed_blocks(unet: nn.Module) -> Iterator[Change]:
    """For `changed_forwards`: gradient checkpointing, every layer of every block keeps its inputs alone.

    Each call sees its own copy of the dicts that it is given: the host's UNet writes the running block's place into
    one shared dict, which at the time of recomputation holds the last block's.
    """
    for block in (*unet.input_blocks, unet.middle_block, *unet.output_blocks):
        for layer in block:
            yield layer, recomputed


def recomputed(forward: Callable) -> Callable:
    """A change: the layer keeps its inputs alone, and runs once more in backward."""
    return partial(_recomputed, forward)


def _recomputed(forward: Callable, *args, **kwargs):
    args = [_copied(value) for value in args]
    kwargs = {name: _copied(value) for name, value in kwargs.items()}

    def run(*args, **kwargs):  # once now and once in backward, each time from the same dicts
        return forward(*map(_copied, args), **{name: _copied(value) for name, value in kwargs.items()})

    return checkpoint(run, *args, use_reentrant=False, **kwargs)


def _copied(value):
    return dict(value) if isinstance(value, dict) else value
