"""Where motion goes in the host's UNet, and the hooks that put it there for the length of one call."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, UNetModel, Upsample
from torch import Tensor, nn

from ...motion_modules.config import MotionModuleConfig
from ...motion_modules.temporal_transformer import fold_frames, plus_by_frame, unfold_frames

UNET_KINDS = {768: "SD1.5", 1024: "SD2.x", 2048: "SDXL"}  # by the width of the text encoding


def unet_kind(unet: UNetModel, unet_config: dict) -> str:
    """The UNet's kind and levels in words, to stand beside `MotionModuleConfig.layout`."""
    kind = UNET_KINDS.get(unet_config.get("context_dim"), "of an unknown kind")
    widths = [
        site_channels(layer)
        for name, layer in motion_sites(unet).items()
        if name.startswith("down") and name.endswith(".0")
    ]
    return f"{kind}, {len(widths)} levels ({', '.join(map(str, widths))} channels)"


def motion_sites(unet: nn.Module) -> dict[str, nn.Module]:
    """The layer that each motion site comes after, by the site's name in motion-module files.

    unet: the host's UNetModel, or its ControlNet, which is the first half of one.
    It is the block's SpatialTransformer, or its ResBlock where it has none; so always before an Upsample, and
    before the skip connection is stored.
    """
    sites = {}
    level = index = 0
    for block in list(unet.input_blocks)[1:]:
        if any(isinstance(layer, Downsample) for layer in block):
            level, index = level + 1, 0
            continue
        sites[f"down_blocks.{level}.motion_modules.{index}"] = _site_layer(block)
        index += 1
    if unet.middle_block is not None:
        sites["mid_block.motion_modules.0"] = _site_layer(unet.middle_block)
    level = index = 0
    for block in getattr(unet, "output_blocks", ()):
        sites[f"up_blocks.{level}.motion_modules.{index}"] = _site_layer(block)
        index += 1
        if any(isinstance(layer, Upsample) for layer in block):
            level, index = level + 1, 0
    return sites


def site_channels(layer: nn.Module) -> int:
    return layer.in_channels if isinstance(layer, SpatialTransformer) else layer.out_channels


def misfit(
    unet: UNetModel, unet_config: dict, config: MotionModuleConfig, module_sites: dict[str, nn.Module]
) -> str | None:
    """Why a motion module does not fit a UNet, naming both; None if it fits."""
    kind = UNET_KINDS.get(unet_config.get("context_dim"), config.unet)
    sites = {name: site_channels(layer) for name, layer in motion_sites(unet).items()}
    if not config.has_mid_block:
        sites.pop("mid_block.motion_modules.0", None)
    wanted = {name: module.channels for name, module in module_sites.items()}
    if kind == config.unet and sites == wanted:
        return None
    return f"it is {config.family} for {config.layout}, but the model is {unet_kind(unet, unet_config)}"


@contextmanager
def motion_in_unet(
    unet: nn.Module,
    motions: list[dict[str, Callable[[Tensor], Tensor]]],
    num_frames: int,
    norm_over_frames: bool,
    ran: Counter,
    first_block_terms: Iterable[Tensor] = (),
) -> Iterator[None]:
    """Run temporal transformers inside the UNet while the context lasts.

    motions: for each motion module what runs at its sites, in the order in which they act.
    norm_over_frames: the ResBlock and output norms take their statistics over all frames of a cond.
    ran: counts, by position in `motions`, how often a temporal transformer ran.
    first_block_terms: (F, C, H, W) added to what the first convolution gives.
    """
    handles = []
    try:
        layers = motion_sites(unet)
        for number, sites in enumerate(motions):
            for name, run in sites.items():
                handles.append(layers[name].register_forward_hook(_motion_hook(run, ran, number)))
        for term in first_block_terms:
            handles.append(
                unet.input_blocks[0][0].register_forward_hook(
                    lambda _, args, output, term=term: plus_by_frame(output, term)
                )
            )
        if norm_over_frames and num_frames > 1:
            for norm in _frame_norms(unet):
                handles.append(
                    norm.register_forward_pre_hook(lambda _, args: (fold_frames(args[0], num_frames), *args[1:]))
                )
                handles.append(norm.register_forward_hook(lambda _, args, output: unfold_frames(output)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _site_layer(block: nn.Sequential) -> nn.Module:
    transformers = [layer for layer in block if isinstance(layer, SpatialTransformer)]
    return transformers[-1] if transformers else next(layer for layer in block if isinstance(layer, ResBlock))


def _motion_hook(run: Callable[[Tensor], Tensor], ran: Counter, number: int) -> Callable:
    def hook(layer: nn.Module, args: tuple, output: Tensor) -> Tensor:
        ran[number] += 1
        return run(output)

    return hook


def _frame_norms(unet: UNetModel) -> Iterator[nn.Module]:
    """The norms that v1, PIA and HotShotXL were trained to take over all frames; transformer norms stay per frame."""
    for module in unet.modules():
        if isinstance(module, ResBlock):
            yield module.in_layers[0]
            yield module.out_layers[0]
    yield unet.out[0]
