"""Animate Anyone under training (Hu et al. 2023, arXiv 2311.17117, section 3.4), in two stages.

First the ReferenceNet, the Pose Guider and the denoising UNet learn from pairs of frames of one clip; then temporal
transformers alone, from whole clips. The ReferenceNet is read as in inference (animate_anyone/reference.py).
B: clips   F: frames   P: tokens of a self-attention
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
import re

import torch
from torch import Tensor, nn

from ..animate_anyone.pose_guider import PoseGuider, PoseGuiderLayout, released_layout
from ..animate_anyone.reference import reference_tokens, with_reference
from ..motion_modules.changed_forward import Change, Forward, changed_forwards, on_input, on_output
from .base import Base, recomputed, recomputed_blocks
from .denoiser import Denoiser, Parts, freeze, new_motion_module
from .stages import ANIMATE_ANYONE, DENOISING_UNET, POSE_GUIDER, REFERENCE_UNET, Stage

REFERENCE = "animatic_reference"  # in the options of the UNet's call: what its self-attentions see of references
SELF_ATTENTION = re.compile(r"(?:^|\.)attn1$")


class AnimateNetworks(nn.Module):
    """What learns together in the first stage. reference_unet, denoising_unet: of one shape."""

    def __init__(self, reference_unet: nn.Module, pose_guider: PoseGuider, denoising_unet: nn.Module):
        super().__init__()
        self.reference_unet, self.pose_guider, self.denoising_unet = reference_unet, pose_guider, denoising_unet


@dataclass(frozen=True)
class AnimateParts(Parts):
    """reference_unet, pose_guider: of files; None: new ones begin, the ReferenceNet as a copy of the denoising UNet.

    file_names: a weight's name in a ReferenceNet's file, by its name in the UNet; those that files lack are missing.
    animate_anyone: all networks, for the stage that trains them.
    """

    reference_unet: nn.Module | None = None
    pose_guider: PoseGuider | None = None
    file_names: Mapping[str, str] = field(default_factory=dict)
    animate_anyone: AnimateNetworks | None = None

    @property
    def animate_anyone_motion(self) -> nn.Module | None:
        """What the second stage trains, under the stage's name, by which `Denoiser` finds it."""
        return self.motion_module


@dataclass(frozen=True)
class ReferenceTokens:
    """tokens: of each clip's reference, (B, P, C), by the self-attention's path. by: (B,), which clips see theirs."""

    tokens: Mapping[str, Tensor]
    by: Tensor


class AnimateDenoiser(Denoiser):
    """Predicts the noise, or v, of clips that show a reference in given poses.

    A clip whose prompt is zeros is unconditional: it sees nothing but itself and its poses, as when sampling.
    """

    def __init__(self, stage: Stage, base: Base, parts: AnimateParts):
        super().__init__(stage, base, parts)
        self.paths = self_attention_paths(base)
        networks = parts.animate_anyone
        # in a tuple, so that networks that are frozen are not registered
        self._unregistered = (networks or parts,)
        if networks is None:
            freeze(parts.reference_unet, base)
            freeze(parts.pose_guider, base)
        else:
            for parameter in unread(networks.reference_unet, self.paths[-1]):
                parameter.requires_grad_(False)

    @property
    def networks(self) -> AnimateNetworks | AnimateParts:
        """What has the attributes reference_unet and pose_guider."""
        return self._unregistered[0]

    def forward(
        self, x: Tensor, t: Tensor, context: Tensor, reference: Tensor | None = None, poses: Tensor | None = None
    ) -> Tensor:
        """As `Denoiser.forward`. context: (B, 1, D), what CLIP Vision sees in the reference.

        reference: (B, 4, H, W), its latents; None: nothing is seen. poses: (B, F, 3, 8 H, 8 W) in 0..255; None: none.
        """
        num_frames, dtype = x.shape[1], self.base.dtype
        options = {} if reference is None else {REFERENCE: self._reference_tokens(reference, context)}
        with changed_forwards(self._posed(poses)):
            predicted = self.base.unet(
                x.flatten(0, 1).to(dtype),
                t.repeat_interleave(num_frames),
                context.repeat_interleave(num_frames, dim=0).to(dtype),
                transformer_options=options,
            )
        return predicted.unflatten(0, x.shape[:2])

    def _reference_tokens(self, reference: Tensor, context: Tensor) -> ReferenceTokens:
        """One pass at timestep 0, without noise."""
        unet = self.networks.reference_unet
        dtype = next(unet.parameters()).dtype
        steps = torch.zeros(reference.shape[0], dtype=torch.long, device=reference.device)
        attentions = {path: unet.get_submodule(path) for path in self.paths}
        tokens = reference_tokens(attentions, lambda: unet(reference.to(dtype), steps, context.to(dtype)))
        return ReferenceTokens(tokens, context.flatten(1).ne(0).any(dim=1))

    def _posed(self, poses: Tensor | None) -> Iterator[Change]:
        """The pose of each frame, added where its Pose Guider's layout says."""
        if poses is None:
            return
        guider = self.networks.pose_guider
        features = guider(poses.flatten(0, 1).to(next(guider.parameters()).dtype) / 255)
        place = on_input if guider.layout.adds_to_latent else on_output
        yield self.base.unet.input_blocks[0][0], place(lambda x: x + features.to(x))

    def _changes(self, num_frames: int, recompute: bool) -> Iterator[Change]:
        yield from super()._changes(num_frames, recompute)
        for path in self.paths:
            yield self.base.unet.get_submodule(path), reading(path)
        if recompute:
            yield from recomputed_blocks(self.networks.reference_unet)
            yield self.networks.pose_guider, recomputed

    def files(self, dtype: torch.dtype = torch.float32) -> dict[str, dict[str, Tensor]]:
        """The first stage's three files, or the second's one.

        The ReferenceNet in the names of the released one, the denoising UNet in the host's own: of those it can tell
        any UNet, of diffusers' only those of full size.
        """
        if self.stage.name != ANIMATE_ANYONE:
            return super().files(dtype)
        names, networks = self.parts.file_names, self.parts.animate_anyone
        reference = {names[key]: value for key, value in networks.reference_unet.state_dict().items() if key in names}
        files = {
            REFERENCE_UNET: reference,
            POSE_GUIDER: networks.pose_guider.state_dict(),
            DENOISING_UNET: networks.denoising_unet.state_dict(),
        }
        return {
            part: {key: value.detach().to("cpu", dtype).contiguous() for key, value in weights.items()}
            for part, weights in files.items()
        }


def reading(path: str) -> Callable[[Forward], Forward]:
    """A change of the self-attention at a path: it sees what the options of the call bring for it.

    They come with every call, not from this object, so that a recomputation in backward finds those of its own call.
    A clip that sees nothing gets its own tokens a second time: doubled keys give what single ones do, and every
    parameter is used in every step, which processes that train together rely on.
    """

    def change(forward: Forward) -> Forward:
        def attend(x: Tensor, *args, transformer_options: Mapping | None = None, **options) -> Tensor:
            reference = (transformer_options or {}).get(REFERENCE)
            if reference is None:
                return forward(x, *args, transformer_options=transformer_options, **options)
            tokens, by = reference.tokens[path], reference.by
            rows = x.shape[0] // tokens.shape[0]
            shown = tokens.to(x).repeat_interleave(rows, dim=0)
            beside = torch.where(by.repeat_interleave(rows)[:, None, None], shown, x)
            return with_reference(forward, x, beside, transformer_options=transformer_options, **options)

        return attend

    return change


def self_attention_paths(base: Base) -> list[str]:
    """Where the spatial self-attentions are in the UNet, from its beginning to its end."""
    own_paths = {module: path for path, module in base.unet.named_modules()}
    layers = (layer.named_modules() for layer in base.motion_sites.values())
    return [own_paths[module] for named in layers for name, module in named if SELF_ATTENTION.search(name)]


def unread(reference_unet: nn.Module, last: str) -> Iterator[nn.Parameter]:
    """Parameters behind the last self-attention that is read, which nothing depends on.

    An optimizer would leave them, but processes that train together wait for the gradients of all that can have some.
    """
    block = last.removesuffix("attn1")
    transformer = block.partition("transformer_blocks.")[0]
    for name, parameter in reference_unet.named_parameters():
        behind = name.startswith(block) and not name.startswith(f"{block}norm1.")
        if behind or name.startswith((f"{transformer}proj_out.", "out.")):
            yield parameter


def fresh_pose_guider(layout: PoseGuiderLayout, seed: int) -> PoseGuider:
    """One that adds nothing until it is trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        guider = PoseGuider(layout)
    nn.init.zeros_(guider.conv_out.weight)
    nn.init.zeros_(guider.conv_out.bias)
    return guider


def fresh_animate_denoiser(
    stage: Stage, base: Base, frozen: AnimateParts, seed: int, max_frames: int = 32, mid_block: bool = False
) -> AnimateDenoiser:
    """A network at the beginning of its stage; what is given of what it trains is trained further.

    max_frames, mid_block: of a new motion module. Raises ValueError if the second stage lacks what the first trains.
    """
    if stage.name == ANIMATE_ANYONE:
        layout = released_layout(out_channels=base.unet.input_blocks[0][0].out_channels)
        networks = AnimateNetworks(
            frozen.reference_unet or deepcopy(base.unet),
            frozen.pose_guider or fresh_pose_guider(layout, seed),
            base.unet,
        )
        return AnimateDenoiser(stage, base, replace(frozen, animate_anyone=networks))
    if frozen.reference_unet is None or frozen.pose_guider is None:
        raise ValueError("Animate Anyone's motion is trained after its ReferenceNet and Pose Guider: choose both.")
    if frozen.motion_module is None:
        frozen = replace(frozen, motion_module=new_motion_module(base, max_frames, mid_block, seed))
    return AnimateDenoiser(stage, base, frozen)
