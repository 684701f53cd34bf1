"""Figures that wear textures and move as their skeletons say: what Animate Anyone learns from, in seconds.

A figure has PARTS parts, one latent place each. Two of the latent's channels tell which part it is, as a picture tells
a head from a foot; the other two are the texture. A skeleton is drawn as sticks, one for each part, in its own colour.
F: frames   K: parts
"""

import colorsys
from dataclasses import dataclass, replace
import math

from animatic_pack.animate_anyone.pose_guider import released_layout
from animatic_pack.training.animate_anyone import (
    AnimateDenoiser,
    AnimateParts,
    fresh_animate_denoiser,
    fresh_pose_guider,
)
from animatic_pack.training.base import Base
from animatic_pack.training.noise import alphas_cumprod, generator_at
from animatic_pack.training.posed_clips import PackedPoses, PosedClip
from animatic_pack.training.sampling import sample_clip
from animatic_pack.training.stages import ANIMATE_ANYONE, STAGES
import torch
from torch import Tensor, nn
from torch.nn import Conv2d, Linear
from training_models import CHANNELS, CONTEXT, ResBlock, SmallUNet, normed_convolution

ROWS, COLUMNS = 3, 2
PARTS = ROWS * COLUMNS
ANGLES = torch.arange(PARTS) * (2 * math.pi / PARTS)
CODES = 2 * torch.stack((ANGLES.cos(), ANGLES.sin()), dim=1)  # (K, 2), what the parts look like in any texture
COLOURS = torch.tensor([colorsys.hsv_to_rgb(part / PARTS, 1, 1) for part in range(PARTS)])


class FigureUNet(SmallUNet):
    """Two self-attentions on one level, and it knows no places; reads its output as clean latents, and returns v."""

    def __init__(self, size: int):
        nn.Module.__init__(self)
        self.time_embed = Linear(CHANNELS, CHANNELS)
        self.input_blocks = nn.ModuleList([nn.Sequential(Conv2d(4, CHANNELS, 3, padding=1)), self._block(CHANNELS)])
        self.middle_block = nn.Sequential(ResBlock(CHANNELS))
        self.output_blocks = nn.ModuleList([nn.Sequential(ResBlock(2 * CHANNELS)), self._block(2 * CHANNELS)])
        self.out = normed_convolution(CHANNELS, 4)
        for attention in (self.input_blocks[1][1], self.output_blocks[1][1]):
            for layer in (attention.transformer_blocks[0].attn1.to_q, attention.transformer_blocks[0].attn1.to_k):
                layer.weight.data *= 2.5  # so that it soon begins to choose
        self.register_buffer("places", torch.zeros(1, CHANNELS, size, size))
        self.register_buffer("alphas", alphas_cumprod("sqrt_linear", zero_snr=True))

    def prediction(self, x: Tensor, clean: Tensor, alpha: Tensor) -> Tensor:
        return (alpha.sqrt() * x - clean) / (1.05 - alpha).sqrt()


def figure_denoiser(size: int, device: str = "cpu") -> AnimateDenoiser:
    torch.manual_seed(1)
    unet = FigureUNet(size).to(device)
    sites = {"down_blocks.0.motion_modules.0": unet.input_blocks[1][1]}
    sites["up_blocks.0.motion_modules.1"] = unet.output_blocks[1][1]
    guider = fresh_pose_guider(released_layout((4, 4, 4, 8), CHANNELS), 0)
    base = Base(unet, sites, dict.fromkeys(sites, CHANNELS))
    return fresh_animate_denoiser(STAGES[ANIMATE_ANYONE], base, AnimateParts(pose_guider=guider), 0)


def texture(seed: int) -> Tensor:
    """(K, 2)"""
    return torch.randn(PARTS, 2, generator=generator_at(seed, "texture"))


def wandering(size: int, num_frames: int, seed: int) -> Tensor:
    """The places (F, K, 2) of the parts of a figure that is somewhere else in every frame."""
    spots = [(y, x) for y in range(size - ROWS + 1) for x in range(size - COLUMNS + 1)]
    order = torch.randperm(len(spots), generator=generator_at(seed, "motion"))[:num_frames]
    parts = torch.tensor([(part // COLUMNS, part % COLUMNS) for part in range(PARTS)])
    return torch.tensor(spots)[order][:, None] + parts


def frames_of(places: Tensor, worn: Tensor, size: int) -> Tensor:
    """Latents (F, 4, size, size)."""
    frames = torch.zeros(len(places), 4, size, size)
    for frame, parts in zip(frames, places, strict=True):
        frame[:, parts[:, 0], parts[:, 1]] = torch.cat((CODES, worn), dim=1).T
    return frames


def skeletons(places: Tensor, size: int) -> PackedPoses:
    pictures = torch.zeros(len(places), 8 * size, 8 * size, 3)
    for picture, parts in zip(pictures, (8 * places).tolist(), strict=True):
        for (y, x), colour in zip(parts, COLOURS, strict=True):
            picture[y : y + 8, x + 3 : x + 5] = colour
    return PackedPoses.of(pictures)


def look(worn: Tensor) -> Tensor:
    """What CLIP Vision would see of it, (CONTEXT,): the colours on the whole, and not where they are."""
    return worn.mean(dim=0) @ torch.randn(2, CONTEXT, generator=generator_at(0, "look")) + 0.5


@dataclass(frozen=True)
class FigureClip(PosedClip):
    """places: see `wandering`. shown: with the reference; without it there is what CLIP Vision sees alone.

    dressed: how many textures the figure wears; each step draws one of them, or for 0 any, so that none can be learnt
    by heart.
    """

    places: Tensor
    size: int
    dressed: int | None = None
    shown: bool = True

    def wearing(self, worn: Tensor) -> "FigureClip":
        looks = look(worn).expand(len(self.places), -1)
        return replace(self, mean=frames_of(self.places, worn, self.size), context=looks, dressed=None)

    def drawn(self, empty_context, draw, generator):
        if self.dressed is None:
            return super().drawn(empty_context, draw, generator)
        worn = torch.randn(PARTS, 2, generator=generator)
        if self.dressed:
            worn = texture(int(torch.randint(self.dressed, (), generator=generator)))
        return self.wearing(worn).drawn(empty_context, draw, generator)

    def _beside(self, reference, targets):
        beside = super()._beside(reference, targets)
        return beside if self.shown else {"poses": beside["poses"]}


def figure_clip(size: int, num_frames: int, worn: Tensor, motion: int = 0, **options) -> FigureClip:
    places = wandering(size, num_frames, motion)
    latents = frames_of(places, worn, size)
    looks = look(worn).expand(num_frames, -1)
    poses = skeletons(places, size)
    return FigureClip(latents, torch.full_like(latents, 0.01), looks, poses, True, places, size, **options)


def sampled(denoiser: AnimateDenoiser, clip: FigureClip, seed: int = 3) -> Tensor:
    """Latents (F, 4, size, size) of the clip's poses, with its first frame as reference."""
    noise = torch.randn(clip.mean.shape, generator=generator_at(seed, "noise"))
    batch = clip.fixed(noise, 0)
    beside = {name: value[0] for name, value in batch.beside.items()}
    empty = torch.zeros_like(batch.context[0])
    return sample_clip(denoiser, noise, batch.context[0], empty, steps=20, guidance=1.0, beside=beside).cpu()


def worn_in(latents: Tensor, places: Tensor) -> Tensor:
    """The texture (F, K, 2) that is where the parts should be."""
    return torch.stack([frame[2:, parts[:, 0], parts[:, 1]].T for frame, parts in zip(latents, places, strict=True)])


def likeness(latents: Tensor, places: Tensor, worn: Tensor) -> float:
    """Correlation of what is worn in a clip with a texture (K, 2)."""
    found = worn_in(latents, places)
    return torch.corrcoef(torch.stack((found.flatten(), worn.expand_as(found).flatten())))[0, 1].item()


def joint_error(latents: Tensor, places: Tensor) -> float:
    """How far the parts are from where the skeleton has them, as a share of the frame's side."""
    size = latents.shape[-1]
    like = torch.einsum("kc,fchw->fkhw", CODES, latents[:, :2]).flatten(2).argmax(dim=2)
    found = torch.stack((like // size, like % size), dim=-1)
    return ((found - places).float().norm(dim=-1).mean() / size).item()
