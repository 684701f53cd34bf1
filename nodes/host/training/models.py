"""A checkpoint as training needs it: first its VAE and text encoder, then a frozen UNet of plain layers.

The host's own patchers stay out of training: they cast and move weights in every call, in inference mode, and newer
ones into memory that is used again before the gradients have passed.
"""

from dataclasses import dataclass
from functools import partial
import os

from comfy.ldm.modules.attention import attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
import comfy.model_management
from comfy.model_patcher import ModelPatcher
import comfy.model_sampling
import comfy.ops
import comfy.sd
from einops import rearrange
import folder_paths
import torch
from torch import Tensor, nn

from ....motion_modules.motion_module import MotionModule
from ....training.base import Base
from ....training.cache import Encoders
from ....training.config import ModelFiles
from ....training.denoiser import Parts
from ....training.low_rank import adapter_layers
from ....training.trainer import PRECISIONS
from ..core.folders import LORAS, register_model_folders
from ..core.unet import frame_norms, motion_sites, require_unet, site_channels
from ..core.weight_files import load_weights
from ..motion.module import read_motion_module_file

CHECKPOINTS = "checkpoints"
TOKENS = 77  # captions are cut to one chunk of the text encoder, so that clips of a batch have equal lengths


class PlainLayers(comfy.ops.disable_weight_init):
    """The host's layers without its loading and casting."""

    Linear = nn.Linear
    Conv2d = nn.Conv2d
    GroupNorm = nn.GroupNorm
    LayerNorm = nn.LayerNorm


class PlainUNet(UNetModel):
    """The host's UNet with attention that gradients go through, whatever was chosen for pictures."""

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        options = {"optimized_attention_override": _pytorch}
        return super().forward(x, timesteps, context=context, transformer_options=options)


def _pytorch(chosen, *args, **kwargs) -> Tensor:
    return attention_pytorch(*args, **kwargs)


@dataclass(frozen=True)
class OpenedCheckpoint:
    """files: as the config names them. encoders: used first, see `training.prepare.HostModels`."""

    files: ModelFiles
    model: ModelPatcher
    encoders: Encoders
    dtype: torch.dtype
    device: torch.device

    def training_parts(self) -> tuple[Base, Parts]:
        """The UNet and what acts beside it, outside of the host's memory manager, which has let go of everything."""
        comfy.model_management.unload_all_models()
        unet = plain_unet(self.model, self.dtype, self.device)
        motion = motion_module_of(self.files.motion_module) if self.files.motion_module else None
        over_frames = motion is not None and motion.config.family.unet_norm_over_frames
        sites = motion_sites(unet)
        channels = {site: site_channels(layer) for site, layer in sites.items()}
        base = Base(unet, sites, channels, tuple(frame_norms(unet)) if over_frames else ())
        adapter = None
        if self.files.domain_adapter:
            adapter = adapter_layers(load_weights(LORAS, self.files.domain_adapter), base.attention_layers())
        return base, Parts(adapter, motion, domain_adapter_scale=self.files.domain_adapter_strength)


def open_models(files: ModelFiles, precision: str, device: torch.device) -> OpenedCheckpoint:
    """Raises FileNotFoundError for a name that is in no model folder, ValueError for a model of another kind."""
    register_model_folders()  # the pack's own, which a running ComfyUI knows already
    path = folder_paths.get_full_path_or_raise(CHECKPOINTS, files.checkpoint)
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(path)
    require_unet(model, "Training")
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, comfy.model_sampling.EPS):
        raise ValueError(f"{files.checkpoint} does not predict noise; training is for Stable Diffusion 1.5 models.")
    if clip is None or vae is None:
        raise ValueError(f"{files.checkpoint} brings no text encoder or no VAE: take a whole checkpoint.")
    state = os.stat(path)
    identity = f"{files.checkpoint} {state.st_size} {state.st_mtime_ns}"
    encoders = Encoders(
        partial(encode_frames, vae, process_in=model.model.process_latent_in), partial(encode_text, clip), identity
    )
    return OpenedCheckpoint(files, model, encoders, PRECISIONS[precision], device)


def encode_frames(vae, frames: Tensor, process_in) -> tuple[Tensor, Tensor]:
    """Mean and deviation (F, 4, h, w) of the latents of frames (F, H, W, 3) in 0..1, in the UNet's scale.

    A VAE that gives no deviation, such as TAESD, has 0.
    """
    network = vae.first_stage_model
    if not hasattr(network, "quant_conv"):
        mean = process_in(vae.encode(frames)).float().cpu()
        return mean, torch.zeros_like(mean)
    comfy.model_management.load_models_gpu([vae.patcher])
    pixels = vae.process_input(rearrange(frames, "f h w c -> f c h w"))
    rows = (row.to(vae.device, vae.vae_dtype) for row in pixels.split(1))  # a frame at a time fits into any card
    moments = torch.cat([network.quant_conv(network.encoder(row)).float().cpu() for row in rows])
    mean, log_variance = moments.chunk(2, dim=1)
    scale = process_in(torch.ones(1)) - process_in(torch.zeros(1))
    return process_in(mean), (0.5 * log_variance.clamp(-30.0, 20.0)).exp() * scale


def encode_text(clip, text: str) -> Tensor:
    """(77, D)"""
    return clip.encode_from_tokens(clip.tokenize(text))[0, :TOKENS].float().cpu()


def plain_unet(model: ModelPatcher, dtype: torch.dtype, device: torch.device) -> PlainUNet:
    """A frozen copy of a MODEL's UNet, without its patches."""
    config = {**model.model.model_config.unet_config, "dtype": dtype}
    with torch.inference_mode(False):
        unet = PlainUNet(**config, device="meta", operations=PlainLayers)
        weights = model.model.diffusion_model.state_dict()
        weights = {key: value.detach().to(device, dtype, copy=True) for key, value in weights.items()}
        unet.load_state_dict(weights, strict=True, assign=True)
        return unet.requires_grad_(False).eval()


def motion_module_of(name: str) -> MotionModule:
    config, weights = read_motion_module_file(name)
    with torch.inference_mode(False):
        motion = MotionModule(config, nn)
        motion.load_state_dict({key: value.detach().clone() for key, value in weights.items()}, strict=True)
        return motion
