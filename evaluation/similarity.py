"""What CLIP says of a clip, from its embeddings (F, D); all in 100 times a cosine, as the paper's Table 1 has it.

Text and domain: Guo et al. 2023, arXiv 2307.04725. Smoothness: Wu et al. 2023, arXiv 2212.11565 (Tune-A-Video), which
the paper cites. A frozen clip has a smoothness of 100, so it never stands without the amount of motion beside it.
"""

import math

from torch import Tensor, nn


def text_alignment(frames: Tensor, text: Tensor) -> Tensor:
    """Each frame against the prompt's embedding (D,): (F,). The metric is its mean."""
    return 100 * _directions(frames) @ _directions(text)


def domain_similarity(frames: Tensor, references: Tensor) -> Tensor:
    """Each frame against each picture (K, D) of the same checkpoint without motion: (F, K).

    The metric is the mean of all; the mean over frames of the best k stands beside it.
    """
    return 100 * _directions(frames) @ _directions(references).T


def smoothness(frames: Tensor) -> float:
    """Mean over all pairs of different frames; nan for a single one."""
    count = frames.shape[0]
    if count < 2:
        return math.nan
    total = _directions(frames).sum(0)
    own = _directions(frames).square().sum()
    return 100 * float(total @ total - own) / (count * (count - 1))


def consecutive(frames: Tensor) -> Tensor:
    """Each frame against the next: (F - 1,)."""
    directions = _directions(frames)
    return 100 * (directions[:-1] * directions[1:]).sum(-1)


def _directions(embeddings: Tensor) -> Tensor:
    return nn.functional.normalize(embeddings.double(), dim=-1)
