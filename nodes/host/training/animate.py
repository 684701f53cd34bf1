"""Animate Anyone's models as training needs them: opened, encoding what clips show, and loaded again when trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import comfy.clip_vision
import comfy.model_management
from comfy.model_patcher import ModelPatcher
import comfy.sd
import comfy.utils
import folder_paths
import torch
from torch import Tensor, nn

from ....animate_anyone.checkpoint import LAST_LAYERS
from ....animate_anyone.pose_guider import PoseGuider
from ....training.animate_anyone import AnimateParts
from ....training.base import Base, weights_digest
from ....training.cache import Encoders
from ....training.config import ModelFiles
from ....training.stages import DENOISING_UNET, POSE_GUIDER, REFERENCE_UNET
from ....training.trainer import PRECISIONS
from ..core.folders import ANIMATE_ANYONE
from ..core.paths import model_folder
from ..motion.attach import require_fit
from ..motion.module import LoadedMotionModule, load_motion_module
from ..reference.load import (
    LoadedPoseGuider,
    LoadedReferenceNet,
    load_pose_guider,
    load_reference_net,
    require_guider_fits,
)
from . import models
from .models import OpenedModels, encode_frames, opened_checkpoint, plain_unet, require_trainable, require_vae


@dataclass(frozen=True)
class AnimateModels:
    """As `OpenedModels`; a ReferenceNet or Pose Guider that is None begins anew."""

    opened: OpenedModels
    reference_net: LoadedReferenceNet | None
    pose_guider: LoadedPoseGuider | None

    @property
    def encoders(self) -> Encoders:
        return self.opened.encoders

    @property
    def max_frames(self) -> int | None:
        return self.opened.max_frames

    @property
    def model(self) -> ModelPatcher:
        return self.opened.model

    def training_parts(self) -> tuple[Base, AnimateParts]:
        base, parts = self.opened.training_parts()
        net, guider = self.reference_net, self.pose_guider
        return base, AnimateParts(
            motion_module=parts.motion_module,
            reference_unet=plain_unet(net.patcher, base.dtype, base.device) if net else None,
            pose_guider=_plain_guider(guider) if guider else None,
            file_names=reference_names(self.model),
        )


def reference_names(model: ModelPatcher) -> dict[str, str]:
    """The names of a ReferenceNet's weights in its file, which has no last layers, by the host's."""
    named = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    layers = model.model.diffusion_model.state_dict()
    return {ours: theirs for theirs, ours in named.items() if ours in layers and not theirs.startswith(LAST_LAYERS)}


def _plain_guider(guider: LoadedPoseGuider) -> PoseGuider:
    layout, weights = guider.source()
    with torch.inference_mode(False):
        network = PoseGuider(layout, nn)
        network.load_state_dict({key: value.detach().float().clone() for key, value in weights.items()})
        return network


def animate_models_of(
    model: ModelPatcher,
    vae,
    clip_vision,
    motion: LoadedMotionModule | None,
    reference_net: LoadedReferenceNet | None,
    pose_guider: LoadedPoseGuider | None,
    precision: str,
    device: torch.device,
) -> AnimateModels:
    """precision: of the frozen networks; of those that all learn, "fp32".

    Raises ValueError for models that training is not for, or that do not fit each other.
    """
    require_trainable(model)
    require_vae(vae)
    _require_networks_fit(model, reference_net, pose_guider)
    if motion is not None:
        require_fit(model, motion, "The motion module")
    comfy.model_management.unload_all_models()  # what patches have changed in place, identities must not see
    frames = partial(encode_frames, vae, process_in=model.model.process_latent_in)
    width = model.model.model_config.unet_config["context_dim"]
    identity = f"{weights_digest(vae.first_stage_model)} {weights_digest(clip_vision.model)}"
    encoders = Encoders(frames, None, identity, partial(looks_of, clip_vision, width))
    return AnimateModels(
        OpenedModels(model, encoders, motion, PRECISIONS[precision], device), reference_net, pose_guider
    )


def looks_of(clip_vision, width: int, frames: Tensor) -> Tensor:
    """What CLIP Vision sees in frames (F, H, W, 3), squeezed to a square as in sampling: (F, width)."""
    looks = clip_vision.encode_image(frames, crop=False)["image_embeds"]
    if looks is None or looks.shape[-1] != width:
        found = "nothing" if looks is None else f"embeddings of {looks.shape[-1]} numbers"
        raise ValueError(
            f"The CLIP Vision model gives {found}, but this model takes {width}: use a CLIP ViT-L/14 with projection."
        )
    return looks.float().cpu()


def _require_networks_fit(
    model: ModelPatcher, net: LoadedReferenceNet | None, guider: LoadedPoseGuider | None
) -> None:
    unet = model.get_model_object("diffusion_model")
    if net is not None and _shapes(net.patcher.model.diffusion_model) != _shapes(unet):
        raise ValueError(f"{net.name} does not fit this model: a ReferenceNet has the shape of the model's own UNet.")
    if guider is not None:
        require_guider_fits(guider, unet)


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in network.state_dict().items()}


def open_models(files: ModelFiles, precision: str, device: torch.device) -> OpenedModels | AnimateModels:
    """What a config names, for any stage. Raises FileNotFoundError for a name that is in no model folder, ValueError
    for a model of another kind.
    """
    if not files.clip_vision:
        return models.open_models(files, precision, device)
    model, _, vae = opened_checkpoint(files.checkpoint, with_clip=False)
    if files.diffusion_model:
        place = folder_paths.get_full_path_or_raise("diffusion_models", files.diffusion_model)
        model = comfy.sd.load_diffusion_model(place)
    clip_vision = comfy.clip_vision.load(folder_paths.get_full_path_or_raise("clip_vision", files.clip_vision))
    if clip_vision is None:
        raise ValueError(f"{files.clip_vision} is no CLIP Vision model.")
    net = load_reference_net(files.reference_unet) if files.reference_unet else None
    guider = load_pose_guider(files.pose_guider) if files.pose_guider else None
    motion = load_motion_module(files.motion_module) if files.motion_module else None
    return animate_models_of(model, vae, clip_vision, motion, net, guider, precision, device)


def trained_networks(files: Mapping[str, Path]) -> tuple[ModelPatcher, LoadedReferenceNet, LoadedPoseGuider]:
    """What the first stage has written, for Apply Animate Anyone."""
    folder = model_folder(ANIMATE_ANYONE)
    names = {what: files[what].relative_to(folder).as_posix() for what in (REFERENCE_UNET, POSE_GUIDER)}
    model = comfy.sd.load_diffusion_model(str(files[DENOISING_UNET]))
    return model, load_reference_net(names[REFERENCE_UNET]), load_pose_guider(names[POSE_GUIDER])
