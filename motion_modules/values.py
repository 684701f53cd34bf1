"""Whether weights can be computed with; a file that holds anything else renders black frames."""

from collections.abc import Mapping
import math

import torch
from torch import Tensor


def check_values(weights: Mapping[str, Tensor]) -> None:
    """Raises ValueError that names a weight of whole numbers, or one that holds NaN or infinity."""
    for key, value in weights.items():
        if not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise ValueError(
                f"this file holds whole numbers ({kind}) at {key}, which are no weights; its conversion failed. "
                "Use the original file."
            )
        # a sum keeps NaN and infinity, and needs no copy of the weight
        if not math.isfinite(value.sum(dtype=torch.float32)):
            raise ValueError(
                f"this file holds values that are not numbers at {key}; it is damaged, or its training failed. "
                "Download it again, or take an earlier state of the training."
            )
