"""Animate Anyone in the small world (Hu et al. 2023, arXiv 2311.17117): a reference's character dances another's dance.

The pack's own two stages train it, from pairs of frames and then from clips, beginning as the world's image model. CLIP
Vision sees the same in every picture here (look.py), so what a character wears comes from the ReferenceNet alone.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...animate_anyone.pose_guider import released_layout
from ...motion_modules.motion_module import MotionModule
from ...training.animate_anyone import (
    AnimateDenoiser,
    AnimateNetworks,
    AnimateParts,
    fresh_animate_denoiser,
    fresh_pose_guider,
)
from ...training.base import Base
from ...training.posed_clips import PackedPoses, PosedClip
from ...training.sampling import sample_clip
from ...training.stages import ANIMATE_ANYONE, ANIMATE_ANYONE_MOTION, STAGES
from .autoencoder import colours, encode
from .characters import Character, Dance, draw_character, draw_dance, paint, portrait, skeletons
from .learning import NUM_SCENES
from .look import LOOK
from .models import Sampling, clip_noise
from .widen import NARROW

GUIDER = released_layout((8, 16, 32, 64), NARROW)
NOTHING = torch.zeros_like(LOOK)


@dataclass(frozen=True)
class DancingClips(Sequence):
    """Encoded clips by number, each of another character and dance. pairs: two frames of it, see `PosedClip`."""

    seed: int
    num_frames: int
    pairs: bool

    @property
    def empty_context(self) -> Tensor:
        return NOTHING

    def __len__(self) -> int:
        return NUM_SCENES

    def __getitem__(self, number: int) -> PosedClip:
        dance = draw_dance(self.seed, number)
        if self.pairs:
            keypoints = [dance.keypoints(moment) for moment in np.random.default_rng((self.seed, number)).random(2)]
        else:
            keypoints = dance.frames(self.num_frames)
        mean = encode(paint(draw_character(self.seed, number), keypoints)[0])
        return PosedClip(mean, torch.zeros_like(mean), LOOK.expand(len(mean), -1), packed_poses(keypoints), self.pairs)

    def unseen(self, number: int) -> PosedClip:
        """A whole dance that no training draws."""
        return replace(self, pairs=False)[NUM_SCENES + number]


def packed_poses(keypoints: Sequence[np.ndarray]) -> PackedPoses:
    return PackedPoses.of(skeletons(keypoints))


def first_stage(base: Base) -> AnimateDenoiser:
    frozen = AnimateParts(pose_guider=fresh_pose_guider(GUIDER, 0))
    return fresh_animate_denoiser(STAGES[ANIMATE_ANYONE], base, frozen, 0)


def first_stage_files(base: Base, networks: AnimateNetworks, names: Mapping[str, str]) -> dict[str, dict[str, Tensor]]:
    """By what each is. base: as for `second_stage`. names: a weight's in the ReferenceNet's file, by the host's."""
    parts = AnimateParts(reference_unet=networks.reference_unet, pose_guider=networks.pose_guider, file_names=names)
    return fresh_animate_denoiser(STAGES[ANIMATE_ANYONE], base, parts, 0).files()


def networks_of(base: Base, weights: Mapping[str, Tensor]) -> AnimateNetworks:
    """What the first stage has trained; the base becomes the denoising UNet."""
    guider = fresh_pose_guider(GUIDER, 0).to(base.device)
    networks = AnimateNetworks(deepcopy(base.unet), guider, base.unet)
    with torch.no_grad():
        networks.load_state_dict(weights)
    return networks


def second_stage(base: Base, networks: AnimateNetworks, motion: MotionModule | None = None) -> AnimateDenoiser:
    """motion: None for a new motion module. base: its UNet is the networks' denoising one."""
    frozen = AnimateParts(
        motion_module=motion, reference_unet=networks.reference_unet, pose_guider=networks.pose_guider
    )
    return fresh_animate_denoiser(STAGES[ANIMATE_ANYONE_MOTION], base, frozen, 0)


def danced(
    denoiser: AnimateDenoiser, character: Character | None, dance: Dance, seed: int, sampling: Sampling
) -> Tensor:
    """Colours (F, h, w, 3) of a dance by a character of which there is one picture, standing. None: there is none."""
    beside = {"poses": packed_poses(dance.frames(sampling.num_frames)).at(range(sampling.num_frames))}
    if character is not None:
        beside["reference"] = encode(portrait(character))[0]
    noise = clip_noise(seed, sampling)
    latents = sample_clip(denoiser, noise, LOOK, NOTHING, sampling.steps, sampling.guidance, beside=beside)
    return colours(latents.cpu())
