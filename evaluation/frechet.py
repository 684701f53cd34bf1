"""Frechet distance (Dowson and Landau 1982) of two sets of features, each seen as one Gaussian."""

import torch
from torch import Tensor


def frechet_distance(features: Tensor, others: Tensor) -> float:
    """(N, D) and (M, D), two or more of each: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), covariances over N - 1.

    The last trace is the sum of the singular values of A B', where C1 = A'A and C2 = B'B: exact also where there are
    fewer samples than dimensions, as a square root of their product is not.
    """
    if min(len(features), len(others)) < 2:
        raise ValueError(f"A covariance needs two samples or more, not {len(features)} and {len(others)}.")
    (mean, a), (other_mean, b) = _gaussian(features), _gaussian(others)
    shared = torch.linalg.svdvals(a @ b.T).sum()
    distance = (mean - other_mean).square().sum() + a.square().sum() + b.square().sum() - 2 * shared
    return max(0.0, float(distance))  # rounding can leave some -1e-12


def _gaussian(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,), and (N, D) whose product with itself is the covariance."""
    samples = samples.double()
    mean = samples.mean(0)
    return mean, (samples - mean) / (len(samples) - 1) ** 0.5
