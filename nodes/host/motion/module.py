"""A motion module as the host sees it: a model in its own patcher, so the host's memory manager moves it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
import logging
import os
import re

from comfy.model_management import get_torch_device
from comfy.model_patcher import ModelPatcher
import torch
from torch import Tensor

from ....motion_modules.adjust import Adjustment, adjusted
from ....motion_modules.checkpoint import read_motion_module
from ....motion_modules.config import MotionModuleConfig
from ....motion_modules.file_kind import FileKind
from ....motion_modules.motion_module import MotionModule
from ..core.file_advice import cannot_be_used
from ..core.folders import MOTION_MODULES
from ..core.patcher import patcher_of
from ..core.weight_files import load_weights

logger = logging.getLogger(__name__)


# Reads or computes a motion module's description and canonical weights; called again when they are needed again.
Source = Callable[[], tuple[MotionModuleConfig, dict[str, Tensor]]]
FileShare = tuple[str, str, float]


@dataclass(frozen=True)
class LoadedMotionModule:
    """What travels between nodes: a name for messages, the patcher whose model is a `MotionModule`, its source.

    files: what went into it, as (model folder, file name, strength).
    """

    name: str
    patcher: ModelPatcher
    source: Source
    files: tuple[FileShare, ...]

    @property
    def config(self) -> MotionModuleConfig:
        return self.patcher.model.config


def load_motion_module(name: str, adjustment: Adjustment | None = None) -> LoadedMotionModule:
    """Load a file of the `animatediff_models` folders. Raises ValueError, naming the file, for anything else."""
    source = partial(read_motion_module_file, name)
    if adjustment not in (None, Adjustment()):
        source = partial(_adjusted, source, adjustment)
    loaded = motion_module_from(name, source, ((MOTION_MODULES, name, 1.0),))
    logger.info("%s: %s", name, describe(loaded).replace("\n", "; "))
    return loaded


def _adjusted(source: Source, adjustment: Adjustment) -> tuple[MotionModuleConfig, dict[str, Tensor]]:
    return adjusted(*source(), adjustment)


def motion_module_from(name: str, source: Source, files: tuple[FileShare, ...]) -> LoadedMotionModule:
    return LoadedMotionModule(name, motion_patcher(source, get_torch_device()), source, files)


def read_motion_module_file(name: str) -> tuple[MotionModuleConfig, dict[str, Tensor]]:
    content = load_weights(MOTION_MODULES, name)
    try:
        return read_motion_module(content)
    except ValueError as error:
        raise cannot_be_used(name, "a motion module", FileKind.MOTION_MODULE, content, error) from None


def motion_patcher(source: Source, load_device: torch.device, disable_dynamic: bool = False) -> ModelPatcher:
    """A fresh patcher with the source's weights; newer hosts call this again to make a copy for another device."""
    config, weights = source()
    patcher = patcher_of(partial(MotionModule, config), weights, load_device, disable_dynamic, eight_bits=True)
    patcher.cached_patcher_init = (motion_patcher, (source, load_device))
    return patcher


def describe(loaded: LoadedMotionModule) -> str:
    """What was detected, for the node and the log."""
    config = loaded.config
    betas = config.family.beta_schedule
    lcm = f", LCM of {betas.lcm_timesteps} steps" if betas.lcm_timesteps else ""
    lines = [
        f"{config.family} for {config.unet}, up to {config.max_frames} frames"
        + (", mid block" if config.has_mid_block else "")
        + (", own position table" if config.custom_positions else ""),
        f"noise schedule: {betas.beta_schedule} {betas.linear_start} to {betas.linear_end}{lcm}",
    ]
    if config.family.image_input:
        lines.append("animates a still: connect Motion Image to Apply Motion Module")
    hint = name_hint(loaded.name)
    if hint:
        lines.append(hint)
    return "\n".join(lines)


def name_hint(name: str) -> str:
    """Sampler advice that only a file's name can give; shown, never applied."""
    base = os.path.basename(name).lower()
    steps = re.search(r"(\d+)[ _-]?step", base)
    if "lightning" in base:
        return f"by its name a Lightning model: {steps[1] if steps else 'few'} steps, euler, sgm_uniform, cfg 1"
    if "lcm" in base:
        return "by its name an LCM model: 4 to 8 steps, sampler lcm, cfg 1 to 2, with its LoRA on the checkpoint"
    return ""
