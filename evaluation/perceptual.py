"""LPIPS (Zhang et al. 2018, arXiv 1801.03924), version 0.1 with AlexNet, by weight files on this disk.

Two files are needed in one folder, as their authors publish them: torchvision's AlexNet and LPIPS's five linear layers
(`alex.pth` of the package lpips). Nothing is downloaded.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import Conv2d

from .quality import require_same_shape
from .weights import read_weights

ALEXNET, LINEAR = "alexnet-owt-7be5be79.pth", "alex.pth"
WANTED = (
    f"LPIPS needs {ALEXNET} (torchvision's AlexNet) and {LINEAR} (from the package lpips, weights/v0.1) in one folder."
)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of colours in -1..1
SMALLEST = 64  # pixels; AlexNet halves them five times
# channels in and out, kernel, stride and padding of each convolution, by its number in torchvision's file
CONVOLUTIONS = {0: (3, 64, 11, 4, 2), 3: (64, 192, 5, 1, 2), 6: (192, 384, 3, 1, 1), 8: (384, 256, 3, 1, 1)}
CONVOLUTIONS[10] = (256, 256, 3, 1, 1)
POOLED = (3, 6)  # convolutions that a pooling stands before


class Lpips(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.ModuleDict({str(n): Conv2d(*layer) for n, layer in CONVOLUTIONS.items()})
        self.linear = nn.ModuleList(Conv2d(layer[1], 1, 1, bias=False) for layer in CONVOLUTIONS.values())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The distance of pictures (N, 3, h, w) in 0..1 from their partners: (N,)."""
        total = torch.zeros(x.shape[0], dtype=x.dtype, device=x.device)
        for ours, theirs, linear in zip(self._activations(x), self._activations(y), self.linear, strict=True):
            total = total + linear((_directions(ours) - _directions(theirs)) ** 2).mean((1, 2, 3))
        return total

    def _activations(self, x: Tensor) -> list[Tensor]:
        shift, scale = (x.new_tensor(values)[:, None, None] for values in (SHIFT, SCALE))
        x = (2 * x - 1 - shift) / scale
        found = []
        for number, convolution in self.features.items():
            x = nn.functional.max_pool2d(x, 3, 2) if int(number) in POOLED else x
            x = nn.functional.relu(convolution(x))
            found.append(x)
        return found


def _directions(activations: Tensor) -> Tensor:
    return activations / (activations.square().sum(1, keepdim=True).sqrt() + 1e-10)


def read_lpips(folder: Path) -> Lpips:
    """Raises FileNotFoundError that names the missing file, and ValueError for one that holds something else."""
    network = Lpips()
    alexnet, linear = (read_weights(folder / name, WANTED) for name in (ALEXNET, LINEAR))
    try:
        names = [f"features.{n}.{kind}" for n in CONVOLUTIONS for kind in ("weight", "bias")]
        weights = {name: alexnet[name] for name in names}
        weights |= {f"linear.{n}.weight": linear[f"lin{n}.model.1.weight"] for n in range(len(CONVOLUTIONS))}
        network.load_state_dict(weights, strict=True)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{folder} holds other files under the names {ALEXNET} and {LINEAR}: {error}.") from error
    return network.eval()


def lpips(network: Lpips, clip: Tensor, truth: Tensor) -> Tensor:
    """Frame by frame, (F,), 0 for equal ones; both (F, h, w, 3) in 0..1."""
    require_same_shape(clip, truth)
    if min(clip.shape[1:3]) < SMALLEST:
        height, width = clip.shape[1:3]
        raise ValueError(f"LPIPS needs pictures of {SMALLEST} pixels or more, these have {width} x {height}.")
    with torch.no_grad():
        frames = zip(*(pictures.permute(0, 3, 1, 2).split(1) for pictures in (clip, truth)), strict=True)
        return torch.cat([network(x, y) for x, y in frames])
