"""Image models and motion modules of full size with random weights, where the host computes unless told otherwise."""

from functools import cache

from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.module import LoadedMotionModule
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from comfy.model_management import get_torch_device
from comfy.model_patcher import ModelPatcher
from host_models import CPU, FULL_WIDTH, UNETS, empty_model, image_model, motion_module_of
import torch

MOTION_MODULES = {  # kind of UNet, and what the file has, by name
    "v1": ("SD1.5", {"max_frames": 24}),
    "v2": ("SD1.5", {"mid": True}),
    "v3": ("SD1.5", {}),
    "HotShotXL": ("SDXL", {"max_frames": 24}),
}


def full_model(kind: str = "SD1.5", dtype: torch.dtype = torch.float16) -> ModelPatcher:
    return image_model(kind, dtype, width=FULL_WIDTH, device=get_torch_device())


def in_precision(model: ModelPatcher, kind: str, dtype: torch.dtype) -> ModelPatcher:
    """A model with the same weights in another dtype."""
    copy = empty_model(kind, dtype, FULL_WIDTH)
    copy.diffusion_model.load_state_dict(model.model.diffusion_model.state_dict())
    return ModelPatcher(copy, load_device=model.load_device, offload_device=CPU)


def on_device(model: ModelPatcher, device: torch.device) -> ModelPatcher:
    """The same model, to run elsewhere; only one of the two may be loaded at a time."""
    return ModelPatcher(model.model, load_device=device, offload_device=CPU)


@cache
def full_motion_module(name: str) -> LoadedMotionModule:
    """Its weights are numbers of 16 bits, as in released files, so that every precision begins with the same ones."""
    kind, options = MOTION_MODULES[name]
    widths = tuple(FULL_WIDTH * factor for factor in UNETS[kind]["channel_mult"])
    return motion_module_of(name, widths, torch.float16, modules=2, **options)


def animated(model: ModelPatcher, name: str) -> ModelPatcher:
    return apply_motion_module(model, full_motion_module(name), MotionSettings(name))
