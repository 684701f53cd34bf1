"""One low-rank change of one weight, and how several of them become one."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """alpha / rank * up @ down, to be added to a weight (out, in); without alpha the factor is 1.

    up: (out, rank). down: (rank, in).
    """

    up: Tensor
    down: Tensor
    alpha: float | None = None

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha / self.rank

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight that it changes."""
        return self.up.shape[0], self.down.shape[1]

    def difference(self) -> Tensor:
        """What is added at strength 1, (out, in) in float32."""
        return self.scale * (self.up.float() @ self.down.float())


# A MotionLoRA: changes by the weight that they belong to, such as
# "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q.weight".
MotionLora = dict[str, LowRank]


def combine(loras: Iterable[tuple[MotionLora, float]]) -> MotionLora:
    """sum_i strength_i * lora_i, exactly: ranks add up, and strengths and alphas go into `up`, in float32."""
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for lora, strength in loras:
        for target, change in lora.items():
            up = change.up.float() * (strength * change.scale)
            parts.setdefault(target, []).append((up, change.down.float()))
    return {
        target: LowRank(torch.cat([up for up, _ in both], dim=1), torch.cat([down for _, down in both], dim=0))
        for target, both in parts.items()
    }


def truncate(change: LowRank, rank: int) -> tuple[LowRank, float, float]:
    """The nearest change of at most `rank` (Eckart-Young), and the squared norms of what is lost and of the whole.

    The product is never formed: QR of both factors leaves an SVD of the size of the rank.
    """
    up, down = change.up.double() * change.scale, change.down.double()
    left, left_core = torch.linalg.qr(up)
    right, right_core = torch.linalg.qr(down.T)
    u, s, v = torch.linalg.svd(left_core @ right_core.T, full_matrices=False)
    kept = min(rank, s.shape[0])
    root = s[:kept].sqrt()
    smaller = LowRank((left @ u[:, :kept] * root).float(), (root[:, None] * (v[:kept] @ right.T)).float())
    return smaller, s[kept:].square().sum().item(), s.square().sum().item()


def approximate(difference: Tensor, rank: int) -> tuple[LowRank, float, float]:
    """The same for a full difference (out, in) of two weights.

    From the eigenvectors of the smaller Gram matrix, in float64: under half the time of an SVD for a feed-forward's
    weight, and exact to about 1e-8 of the difference's norm.
    """
    full = difference.double()
    tall = full.shape[0] >= full.shape[1]
    _, vectors = torch.linalg.eigh(full.T @ full if tall else full @ full.T)
    kept = vectors.flip(1)[:, :rank]
    up, down = (full @ kept, kept.T) if tall else (kept, kept.T @ full)
    balance = ((up.norm(dim=0) + 1e-30) / (down.norm(dim=1) + 1e-30)).sqrt()
    change = LowRank((up / balance).float().cpu(), (down * balance[:, None]).float().cpu())
    whole = full.square().sum().item()
    return change, (full - up @ down).square().sum().item(), whole
