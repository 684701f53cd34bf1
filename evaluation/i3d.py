"""I3D (Carreira and Zisserman 2017, arXiv 1705.07750), the network by which FVD looks at clips.

Attributes have the names of pytorch-i3d's files. Numbers are those of the network that FVD is defined by, DeepMind's
i3d-kinetics-400 on tf.hub: padding as TensorFlow's "SAME", and 1e-3 in its norms, where some copies have 1e-5.
"""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import Conv3d

from .weights import read_weights

SIZE = 224  # pixels; a picture of any other size or shape is stretched to this square
SHORTEST = 9  # frames; of fewer the last averaging, over two of eight frames each, finds nothing
CLASSES = 400  # of the Kinetics videos that it was trained on
WANTED = (
    "FVD reads i3d_pretrained_400.pt, as VideoGPT (github.com/wilson1yan/VideoGPT) publishes it: the weights of the "
    "program i3d_torchscript.pt, in pytorch-i3d's layout."
)
Size = tuple[int, int, int]

# channels out of b0, b1a, b1b, b2a, b2b and b3b
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
# kernel and stride, in frames, height and width, of the pooling that stands before a layer
POOLED: dict[str, tuple[Size, Size]] = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


class I3d(nn.ModuleDict):
    def __init__(self):
        layers: dict[str, nn.Module] = {
            "Conv3d_1a_7x7": Unit(3, 64, 7, 2),
            "Conv3d_2b_1x1": Unit(64, 64),
            "Conv3d_2c_3x3": Unit(64, 192, 3),
        }
        channels = 192
        for name, sizes in MIXED.items():
            layers[name] = Mixed(channels, sizes)
            channels = sizes[0] + sizes[2] + sizes[4] + sizes[5]
        layers["logits"] = nn.ModuleDict({"conv3d": Conv3d(channels, CLASSES, 1)})
        super().__init__(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Clips (N, 3, F, 224, 224) in -1..1 to logits (N, 400), averaged over time."""
        *layers, (_, logits) = self.items()
        for name, layer in layers:
            if name in POOLED:
                x = _pooled(x, *POOLED[name])
            x = layer(x)
        x = nn.functional.avg_pool3d(x, (2, 7, 7), stride=1)
        return logits["conv3d"](x).mean((2, 3, 4))


class Unit(nn.Module):
    def __init__(self, channels: int, out: int, kernel: int = 1, stride: int = 1):
        super().__init__()
        self.conv3d = Conv3d(channels, out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = _padded(x, self.conv3d.kernel_size, self.conv3d.stride)
        return nn.functional.relu(self.bn(self.conv3d(x)))


class Mixed(nn.Module):
    """Inception's four branches, side by side in the channels."""

    def __init__(self, channels: int, sizes: Sequence[int]):
        super().__init__()
        self.b0 = Unit(channels, sizes[0])
        self.b1a, self.b1b = Unit(channels, sizes[1]), Unit(sizes[1], sizes[2], 3)
        self.b2a, self.b2b = Unit(channels, sizes[3]), Unit(sizes[3], sizes[4], 3)
        self.b3b = Unit(channels, sizes[5])

    def forward(self, x: Tensor) -> Tensor:
        pooled = _pooled(x, (3, 3, 3), (1, 1, 1))
        return torch.cat((self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)), 1)


def _pooled(x: Tensor, kernel: Size, stride: Size) -> Tensor:
    """Of values that are never below 0, so that the padding is never the greatest."""
    return nn.functional.max_pool3d(_padded(x, kernel, stride), kernel, stride)


def _padded(x: Tensor, kernel: Size, stride: Size) -> Tensor:
    """With as many zeros that each axis gives ceil(size / stride), the odd one behind."""
    axes = zip(x.shape[2:], kernel, stride, strict=True)
    missing = [max(0, (-(-size // step) - 1) * step + wide - size) for size, wide, step in axes]
    return nn.functional.pad(x, list(chain(*((total // 2, total - total // 2) for total in reversed(missing)))))


def read_i3d(path: Path) -> I3d:
    """Raises FileNotFoundError, and ValueError that says what to get instead of this file."""
    weights = read_weights(path, WANTED)
    network = I3d()
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path} holds the weights of another network. {WANTED}") from error
    return network.eval()


def logits_of(network: I3d, clip: Tensor) -> Tensor:
    """A clip (F, h, w, 3) in 0..1 as FVD's code sees it, (400,): bilinear, without a filter for what gets smaller."""
    frames = nn.functional.interpolate(clip.permute(0, 3, 1, 2), (SIZE, SIZE), mode="bilinear", align_corners=False)
    device = next(network.parameters()).device
    with torch.no_grad():
        return network((2 * frames - 1).transpose(0, 1)[None].to(device))[0].cpu()
