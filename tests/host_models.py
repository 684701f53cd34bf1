"""Random models on the real host, in this process: narrow, unless a test asks for their full width."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from animatic_pack.motion_modules.checkpoint import read_motion_module
from animatic_pack.nodes.host.core.attached import KEY, things_on
from animatic_pack.nodes.host.core.call import Answer
from animatic_pack.nodes.host.core.folders import MOTION_MODULES, register_model_folders
from animatic_pack.nodes.host.motion.module import LoadedMotionModule, motion_module_from
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.supported_models
import folder_paths
from safetensors.torch import save_file
from small_models import motion_state_dict, random_like
import torch

WIDTH = 32
FULL_WIDTH = 320
CPU = torch.device("cpu")
UNETS = {
    "SD1.5": {
        "channel_mult": [1, 2, 4, 4],
        "num_res_blocks": [2, 2, 2, 2],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "context_dim": 768,
        "num_heads": 8,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
    },
    "SDXL": {
        "channel_mult": [1, 2, 4],
        "num_res_blocks": [2, 2, 2],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
        "context_dim": 2048,
        "num_head_channels": 8,
        "num_heads": -1,
        "use_linear_in_transformer": True,
        "adm_in_channels": 2816,
        "num_classes": "sequential",
    },
}
CHANNELS = {kind: tuple(WIDTH * m for m in unet["channel_mult"]) for kind, unet in UNETS.items()}


def unet_config(kind: str, width: int = WIDTH) -> dict:
    config = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": width,
        "use_spatial_transformer": True,
        "legacy": False,
        "use_temporal_attention": False,
        "dtype": torch.float32,
        **UNETS[kind],
    }
    if kind == "SDXL" and width == FULL_WIDTH:
        config["num_head_channels"] = 64
    return config


def image_model(
    kind: str = "SD1.5",
    dtype: torch.dtype = torch.float32,
    seed: int = 1,
    width: int = WIDTH,
    device: torch.device = CPU,
) -> comfy.model_patcher.ModelPatcher:
    """A MODEL as the stock loader makes it, but narrow, with random weights."""
    model = empty_model(kind, dtype, width)
    generator = torch.Generator().manual_seed(seed)
    for key, value in model.diffusion_model.state_dict().items():
        value.copy_(random_like(value, key, generator))
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=CPU)


def empty_model(kind: str, dtype: torch.dtype, width: int) -> comfy.model_base.BaseModel:
    """What a MODEL holds, its weights not filled in."""
    family = comfy.supported_models.SD15 if kind == "SD1.5" else comfy.supported_models.SDXL
    config = family({**unet_config(kind, width), "dtype": dtype})
    config.set_inference_dtype(dtype, None)
    return config.get_model({}, "model.diffusion_model.")


def motion_module_of(
    name: str, channels: tuple[int, ...] = CHANNELS["SD1.5"], dtype: torch.dtype = torch.float32, **options
) -> LoadedMotionModule:
    """A random motion module that stands in no file."""
    weights = {key: value.to(dtype) for key, value in motion_state_dict(channels, **options).items()}
    return motion_module_from(name, partial(read_motion_module, weights), ())


class Answering:
    """An attached thing that gives other answers: `change` is called with the thing itself, call, models, prepared."""

    def __init__(self, thing, change: Callable[..., Answer]):
        self.thing = thing
        self.change = change
        self.name, self.acts_at, self.prepare = thing.name, thing.acts_at, thing.prepare

    def answer(self, *args) -> Answer:
        return self.change(self.thing, *args)


def answering(model, change: Callable[..., Answer]):
    """A clone of a MODEL on which everything attached answers through `change`."""
    model = model.clone()
    model.set_attachments(KEY, tuple(Answering(thing, change) for thing in things_on(model)))
    return model


_folder: Path | None = None


def use_motion_folder(folder: Path) -> None:
    global _folder
    if _folder is None:
        register_model_folders()
        folder_paths.add_model_folder_path(MOTION_MODULES, str(folder), is_default=True)  # also where tests save
        _folder = folder


def motion_file(name: str, kind: str = "SD1.5", dtype: torch.dtype = torch.float32, **options) -> str:
    """Write a motion module for `image_model(kind)` where the pack's loader finds it; returns its name."""
    path = _folder / name
    if not path.exists():
        weights = motion_state_dict(CHANNELS[kind], modules=2, **options)
        save_file({key: value.to(dtype) for key, value in weights.items()}, path)
    return name


def conditioning(kind: str = "SD1.5", seed: int = 0) -> list:
    generator = torch.Generator().manual_seed(seed)
    width = UNETS[kind]["context_dim"]
    extra = {"pooled_output": torch.randn(1, 1280, generator=generator)} if kind == "SDXL" else {}
    return [[torch.randn(1, 8, width, generator=generator), extra]]


def sample(
    model,
    frames: int = 6,
    seed: int = 7,
    steps: int = 3,
    cfg: float = 4.0,
    sampler: str = "euler",
    scheduler: str = "normal",
    size=(8, 12),
    kind: str = "SD1.5",
    latent=None,
    positive=None,
    negative=None,
    **options,
) -> torch.Tensor:
    """Latents (frames, 4, H, W) from the host's own KSampler."""
    latent = torch.zeros(frames, 4, *size) if latent is None else latent
    noise = comfy.sample.prepare_noise(latent, seed)
    if options.pop("disable_noise", False):
        noise = torch.zeros_like(latent)
    positive, negative = positive or conditioning(kind, 1), negative or conditioning(kind, 2)
    return comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        sampler,
        scheduler,
        positive,
        negative,
        latent,
        disable_pbar=True,
        seed=seed,
        **options,
    )
