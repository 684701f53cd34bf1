"""ReferenceNet and Pose Guider as the host sees them: models in their own patchers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
import logging

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
import comfy.model_management
from comfy.model_patcher import ModelPatcher
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from torch import Tensor

from ....animate_anyone.checkpoint import LAST_LAYERS, read_pose_guider, read_reference_net
from ....animate_anyone.pose_guider import PoseGuider, PoseGuiderLayout
from ....motion_modules.file_kind import FileKind
from ....motion_modules.values import check_names, check_values
from ..controls.kept import Kept
from ..core.file_advice import cannot_be_used
from ..core.folders import ANIMATE_ANYONE
from ..core.patcher import patcher_of
from ..core.weight_files import load_weights

logger = logging.getLogger(__name__)

GuiderSource = Callable[[], tuple[PoseGuiderLayout, dict[str, Tensor]]]


@dataclass(frozen=True, eq=False)
class LoadedReferenceNet:
    """kept: what it made of pictures before, for the next prompt with the same ones; on the processor."""

    name: str
    patcher: ModelPatcher
    kept: Kept = field(default_factory=Kept)


@dataclass(frozen=True, eq=False)
class LoadedPoseGuider:
    """source: reads its file again, for a copy on another device. strength: how much poses count; 1 as trained."""

    name: str
    patcher: ModelPatcher
    source: GuiderSource
    strength: float = 1.0

    @property
    def layout(self) -> PoseGuiderLayout:
        return self.patcher.model.layout


def load_reference_net(name: str) -> LoadedReferenceNet:
    """Load a file of the `animate_anyone` folders. Raises ValueError, naming the file, for anything else."""
    content = load_weights(ANIMATE_ANYONE, name)
    try:
        config, in_file = read_reference_net(content)
        weights = in_hosts_names(config, in_file)
        check_values(in_file)
    except ValueError as error:
        raise cannot_be_used(name, "a ReferenceNet", FileKind.REFERENCE_NET, content, error) from None
    logger.info("%s: a ReferenceNet, all of its weights used", name)
    patcher = comfy.sd.load_diffusion_model_state_dict(weights)
    if patcher is None:
        raise ValueError(f"{name} is a ReferenceNet for an image model that ComfyUI does not know; SD1.5 is meant.")
    return LoadedReferenceNet(name, patcher)


def in_hosts_names(config: dict, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A ReferenceNet's weights as the host's UNet has them; its last layers, which nothing asks for, are zeros.

    Raises ValueError that names the weights that are missing, unexpected, or of another shape.
    """
    layers = UNetModel(**config, device="meta", operations=comfy.ops.disable_weight_init).state_dict()
    names = {theirs: ours for theirs, ours in comfy.utils.unet_to_diffusers(config).items() if ours in layers}
    last = {theirs for theirs in names if theirs.startswith(LAST_LAYERS)}
    expected = {theirs: layers[ours] for theirs, ours in names.items() if theirs not in last}
    check_names(expected, weights, "ReferenceNet")
    like = weights["conv_in.weight"]
    zeros = {names[theirs]: like.new_zeros(layers[names[theirs]].shape) for theirs in last}
    return {names[theirs]: value for theirs, value in weights.items()} | zeros


def load_pose_guider(name: str, strength: float = 1.0) -> LoadedPoseGuider:
    """Load a file of the `animate_anyone` folders. Raises ValueError, naming the file, for anything else."""
    source = partial(read_pose_guider_file, name)
    return LoadedPoseGuider(name, guider_patcher(source, comfy.model_management.get_torch_device()), source, strength)


def read_pose_guider_file(name: str) -> tuple[PoseGuiderLayout, dict[str, Tensor]]:
    content = load_weights(ANIMATE_ANYONE, name)
    try:
        return read_pose_guider(content)
    except ValueError as error:
        raise cannot_be_used(name, "a Pose Guider", FileKind.POSE_GUIDER, content, error) from None


def guider_patcher(source: GuiderSource, load_device: torch.device, disable_dynamic: bool = False) -> ModelPatcher:
    """A fresh patcher with the source's weights; newer hosts call this again to make a copy for another device."""
    layout, weights = source()
    patcher = patcher_of(partial(PoseGuider, layout), weights, load_device, disable_dynamic)
    patcher.cached_patcher_init = (guider_patcher, (source, load_device))
    return patcher


def require_guider_fits(guider: LoadedPoseGuider, unet: UNetModel) -> None:
    """Raises ValueError if what it gives cannot be added to what the UNet's first convolution does."""
    found, wanted = guider.layout.out_channels, unet.input_blocks[0][0].out_channels
    if not guider.layout.adds_to_latent and found != wanted:
        raise ValueError(
            f"{guider.name} does not fit this model: it gives {found} channels, and the model's first convolution "
            f"{wanted}."
        )


def describe_guider(guider: LoadedPoseGuider) -> str:
    """What was detected, for the node."""
    layout = guider.layout
    widths = ", ".join(map(str, layout.channels))
    place = "the noisy latent (paper)" if layout.adds_to_latent else "the first convolution's features (open release)"
    return f"Pose Guider of {widths} channels; added to {place}"
