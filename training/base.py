"""The frozen UNet under training, and where motion and low-rank layers go in it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
import hashlib
import re

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..motion_modules.motion_module import MotionModule
from ..motion_modules.temporal_transformer import fold_frames, unfold_frames

ATTENTION_LAYER = re.compile(r"(?:^|\.)attn[12]\.to_(?:q|k|v|out\.0)$")


@dataclass(frozen=True)
class Base:
    """A UNet in the LDM layout (`input_blocks`, `middle_block`, `output_blocks`), on its device and in its dtype.

    unet: called as unet(x (B*F, 4, H, W), t (B*F,), context (B*F, T, D)); returns the noise, shaped like x.
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


def weights_digest(module: nn.Module) -> str:
    """A short fingerprint of all weights, bit for bit."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def motion_in_unet(base: Base, motion: MotionModule, num_frames: int, recompute: bool) -> Iterator[None]:
    """Run the temporal transformers at their sites while the context lasts, as inference does.

    recompute: keep no activations of a temporal transformer but its input; backward must then be in the context too.
    """
    handles = []
    try:
        for name, transformer in motion.sites().items():
            run = partial(_recomputed, transformer) if recompute else transformer
            handles.append(base.motion_sites[name].register_forward_hook(_after(run, num_frames)))
        for norm in base.frame_norms if num_frames > 1 else ():
            handles.append(norm.register_forward_pre_hook(lambda _, args: fold_frames(args[0], num_frames)))
            handles.append(norm.register_forward_hook(lambda _, args, output: unfold_frames(output)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def blocks_recomputed(unet: nn.Module) -> Iterator[None]:
    """Gradient checkpointing: while the context lasts, every layer of every block keeps its inputs alone.

    Each call sees its own copy of the dicts that it is given: the host's UNet writes the running block's place into
    one shared dict, which at the time of recomputation holds the last block's.
    """
    layers = [layer for block in (*unet.input_blocks, unet.middle_block, *unet.output_blocks) for layer in block]
    try:
        for layer in layers:
            layer.forward = partial(_recomputed, layer.forward)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)  # the class's own is visible again


def _after(run: Callable[[Tensor, int], Tensor], num_frames: int) -> Callable:
    return lambda layer, args, output: run(output, num_frames)


def _recomputed(forward: Callable, *args, **kwargs):
    args = [_copied(value) for value in args]
    kwargs = {name: _copied(value) for name, value in kwargs.items()}

    def run(*args, **kwargs):  # once now and once in backward, each time from the same dicts
        return forward(*map(_copied, args), **{name: _copied(value) for name, value in kwargs.items()})

    return checkpoint(run, *args, use_reentrant=False, **kwargs)


def _copied(value):
    return dict(value) if isinstance(value, dict) else value
