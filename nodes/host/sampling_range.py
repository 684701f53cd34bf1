"""Points of the sampling range: 0 is its start, at full noise, and 1 its end."""

import torch
from torch import Tensor


def in_range(start_percent: float, end_percent: float, sigma: float | Tensor, model_sampling) -> bool:
    """Whether a step at noise level `sigma` lies in the range; the end belongs to whatever follows."""
    if start_percent <= 0 and end_percent >= 1:
        return True  # without reading sigma, which would wait for the device
    start, end = (model_sampling.percent_to_sigma(p) for p in (start_percent, end_percent))
    return end < float(sigma) <= start


def percent_of(sigma: float | Tensor, model_sampling) -> float:
    """How far sampling is at noise level `sigma`; the reverse of the host's percent_to_sigma."""
    return 1.0 - float(model_sampling.timestep(torch.as_tensor(float(sigma)))) / 999.0
