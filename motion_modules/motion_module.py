"""A whole motion module: the temporal transformers of a UNet's down, mid and up blocks.

The containers exist for their names: the state dict of `MotionModule` has exactly the keys of an
AnimateDiff checkpoint, so `load_state_dict(strict=True)` is the loader.
"""

from functools import partial

from torch import nn

from .config import MotionModuleConfig
from .families import ENCODER_INPUT, PIA_INPUT
from .image_encoder import ImageEncoder
from .temporal_transformer import TemporalTransformer


class Site(nn.Module):
    """What checkpoints call `motion_modules.N`."""

    def __init__(self, temporal_transformer: TemporalTransformer):
        super().__init__()
        self.temporal_transformer = temporal_transformer


class MotionBlock(nn.Module):
    def __init__(self, sites: list[Site]):
        super().__init__()
        self.motion_modules = nn.ModuleList(sites)


class MotionModule(nn.Module):
    """Built from its config alone; weights are empty until a state dict is loaded."""

    def __init__(self, config: MotionModuleConfig, operations, dtype=None, device=None):
        super().__init__()
        self.config = config
        transformer = partial(
            TemporalTransformer,
            attentions=config.attentions,
            max_frames=config.max_frames,
            norm_over_frames=config.family.motion_norm_over_frames,
            operations=operations,
            dtype=dtype,
            device=device,
        )

        def block(channels: int, num_modules: int) -> MotionBlock:
            return MotionBlock([Site(transformer(channels)) for _ in range(num_modules)])

        modules = config.modules_per_block
        self.down_blocks = nn.ModuleList(block(c, modules) for c in config.channels)
        if config.has_mid_block:
            self.mid_block = block(config.channels[-1], 1)
        if config.family.image_input == PIA_INPUT:  # the 4 channels of the latents stay the checkpoint's own
            self.conv_in = operations.Conv2d(
                5, config.channels[0], 3, padding=1, bias=False, dtype=dtype, device=device
            )
        elif config.family.image_input == ENCODER_INPUT:
            self.img_encoder = ImageEncoder(config.channels, operations, dtype=dtype, device=device)
        if not config.down_only:
            self.up_blocks = nn.ModuleList(block(c, modules + 1) for c in reversed(config.channels))
        # by the name of their site, such as "down_blocks.0.motion_modules.1"; walking the tree takes half a millisecond
        self.sites: dict[str, TemporalTransformer] = {
            name.removesuffix(".temporal_transformer"): module
            for name, module in self.named_modules()
            if isinstance(module, TemporalTransformer)
        }
