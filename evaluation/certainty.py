"""How sure a mean is."""

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and where it is with 95 % confidence."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def share(hits: Sequence[bool]) -> Estimate:
    """Wilson's interval (1927)."""
    n, z = len(hits), 1.96
    p = sum(hits) / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Estimate(p, *((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1)), n)


def mean(values: Sequence[float], resamples: int = 2000) -> Estimate:
    """The bootstrap's percentiles (Efron 1979), always of the same resamples."""
    array = np.asarray(values, dtype=np.float64)
    means = np.random.default_rng(0).choice(array, (resamples, len(array))).mean(1)
    return Estimate(float(array.mean()), *(float(bound) for bound in np.percentile(means, (2.5, 97.5))), len(array))
