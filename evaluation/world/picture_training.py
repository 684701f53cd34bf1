"""Learning to draw pictures from latents: the autoencoder's decoder, which is no part of what the paper trains."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ...training.noise import generator_at
from .autoencoder import decoder, encode
from .characters import draw_character, draw_dance, paint
from .drawing import as_video, draw
from .learning import learn_file
from .scenes import STYLES, draw_scene

BATCH = 8
ROUGHNESS = 0.1  # deviation of noise on the latents, because sampled ones are never exact


def learn_decoder(path: Path, seconds: float, pictures: Callable[[int], Tensor]) -> nn.Sequential:
    """The decoder of a file, trained for so many seconds in all. pictures: of a step, (BATCH, H, W, 3)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = decoder()

    def loss(step: int) -> Tensor:
        return picture_loss(network, pictures(step), generator_at(0, "roughness", step))

    return learn_file(path, network, seconds, loss)


def picture_loss(network: nn.Module, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """How far pictures (N, H, W, 3) are from what comes of their latents, and how far their outlines are."""
    latents = encode(pictures)
    drawn = network(latents + ROUGHNESS * torch.randn(latents.shape, generator=generator))
    wanted = pictures.permute(0, 3, 1, 2)
    outlines = sum(nn.functional.l1_loss(drawn.diff(dim=dim), wanted.diff(dim=dim)) for dim in (2, 3))
    return nn.functional.l1_loss(drawn, wanted) + outlines


def scenes(step: int) -> Tensor:
    """In all styles, a quarter of them as videos have them."""
    pictures = []
    for number in range(BATCH):
        picture = draw(draw_scene(0, step * BATCH + number, bare=0.1, styles=STYLES)).pictures
        pictures.append(as_video(picture) if number % 4 == 0 else picture)
    return torch.cat(pictures)


def dancers(step: int) -> Tensor:
    """Characters at the first moment of their dances."""
    numbers = range(step * BATCH, (step + 1) * BATCH)
    return torch.cat([paint(draw_character(0, n), draw_dance(0, n).frames(1))[0] for n in numbers])
