"""Where motion goes in the host's UNet, and how it gets there for the length of one call."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
import math

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, ResBlock, UNetModel, Upsample
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ....motion_modules.changed_forward import Change, Forward, changed_forwards, on_input, on_output
from ....motion_modules.config import MotionModuleConfig
from ....motion_modules.temporal_transformer import norms_over_frames, plus_by_frame
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


def self_attentions(unet: nn.Module) -> dict[str, nn.Module]:
    """Every spatial self-attention, by its block's name in diffusers, from the UNet's beginning to its end."""
    return {name: block.attn1 for name, block in transformer_blocks(unet).items()}


def transformer_blocks(unet: nn.Module) -> dict[str, nn.Module]:
    """The spatial transformers' blocks by their names in diffusers, from the UNet's beginning to its end."""
    return {
        f"{site.replace('motion_modules', 'attentions')}.transformer_blocks.{number}": block
        for site, layer in motion_sites(unet).items()
        if isinstance(layer, SpatialTransformer)
        for number, block in enumerate(layer.transformer_blocks)
    }


def self_attention_numbers(unet: nn.Module, height: int, width: int) -> int:
    """How many numbers go into all spatial self-attentions together for one frame of this latent size."""
    sites, numbers = motion_sites(unet), 0
    for site, layer in sites.items():
        if isinstance(layer, SpatialTransformer):
            halved = 2 ** _level(site, _levels(sites))
            tokens = math.ceil(height / halved) * math.ceil(width / halved)
            numbers += tokens * sum(block.attn1.to_q.in_features for block in layer.transformer_blocks)
    return numbers


def site_channels(layer: nn.Module) -> int:
    return layer.in_channels if isinstance(layer, SpatialTransformer) else layer.out_channels


def feed_forward_slices(unet: UNetModel) -> dict[str, int]:
    """In how many parts a motion module's feed-forward runs at sites where it would set the UNet's peak of memory.

    A feed-forward holds 3 numbers for each token and channel before its hidden layer and 16 in it, the UNet's own as
    ours; ours keeps one more, its result. Where a block has a SpatialTransformer, that is as large already, and slices
    would only fetch offloaded weights again. Blocks without one, as SDXL's first level, go beyond what the UNet needs.
    """
    sites = motion_sites(unet)
    sizes = {site: site_channels(layer) / 4 ** _level(site, _levels(sites)) for site, layer in sites.items()}
    own = max((sizes[site] for site, layer in sites.items() if isinstance(layer, SpatialTransformer)), default=math.inf)
    return {site: math.ceil(16 / max(1, 19 * own / size - 4)) for site, size in sizes.items() if size > own}


def _levels(sites: Iterable[str]) -> int:
    return 1 + max(int(site.split(".")[1]) for site in sites if site.startswith("down"))


def _level(site: str, levels: int) -> int:
    """How often the picture was halved where the site is."""
    block, _, number = site.split(".motion_modules")[0].partition(".")
    return {"down_blocks": int(number or 0), "up_blocks": levels - 1 - int(number or 0)}.get(block, levels - 1)


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
    layout = unet_kind(unet, unet_config)
    if layout == config.layout:
        one = next(name for name in (*sites, *wanted) if sites.get(name) != wanted.get(name))
        return (
            f"it is {config.family} for {len(wanted)} places in {config.layout}, and the model has {len(sites)}; they "
            f"differ at {one}: {_width(wanted, one)} there, the model {_width(sites, one)}"
        )
    return f"it is {config.family} for {config.layout}, but the model is {layout}"


def _width(channels: Mapping[str, int], site: str) -> str:
    return f"has {channels[site]} channels" if site in channels else "has nothing"


@contextmanager
def answers_in_unet(unet: nn.Module, answers: Mapping[int, Answer], num_frames: int, acted: Counter) -> Iterator[None]:
    """While the context lasts, the UNet runs with these answers, in their order.

    answers: by a number, under which `acted` counts the calls in which each acted.
    """
    # an answer with nothing to do, on purpose, counts as well
    has_acted = {
        number: not (answer.at_sites or answer.self_attentions or answer.after_blocks)
        for number, answer in answers.items()
    }
    try:
        with changed_forwards(changes_of(unet, answers, num_frames, has_acted)):
            yield
    finally:
        for number, one in has_acted.items():
            acted[number] += one


def changes_of(
    unet: nn.Module, answers: Mapping[int, Answer], num_frames: int, has_acted: dict[int, bool]
) -> Iterator[Change]:
    """What the answers make of the UNet's layers; a number in `has_acted` becomes True when its answer acts."""
    if any(answer.norm_over_frames for answer in answers.values()):
        yield from norms_over_frames(frame_norms(unet), num_frames)
    layers = motion_sites(unet)
    inside = any(answer.self_attentions or answer.after_blocks for answer in answers.values())
    blocks = transformer_blocks(unet) if inside else {}
    for number, answer in answers.items():
        for use in answer.low_rank:
            yield from use.changes()
        if answer.latents is not None:
            yield unet.input_blocks[0][0], on_input(partial(plus_by_frame, term=answer.latents))
        if answer.first_conv is not None:
            yield unet.input_blocks[0][0], on_output(partial(plus_by_frame, term=answer.first_conv))
        for site, act in answer.at_sites.items():
            yield layers[site], on_output(_recording(act, has_acted, number))
        for block, change in answer.self_attentions.items():
            yield blocks[block].attn1, _recorded_change(change, has_acted, number)
        for block, act in answer.after_blocks.items():
            yield blocks[block], on_output(_recording(act, has_acted, number))


def _recording(act: Forward, has_acted: dict[int, bool], number: int) -> Forward:
    def recorded(*args, **kwargs) -> Tensor:
        has_acted[number] = True
        return act(*args, **kwargs)

    return recorded


def _recorded_change(
    change: Callable[[Forward], Forward], has_acted: dict[int, bool], number: int
) -> Callable[[Forward], Forward]:
    return lambda forward: _recording(change(forward), has_acted, number)


def _site_layer(block: nn.Sequential) -> nn.Module:
    transformers = [layer for layer in block if isinstance(layer, SpatialTransformer)]
    return transformers[-1] if transformers else next(layer for layer in block if isinstance(layer, ResBlock))


def frame_norms(unet: UNetModel) -> Iterator[nn.Module]:
    """The norms that v1, PIA and HotShotXL were trained to take over all frames; transformer norms stay per frame."""
    for module in unet.modules():
        if isinstance(module, ResBlock):
            yield module.in_layers[0]
            yield module.out_layers[0]
    yield unet.out[0]
