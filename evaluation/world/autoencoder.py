"""Pictures to latents and back, in the format of TAESD (a small public autoencoder), which ComfyUI recognises.

Latents are plain: the mean colour of 8 x 8 pixels in three channels, their brightness in the fourth. So the encoder is
written down, not learnt. The decoder, which makes outlines and ground out of them again, is learnt in minutes.
N: pictures   H, W: their size
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import Conv2d

FACTOR = 8
SCALE, MIDDLE = 5.0, 0.25  # so that latents have a mean of about 0 and a deviation of about 1
TAESD_WIDTH = 64


def encode(pictures: Tensor) -> Tensor:
    """(N, H, W, 3) in 0..1 to latents (N, 4, H / 8, W / 8), as `encoder_weights` do it in the host."""
    return latents_of(mean_colours(pictures))


def mean_colours(pictures: Tensor) -> Tensor:
    """Of 8 x 8 pixels each: (N, H, W, 3) to (N, H / 8, W / 8, 3)."""
    return nn.functional.avg_pool2d(pictures[..., :3].permute(0, 3, 1, 2), FACTOR).permute(0, 2, 3, 1)


def colours(latents: Tensor) -> Tensor:
    """Latents (N, 4, h, w) to mean colours, (N, h, w, 3) in 0..1."""
    return (latents[:, :3] / SCALE + MIDDLE).clamp(0, 1).permute(0, 2, 3, 1)


def latents_of(means: Tensor) -> Tensor:
    """The latents (N, 4, h, w) of mean colours (N, h, w, 3)."""
    rows = means.permute(0, 3, 1, 2)
    return (torch.cat((rows, rows.mean(dim=1, keepdim=True)), dim=1) - MIDDLE) * SCALE


class Block(nn.Module):
    """TAESD's, at any width; attribute names are its keys."""

    def __init__(self, width: int):
        super().__init__()
        layers = [Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.conv(x) + x)


class Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


def decoder(width: int = 16) -> nn.Sequential:
    """TAESD's decoder at a smaller width: latents (N, 4, h, w) to pictures (N, 3, 8 h, 8 w) of about 0..1.

    It begins as a smooth enlargement, so that learning only has to sharpen.
    """
    layers = [Clamp(), Conv2d(4, width, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        layers += [Block(width) for _ in range(3)]
        layers += [nn.Upsample(scale_factor=2), Conv2d(width, width, 3, padding=1, bias=False)]
    network = nn.Sequential(*layers, Block(width), Conv2d(width, 3, 3, padding=1))
    with torch.no_grad():
        _enlarge(network)
    return network


def _enlarge(network: nn.Sequential) -> None:
    """Colours above the middle go through channels 0..2, those below through 3..5: ReLUs cut what is negative."""
    blur = torch.outer(torch.tensor([0.25, 0.5, 0.25]), torch.tensor([0.25, 0.5, 0.25]))
    first, *enlarged, last = (layer for layer in network if isinstance(layer, Conv2d))
    for sign, channels in ((1.0, range(3)), (-1.0, range(3, 6))):
        first.weight[channels], first.bias[channels] = 0.0, 0.0
        first.weight[channels, range(3), 1, 1] = sign
        for layer in enlarged:
            layer.weight[channels] = 0.0
            layer.weight[channels, channels] = blur
    nn.init.zeros_(last.weight)
    last.weight[range(3), range(3), 1, 1], last.weight[range(3), range(3, 6), 1, 1] = 1 / SCALE, -1 / SCALE
    last.bias[:] = MIDDLE
    for block in (layer for layer in network if isinstance(layer, Block)):
        nn.init.zeros_(block.conv[4].weight)
        nn.init.zeros_(block.conv[4].bias)


def widened_decoder(narrow: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A narrow decoder's weights among zeros: there is no norm in it, so that is the same function."""
    into, out = {"1.weight"}, {"19.weight", "19.bias"}
    wide = {}
    for key, value in narrow.items():
        shape = [value.shape[0] if key in out else TAESD_WIDTH]
        if value.ndim == 4:
            shape += [value.shape[1] if key in into else TAESD_WIDTH, *value.shape[2:]]
        wide[key] = torch.zeros(shape)
        wide[key][tuple(slice(size) for size in value.shape)] = value.float()
    return wide


def encoder_weights() -> dict[str, Tensor]:
    """TAESD's encoder that takes means: colours in the first three of its channels, zeros in all others."""
    weights = {}

    def convolution(name: str, out: int, into: int, bias: bool = True) -> Tensor:
        weights[f"{name}.weight"] = torch.zeros(out, into, 3, 3)
        if bias:
            weights[f"{name}.bias"] = torch.zeros(out)
        return weights[f"{name}.weight"]

    convolution("0", TAESD_WIDTH, 3)[range(3), range(3), 1, 1] = 1.0
    index = 1
    for blocks, halved in ((1, True), (3, True), (3, True), (3, False)):
        for _ in range(blocks):
            for layer in (0, 2, 4):
                convolution(f"{index}.conv.{layer}", TAESD_WIDTH, TAESD_WIDTH)
            index += 1
        if halved:
            quarters = convolution(str(index), TAESD_WIDTH, TAESD_WIDTH, bias=False)
            for channel in range(3):
                quarters[channel, channel, 1:, 1:] = 0.25
            index += 1
    last = convolution(str(index), 4, TAESD_WIDTH)
    last[range(3), range(3), 1, 1] = SCALE
    last[3, :3, 1, 1] = SCALE / 3
    weights[f"{index}.bias"] -= SCALE * MIDDLE
    return weights


def vae_weights(narrow_decoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The autoencoder as VAELoader takes it, with TAESD's scale, so that the UNet's latents are `encode`'s."""
    weights = {f"taesd_encoder.{key}": value for key, value in encoder_weights().items()}
    weights |= {f"taesd_decoder.{key}": value for key, value in widened_decoder(narrow_decoder).items()}
    return weights | {"vae_scale": torch.tensor(0.18215), "vae_shift": torch.tensor(0.0)}
