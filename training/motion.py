"""Motion modules to train: new ones, and those of a file."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..motion_modules.checkpoint import read_motion_module
from ..motion_modules.motion_module import MotionModule
from ..motion_modules.temporal_transformer import TemporalTransformer, sinusoid


def fresh_motion_module(site_channels: Mapping[str, int], max_frames: int, seed: int) -> MotionModule:
    """A motion module that leaves the UNet as it is, bit for bit, until it is trained.

    site_channels: the UNet's width at each site, by the site's name in motion-module files; with the mid block's site
    it is of AnimateDiff v2's layout, without of v3's. Weights begin as torch's layers do, but the last projection of
    each temporal transformer at zero (arXiv 2307.04725, section 4.2).
    """
    weights = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for site, channels in site_channels.items():
            transformer = TemporalTransformer(
                channels, attentions=2, max_frames=max_frames, norm_over_frames=False, operations=nn
            )
            nn.init.zeros_(transformer.proj_out.weight)
            nn.init.zeros_(transformer.proj_out.bias)
            for key, value in transformer.state_dict().items():
                table = key.endswith("pos_encoder.pe")
                weights[f"{site}.temporal_transformer.{key}"] = sinusoid(max_frames, channels) if table else value
    return motion_module_from(weights)


def motion_module_from(file_content: Mapping[str, Tensor]) -> MotionModule:
    """The motion module of a loaded file, in float32; raises ValueError as `read_motion_module` does."""
    config, weights = read_motion_module(file_content)
    motion = MotionModule(config, nn)
    motion.load_state_dict(weights)
    return motion.float()
