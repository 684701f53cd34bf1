"""Where motion goes in the host's UNet, and the hooks that put it there for the length of one call."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, UNetModel, Upsample
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ....lora.layers import low_rank_added
from ....motion_modules.config import MotionModuleConfig
from ....motion_modules.temporal_transformer import fold_frames, plus_by_frame, unfold_frames
from .call import Answer

UNET_KINDS = {768: "SD1.5", 1024: "SD2.x", 2048: "SDXL"}  # by the width of the text encoding


def require_unet(model: ModelPatcher, who: str) -> UNetModel:
    """The UNet of a MODEL. Raises ValueError, naming who needs it, for a model of another kind."""
    unet = model.get_model_object("diffusion_model")
    if not isinstance(unet, UNetModel):
        raise ValueError(
            f"{who} needs a model of the Stable Diffusion 1.5 or SDXL kind, not {type(model.model).__name__}."
        )
    return unet


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


def fit_problem(
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
def answers_in_unet(
    unet: nn.Module, answers: Mapping[int, Answer], num_frames: int, acted: Counter
) -> Iterator[None]:
    """While the context lasts, the UNet runs with these answers, in their order.

    answers: by a number, under which `acted` counts the layers in which each acted.
    """
    with ExitStack() as hooks:
        layers = motion_sites(unet)
        for number, answer in answers.items():
            for use in answer.low_rank:
                hooks.enter_context(low_rank_added(use))
            for site, run in answer.at_sites.items():
                hooks.callback(layers[site].register_forward_hook(_site_hook(run, acted, number)).remove)
            if answer.first_conv is not None:
                hooks.callback(unet.input_blocks[0][0].register_forward_hook(_term_hook(answer.first_conv)).remove)
            if not answer.at_sites:
                acted[number] += 1  # nothing at a site, on purpose
        if num_frames > 1 and any(answer.norm_over_frames for answer in answers.values()):
            for norm in _frame_norms(unet):
                hooks.callback(
                    norm.register_forward_pre_hook(lambda _, args: (fold_frames(args[0], num_frames), *args[1:])).remove
                )
                hooks.callback(norm.register_forward_hook(lambda _, args, output: unfold_frames(output)).remove)
        yield


def _site_layer(block: nn.Sequential) -> nn.Module:
    transformers = [layer for layer in block if isinstance(layer, SpatialTransformer)]
    return transformers[-1] if transformers else next(layer for layer in block if isinstance(layer, ResBlock))


def _site_hook(run: Callable[[Tensor], Tensor], acted: Counter, number: int) -> Callable:
    def hook(layer: nn.Module, args: tuple, output: Tensor) -> Tensor:
        acted[number] += 1
        return run(output)

    return hook


def _term_hook(term: Tensor) -> Callable:
    return lambda layer, args, output: plus_by_frame(output, term)


def _frame_norms(unet: UNetModel) -> Iterator[nn.Module]:
    """The norms that v1, PIA and HotShotXL were trained to take over all frames; transformer norms stay per frame."""
    for module in unet.modules():
        if isinstance(module, ResBlock):
            yield module.in_layers[0]
            yield module.out_layers[0]
    yield unet.out[0]
