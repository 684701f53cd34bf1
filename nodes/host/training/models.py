"""A checkpoint as training needs it: first its VAE and text encoder, then a frozen UNet of plain layers.

The host's own patchers stay out of training: they cast and move weights in every call, in inference mode, and newer
ones into memory that is used again before the gradients have passed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from comfy.ldm.modules.attention import attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
import comfy.lora
import comfy.model_management
from comfy.model_patcher import ModelPatcher
import comfy.model_sampling
import comfy.ops
import comfy.sd
from comfy.sd import CLIP, VAE
from einops import rearrange
import folder_paths
import torch
from torch import Tensor, nn

from ....motion_modules.motion_module import MotionModule
from ....training.base import Base, weights_digest
from ....training.cache import Encoders
from ....training.config import ModelFiles
from ....training.denoiser import Parts
from ....training.trainer import PRECISIONS
from ..core.attached import things_on
from ..core.folders import register_model_folders
from ..core.unet import frame_norms, motion_sites, require_unet, site_channels
from ..motion.attach import require_fit
from ..motion.domain_adapter import apply_domain_adapter
from ..motion.module import LoadedMotionModule, Source, load_motion_module

CHECKPOINTS = "checkpoints"
TEXT_WIDTH = 768  # of Stable Diffusion 1.x
UNET_PREFIX = "diffusion_model."  # of a MODEL's patches
# in a text encoder: no caption passes them, SD1.5's files lack them, and the host leaves in them what memory held
UNREAD = ("text_projection.weight", "logit_scale")
TOKENS = 77  # captions are cut to one chunk of the text encoder, so that clips of a batch have equal lengths


class PlainLayers(comfy.ops.disable_weight_init):
    """The host's layers without its loading and casting."""

    Linear = nn.Linear
    Conv2d = nn.Conv2d
    GroupNorm = nn.GroupNorm
    LayerNorm = nn.LayerNorm


class PlainUNet(UNetModel):
    """The host's UNet with attention that gradients go through, whatever was chosen for pictures."""

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        transformer_options: Mapping | None = None,
        control: Mapping | None = None,
    ) -> Tensor:
        options = {**(transformer_options or {}), "optimized_attention_override": pytorch_attention}
        return super().forward(x, timesteps, context=context, control=control, transformer_options=options)


def pytorch_attention(chosen, *args, **kwargs) -> Tensor:
    return attention_pytorch(*args, **kwargs)


@dataclass(frozen=True)
class OpenedModels:
    """What is trained around: the models of a graph, or of a checkpoint that a config names.

    model: its patches, such as a domain adapter or a style's LoRA, are part of the frozen base.
    encoders: used first, see `training.prepare.HostModels`.
    """

    model: ModelPatcher
    encoders: Encoders
    motion: LoadedMotionModule | None
    dtype: torch.dtype
    device: torch.device

    @property
    def max_frames(self) -> int | None:
        return self.motion and self.motion.config.max_frames

    def training_parts(self) -> tuple[Base, Parts]:
        """The UNet and what acts beside it, outside of the host's memory manager, which has let go of everything."""
        comfy.model_management.unload_all_models()
        unet = plain_unet(self.model, self.dtype, self.device)
        motion = motion_module_of(self.motion.source) if self.motion else None
        over_frames = motion is not None and motion.config.family.unet_norm_over_frames
        return base_of(unet, over_frames), Parts(motion_module=motion)


def base_of(unet: UNetModel, norm_over_frames: bool = False) -> Base:
    """A UNet with where motion goes in it. norm_over_frames: as motion modules of AnimateDiff v1 are trained."""
    sites = motion_sites(unet)
    channels = {site: site_channels(layer) for site, layer in sites.items()}
    return Base(unet, sites, channels, tuple(frame_norms(unet)) if norm_over_frames else ())


def models_of(
    model: ModelPatcher, clip: CLIP, vae: VAE, motion: LoadedMotionModule | None, precision: str, device: torch.device
) -> OpenedModels:
    """Raises ValueError for models that training is not for, or that do not fit each other."""
    require_trainable(model)
    if clip is None:
        raise ValueError("This checkpoint has no text encoder: connect a CLIP from another loader.")
    require_vae(vae)
    if motion is not None:
        require_fit(model, motion, "The motion module")
    comfy.model_management.unload_all_models()  # what patches have changed in place, identities must not see
    process_in = model.model.process_latent_in
    encoders = Encoders(
        partial(encode_frames, vae, process_in=process_in), partial(encode_text, clip), _identity(clip, vae)
    )
    return OpenedModels(model, encoders, motion, PRECISIONS[precision], device)


def require_vae(vae: VAE | None) -> None:
    if vae is None or vae.first_stage_model is None:
        raise ValueError("This checkpoint has no VAE: connect one from Load VAE.")


def require_trainable(model: ModelPatcher) -> None:
    """Raises ValueError for a MODEL that is no plain Stable Diffusion 1.5, or has on it what training cannot see."""
    require_unet(model, "Training")
    config = model.model.model_config.unet_config
    if config.get("context_dim") != TEXT_WIDTH or config.get("in_channels") != 4 or config.get("num_classes"):
        raise ValueError(
            "Training is for Stable Diffusion 1.5 models, not for SDXL, SD2 or inpainting models. "
            "Load an SD1.5 checkpoint."
        )
    sampling = type(model.get_model_object("model_sampling"))
    # the host derives all its kinds of prediction from EPS
    if getattr(sampling, "calculate_denoised", None) is not comfy.model_sampling.EPS.calculate_denoised:
        raise ValueError(
            "This MODEL does not predict noise, and training is for models that do. Load an SD1.5 checkpoint."
        )
    if things_on(model):
        raise ValueError(
            f"{things_on(model)[0].name} is applied to this MODEL already. Training takes the MODEL as it is before "
            "Apply Motion Module, with LoRAs and the domain adapter if you like."
        )
    if getattr(model, "injections", None):
        raise ValueError("A LoRA is on this MODEL in bypass mode, which training does not see: load it the plain way.")


def open_models(files: ModelFiles, precision: str, device: torch.device) -> OpenedModels:
    """Raises FileNotFoundError for a name that is in no model folder, ValueError for a model of another kind."""
    model, clip, vae = opened_checkpoint(files.checkpoint)
    if clip is None or vae is None:
        raise ValueError(f"{files.checkpoint} brings no text encoder or no VAE: take a whole checkpoint.")
    if files.domain_adapter:
        model = apply_domain_adapter(model, files.domain_adapter, files.domain_adapter_strength)
    motion = load_motion_module(files.motion_module) if files.motion_module else None
    return models_of(model, clip, vae, motion, precision, device)


def opened_checkpoint(name: str, with_clip: bool = True) -> tuple[ModelPatcher, CLIP | None, VAE | None]:
    register_model_folders()  # the pack's own, which a running ComfyUI knows already
    path = folder_paths.get_full_path_or_raise(CHECKPOINTS, name)
    return comfy.sd.load_checkpoint_guess_config(path, output_clip=with_clip)[:3]


def training_device() -> torch.device:
    return comfy.model_management.get_torch_device()


def default_precision(device: torch.device) -> str:
    """The fastest that the device computes in without losing what is learnt."""
    if comfy.model_management.is_device_cpu(device):
        return "fp32"
    return "bf16" if comfy.model_management.should_use_bf16(device) else "fp16"


def _identity(clip: CLIP, vae: VAE) -> str:
    """Changes with what the encoders give; a later session finds the same for the same models and patches."""
    read = {key: value for key, value in clip.cond_stage_model.state_dict().items() if not key.endswith(UNREAD)}
    text, frames = weights_digest(read), weights_digest(vae.first_stage_model)
    changed = _patched(clip.patcher.patches, clip.cond_stage_model.state_dict(), torch.device("cpu"))
    patched = weights_digest(changed) if changed else ""
    return f"{text} {clip.layer_idx} {patched} {frames}"


def encode_frames(vae, frames: Tensor, process_in) -> tuple[Tensor, Tensor]:
    """Mean and deviation (F, 4, h, w) of the latents of frames (F, H, W, 3) in 0..1, in the UNet's scale.

    A VAE that gives no deviation, such as TAESD, has 0.
    """
    network = vae.first_stage_model
    if not hasattr(network, "quant_conv"):
        mean = process_in(vae.encode(frames)).float().cpu()
        return mean, torch.zeros_like(mean)
    needed = vae.memory_used_encode((1, 3, *frames.shape[1:3]), vae.vae_dtype)
    comfy.model_management.load_models_gpu([vae.patcher], memory_required=needed)
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
    """A frozen copy of a MODEL's UNet, its patches made part of the weights."""
    config = {**model.model.model_config.unet_config, "dtype": dtype}
    with torch.inference_mode(False), torch.no_grad():
        unet = PlainUNet(**config, device="meta", operations=PlainLayers)
        weights = model.model.diffusion_model.state_dict()
        patches = {key.removeprefix(UNET_PREFIX): found for key, found in model.patches.items()}
        weights |= _patched(patches, weights, device)
        weights = {key: value.detach().to(device, dtype, copy=True) for key, value in weights.items()}
        unet.load_state_dict(weights, strict=True, assign=True)
        return unet.requires_grad_(False).eval()


def _patched(patches: Mapping[str, list], weights: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Those of the weights that patches of the host are for, as these make them, in float32."""
    return {
        name: comfy.lora.calculate_weight(found, weights[name].detach().to(device, torch.float32, copy=True), name)
        for name, found in patches.items()
        if name in weights
    }


def motion_module_of(source: Source) -> MotionModule:
    config, weights = source()
    with torch.inference_mode(False):
        motion = MotionModule(config, nn)
        motion.load_state_dict({key: value.detach().clone() for key, value in weights.items()}, strict=True)
        return motion
