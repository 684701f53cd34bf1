"""The image encoder of AnimateLCM-I2V (Wang et al. 2024, arXiv 2402.00769): features of a still for the down blocks."""

import torch
from torch import Tensor, nn

from .temporal_transformer import sinusoid


class ResBlock(nn.Module):
    """Half the size first if `down`; then a residual of two convolutions. Odd sizes are padded by their edge."""

    def __init__(self, channels_in: int, channels: int, down: bool, operations, **options):
        super().__init__()
        self.down = down
        if channels_in != channels:
            self.in_conv = operations.Conv2d(channels_in, channels, 1, **options)
        self.block1 = operations.Conv2d(channels, channels, 3, padding=1, **options)
        self.block2 = operations.Conv2d(channels, channels, 1, **options)

    def forward(self, x: Tensor) -> Tensor:
        if self.down:
            x = nn.functional.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), mode="replicate")
            x = nn.functional.avg_pool2d(x, 2)
        if hasattr(self, "in_conv"):
            x = self.in_conv(x)
        return x + self.block2(nn.functional.relu(self.block1(x)))


class ImageEncoder(nn.Module):
    """Attribute names are the checkpoint's keys: `conv_in` and `body`, two blocks for each level of the UNet."""

    def __init__(self, channels: tuple[int, ...], operations, dtype=None, device=None):
        super().__init__()
        options = {"dtype": dtype, "device": device}
        self.conv_in = operations.Conv2d(4, channels[0], 3, padding=1, **options)
        blocks = []
        for level, width in enumerate(channels):
            before = channels[max(0, level - 1)]
            blocks.append(ResBlock(before, width, level > 0, operations, **options))
            blocks.append(ResBlock(width, width, False, operations, **options))
        self.body = nn.ModuleList(blocks)

    def forward(self, latents: Tensor, drift: float) -> list[Tensor]:
        """(F, 4, H, W) latents of the still, one for each frame, to a feature (F, C, h, w) for each level.

        drift: how much of the frames' positions is added, which is all that lets them differ.
        """
        x = self.conv_in(latents)
        positions = sinusoid(*x.shape[:2])[0, :, :, None, None]
        x = x + drift * positions.to(device=x.device, dtype=x.dtype)
        features = []
        for index, block in enumerate(self.body):
            x = block(x)
            if index % 2:
                features.append(x)
        return features


def with_image_channels(conv_in: nn.Module, weights: Tensor, latents: Tensor) -> Tensor:
    """PIA's part of the UNet's first convolution (Zhang et al. 2023, arXiv 2312.13964): mask and image channels.

    weights: (F,) likeness of each frame to the image. latents: (1, 4, H, W). Returns (F, C, H, W) to add.
    """
    mask = weights.to(latents)[:, None, None, None].expand(-1, 1, *latents.shape[2:])
    return conv_in(torch.cat([mask, latents.expand(mask.shape[0], -1, -1, -1)], dim=1))
