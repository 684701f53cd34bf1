"""A small CLIP of the world (Radford et al. 2021, arXiv 2103.00020), a stand-in for the paper's Table 1.

Pictures go through a few convolutions, captions are the sums of their words; both are learnt together, so that a
picture is nearest to its own caption. It sees mean colours alone, as latents hold them.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import Conv2d, Embedding, Linear

from .autoencoder import encode
from .drawing import draw
from .learning import learn_file
from .scenes import COLOURS, DIRECTIONS, GROUNDS, KINDS, SIZE, STYLES, draw_scene

VOCABULARY = ("a", "moving", "over", *COLOURS, *KINDS, *DIRECTIONS, *GROUNDS, *STYLES)
WIDTH = 64
BATCH = 64
SEED = 9
FIRST_SCALE = 2.66  # the logarithm of CLIP's own, 1 / 0.07


class WorldClip(nn.Module):
    """`evaluation.scores.WholeClip`."""

    def __init__(self):
        super().__init__()
        sizes = [(3, 32, 1), (32, 64, 2), (64, 128, 2), (128, 128, 1)]
        layers = [
            layer
            for into, out, stride in sizes
            for layer in (Conv2d(into, out, 3, stride=stride, padding=1), nn.ReLU())
        ]
        self.picture = nn.Sequential(*layers, nn.Flatten(), Linear(128 * (SIZE // 8 // 4) ** 2, WIDTH))
        self.word = Embedding(len(VOCABULARY), WIDTH)
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))

    def images(self, clip: Tensor) -> Tensor:
        """Pictures (F, 128, 128, 3) in 0..1 to embeddings (F, 64)."""
        return self.picture(encode(clip)[:, :3])

    def text(self, prompt: str) -> Tensor:
        """(64,). Raises ValueError for a prompt without a word of the world."""
        known = [VOCABULARY.index(word) for word in prompt.replace(",", " ").split() if word in VOCABULARY]
        if not known:
            raise ValueError(f"the small world has no word of '{prompt}'.")
        return self.word(torch.tensor(known, device=self.word.weight.device)).sum(0)


def learn_clip(path: Path, seconds: float) -> WorldClip:
    """That of a file, trained for so many seconds in all."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = WorldClip()
    return learn_file(path, network, seconds, lambda step: pairs_loss(network, *_pairs(step)))


def pairs_loss(network: WorldClip, pictures: Tensor, captions: Sequence[str]) -> Tensor:
    """CLIP's loss, both ways. Pictures of the same caption are as right as each other."""
    texts = nn.functional.normalize(torch.stack([network.text(caption) for caption in captions]), dim=1)
    likeness = network.scale.exp() * nn.functional.normalize(network.images(pictures), dim=1) @ texts.T
    same = torch.tensor([[float(one == other) for other in captions] for one in captions])
    right = same / same.sum(1, keepdim=True)
    return (nn.functional.cross_entropy(likeness, right) + nn.functional.cross_entropy(likeness.T, right)) / 2


def _pairs(step: int) -> tuple[Tensor, list[str]]:
    scenes = [draw_scene(SEED, step * BATCH + number, styles=STYLES) for number in range(BATCH)]
    return torch.cat([draw(scene).pictures for scene in scenes]), [scene.caption for scene in scenes]
