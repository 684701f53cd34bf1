"""Motion modules as sums: with MotionLoRAs baked in, averaged with each other, and taken apart into a MotionLoRA."""

from collections.abc import Callable, Iterator, Mapping
import math

from torch import Tensor

from .low_rank import LowRank, MotionLora, approximate, combine, truncate

Weights = Mapping[str, Tensor]


def bake(weights: Weights, lora: MotionLora) -> dict[str, Tensor]:
    """Weights with a MotionLoRA added, each in its own dtype. Raises KeyError for a target that is not there."""
    baked = dict(weights)
    for target, change in lora.items():
        baked[target] = (weights[target].float() + change.difference()).to(weights[target].dtype)
    return baked


def average(first: Weights, second: Weights, share_of: Callable[[str], float]) -> dict[str, Tensor]:
    """(1 - s) * first + s * second, s by the weight's key; position tables are the first's.

    Raises ValueError if the two have different weights.
    """
    missing = sorted(first.keys() ^ second.keys())
    if missing:
        raise ValueError(
            f"The two motion modules have different blocks; only one of them has {missing[0]}. "
            "Mix two of the same kind."
        )
    unlike = [key for key, value in first.items() if value.shape != second[key].shape and not key.endswith(".pe")]
    if unlike:
        raise ValueError(f"The two motion modules have {unlike[0]} in different sizes. Mix two of the same kind.")
    merged = {}
    for key, value in first.items():
        s = share_of(key)
        if key.endswith(".pe") or s == 0:
            merged[key] = value
        else:
            merged[key] = (value.float() * (1 - s) + second[key].float() * s).to(value.dtype)
    return merged


def linear_targets(first: Weights, second: Weights) -> list[str]:
    """The weights that a MotionLoRA can hold and in which two motion modules differ."""
    return [
        key
        for key, value in first.items()
        if key in second and value.ndim == 2 and value.shape == second[key].shape and not value.equal(second[key])
    ]


def extract(tuned: Weights, base: Weights, rank: int) -> Iterator[tuple[str, LowRank, float, float]]:
    """For each target: name, nearest change of `rank`, squared norms of what is lost and of the whole."""
    for target in linear_targets(base, tuned):
        yield target, *approximate(tuned[target].float() - base[target].float(), rank)


def reduce(loras: list[tuple[MotionLora, float]], rank: int) -> Iterator[tuple[str, LowRank, float, float]]:
    """The same for the sum of several MotionLoRAs at their strengths."""
    for target, change in combine(loras).items():
        yield target, *truncate(change, rank)


def relative_error(lost: float, whole: float) -> float:
    """Frobenius norm of what is lost over that of the whole, from squared norms."""
    return math.sqrt(lost / whole) if whole > 0 else 0.0
