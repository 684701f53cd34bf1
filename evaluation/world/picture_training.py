"""Learning to draw pictures from latents: the autoencoder's decoder, which is no part of what the paper trains."""

from pathlib import Path

from safetensors.torch import load_file, save_file
import torch
from torch import Tensor, nn

from ...training.atomic import write_file
from ...training.noise import generator_at
from .autoencoder import decoder, encode
from .drawing import as_video, draw
from .learning import clock_of
from .scenes import STYLES, draw_scene

BATCH = 8
ROUGHNESS = 0.1  # deviation of noise on the latents, because sampled ones are never exact
SAVE_EVERY = 50  # steps


def learn_decoder(path: Path, seconds: float, seed: int = 0) -> nn.Sequential:
    """The decoder of a file, trained for so many seconds in all; the file says how many it has had."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = decoder()
    network.requires_grad_(True)
    state = load_file(path) if path.is_file() else {}
    spent, step = (state.pop(name, torch.tensor(0.0)).item() for name in ("seconds", "step"))
    if state:
        network.load_state_dict(state)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0)
    clock = clock_of(torch.device("cpu"))
    start = clock() - spent
    while clock() - start < seconds:
        pictures = _pictures(seed, int(step))
        with torch.enable_grad():
            loss = picture_loss(network, pictures, generator_at(seed, "roughness", int(step)))
            optimizer.zero_grad()
            loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % SAVE_EVERY == 0 or clock() - start >= seconds:
            numbers = {"seconds": torch.tensor(clock() - start), "step": torch.tensor(float(step))}
            write_file(path, lambda part: save_file({**network.state_dict(), **numbers}, part))  # noqa: B023
    return network.requires_grad_(False)


def picture_loss(network: nn.Module, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """How far pictures (N, H, W, 3) are from what comes of their latents, and how far their outlines are."""
    latents = encode(pictures)
    drawn = network(latents + ROUGHNESS * torch.randn(latents.shape, generator=generator))
    wanted = pictures.permute(0, 3, 1, 2)
    outlines = sum(nn.functional.l1_loss(drawn.diff(dim=dim), wanted.diff(dim=dim)) for dim in (2, 3))
    return nn.functional.l1_loss(drawn, wanted) + outlines


def _pictures(seed: int, step: int) -> Tensor:
    pictures = []
    for number in range(BATCH):
        picture = draw(draw_scene(seed, step * BATCH + number, bare=0.1, styles=STYLES)).pictures
        pictures.append(as_video(picture) if number % 4 == 0 else picture)
    return torch.cat(pictures)
