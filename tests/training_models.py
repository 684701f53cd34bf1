"""A UNet of the host's structure, small enough to train around in seconds, and clips for it."""

import math
from pathlib import Path
import subprocess

from animatic_pack.training.base import Base
from animatic_pack.training.batches import EncodedClip
from animatic_pack.training.noise import alphas_cumprod
from animatic_pack.training.posed_clips import PackedPoses, PosedClip
from animatic_pack.training.stages import DOMAIN_ADAPTER, MOTION_LORA, MOTION_MODULE
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import Conv2d, GroupNorm, LayerNorm, Linear

CHANNELS, CONTEXT = 32, 24
ANIMATEDIFF_STAGES = [DOMAIN_ADAPTER, MOTION_MODULE, MOTION_LORA]


@pytest.fixture
def one_thread():
    """More threads than one only get into each other's way at these sizes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def normed_convolution(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(GroupNorm(8, into), nn.SiLU(), Conv2d(into, out, 3, padding=1))


class ResBlock(nn.Module):
    def __init__(self, into: int):
        super().__init__()
        self.in_layers = normed_convolution(into, CHANNELS)
        self.emb_layers = Linear(CHANNELS, CHANNELS)
        self.out_layers = normed_convolution(CHANNELS, CHANNELS)
        self.skip = Conv2d(into, CHANNELS, 1) if into != CHANNELS else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip(x) + self.out_layers(h)


class CrossAttention(nn.Module):
    heads = 1

    def __init__(self, context: int):
        super().__init__()
        self.to_q = Linear(CHANNELS, CHANNELS, bias=False)
        self.to_k, self.to_v = (Linear(context, CHANNELS, bias=False) for _ in range(2))
        self.to_out = nn.Sequential(Linear(CHANNELS, CHANNELS), nn.Dropout(0))

    def forward(self, x: Tensor, context: Tensor, value: Tensor | None = None, transformer_options=None) -> Tensor:
        q, k, v = self.to_q(x), self.to_k(context), self.to_v(context if value is None else value)
        return self.to_out(nn.functional.scaled_dot_product_attention(q, k, v))


class TransformerBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn1, self.attn2 = CrossAttention(CHANNELS), CrossAttention(CONTEXT)
        self.norm1, self.norm2 = LayerNorm(CHANNELS), LayerNorm(CHANNELS)

    def forward(self, x: Tensor, context: Tensor, options: dict) -> Tensor:
        normal = self.norm1(x)
        x = x + self.attn1(normal, context=normal, transformer_options=options)
        return x + self.attn2(self.norm2(x), context)


class SpatialTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.transformer_blocks = nn.ModuleList([TransformerBlock()])

    def forward(self, x: Tensor, context: Tensor, transformer_options: dict) -> Tensor:
        scale = 1.0 + transformer_options["block"] / 10  # a patch by block, which recomputation must find the same
        tokens = self.transformer_blocks[0](x.flatten(2).transpose(1, 2), context * scale, transformer_options)
        return x + tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class SmallUNet(nn.Module):
    """One level of the LDM layout, whose layers estimate the clean latents; it returns the noise that this leaves."""

    def __init__(self, size: int = 6):
        super().__init__()
        self.time_embed = Linear(CHANNELS, CHANNELS)
        self.input_blocks = nn.ModuleList([nn.Sequential(Conv2d(4, CHANNELS, 3, padding=1)), self._block(CHANNELS)])
        self.middle_block = nn.Sequential(ResBlock(CHANNELS), SpatialTransformer(), ResBlock(CHANNELS))
        self.output_blocks = nn.ModuleList([self._block(2 * CHANNELS), self._block(2 * CHANNELS)])
        self.out = normed_convolution(CHANNELS, 4)
        # a deep UNet's features know where they are, from its padding; this one is told
        self.register_buffer("places", torch.randn(1, CHANNELS, size, size))
        self.register_buffer("alphas", alphas_cumprod("sqrt_linear"))

    def forward(self, x: Tensor, t: Tensor, context: Tensor, transformer_options: dict | None = None) -> Tensor:
        half = CHANNELS // 2
        angle = t[:, None] * torch.exp(torch.arange(half, device=x.device) * (-math.log(1000) / half))
        emb = self.time_embed(torch.cat((angle.cos(), angle.sin()), dim=1).to(x.dtype))
        options = {**(transformer_options or {}), "block": 0}
        h = self._run(self.input_blocks[0], x, emb, context, options) + self.places
        skips = [h]
        h = self._run(self.input_blocks[1], h, emb, context, options)
        skips.append(h)
        h = self._run(self.middle_block, h, emb, context, options)
        for block in self.output_blocks:
            h = self._run(block, torch.cat((h, skips.pop()), dim=1), emb, context, options)
        return self.prediction(x, self.out(h), self.alphas[t, None, None, None].to(x.dtype))

    def prediction(self, x: Tensor, clean: Tensor, alpha: Tensor) -> Tensor:
        return (x - alpha.sqrt() * clean) / (1.05 - alpha).sqrt()  # 1.05: bounded for the last bit of noise

    def _run(self, block: nn.Sequential, h: Tensor, emb: Tensor, context: Tensor, options: dict) -> Tensor:
        options["block"] += 1  # as the host's UNet does, in one dict for the whole call
        for layer in block:
            if isinstance(layer, ResBlock):
                h = layer(h, emb)
            elif isinstance(layer, SpatialTransformer):
                h = layer(h, context, options)
            else:
                h = layer(h)
        return h

    def _block(self, into: int) -> nn.Sequential:
        return nn.Sequential(ResBlock(into), SpatialTransformer())


def small_base(size: int = 6, dtype: torch.dtype = torch.float32, frame_norms: bool = False) -> Base:
    torch.manual_seed(1)
    unet = SmallUNet(size).to(dtype)
    sites = {
        "down_blocks.0.motion_modules.0": unet.input_blocks[1][1],
        "mid_block.motion_modules.0": unet.middle_block[1],
        "up_blocks.0.motion_modules.0": unet.output_blocks[0][1],
        "up_blocks.0.motion_modules.1": unet.output_blocks[1][1],
    }
    norms = tuple(m.in_layers[0] for m in unet.modules() if isinstance(m, ResBlock)) if frame_norms else ()
    return Base(unet, sites, dict.fromkeys(sites, CHANNELS), norms)


def zoom_clip(seed: int, num_frames: int = 6, size: int = 6, zoom: float = 1.6) -> EncodedClip:
    """Latents of a random texture that grows by `zoom` (below 1: shrinks) from the first frame to the last."""
    generator = torch.Generator().manual_seed(seed)
    texture = nn.functional.interpolate(torch.randn(1, 4, 8, 8, generator=generator), (64, 64), mode="bicubic")
    frames = []
    for frame in range(num_frames):
        shown = zoom ** -(frame / max(1, num_frames - 1)) * min(1.0, zoom)  # the share of the texture in the picture
        view = torch.tensor([[[shown, 0, 0], [0, shown, 0]]])
        grid = nn.functional.affine_grid(view, (1, 4, size, size), align_corners=False)
        frames.append(nn.functional.grid_sample(texture, grid, align_corners=False))
    mean = torch.cat(frames)
    mean = (mean - mean.mean()) / mean.std()
    context = torch.randn(7, CONTEXT, generator=generator)
    return EncodedClip(mean, torch.full_like(mean, 0.01), context)


def write_video(path: Path, num_frames: int = 20, size: tuple[int, int] = (96, 80)) -> None:
    """Every frame has its own grey: frame i is 10 * i."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{size[0]}x{size[1]}", "-r", "10", "-i", "-", "-c:v", "libx264", "-qp", "0", str(path)]
    frames = [np.full((size[1], size[0], 3), 10 * i, np.uint8).tobytes() for i in range(num_frames)]
    subprocess.run(command, input=b"".join(frames), check=True)


def posed_clip(seed: int, num_frames: int = 4, size: int = 6, pairs: bool = True) -> PosedClip:
    """A clip of `zoom_clip` with a pose of its own for each frame, and a prompt of its own."""
    generator = torch.Generator().manual_seed(seed)
    clip = zoom_clip(seed, num_frames, size)
    poses = PackedPoses.of(torch.rand(num_frames, 8 * size, 8 * size, 3, generator=generator))
    return PosedClip(clip.mean, clip.deviation, torch.randn(num_frames, CONTEXT, generator=generator), poses, pairs)
