"""Whether a file's weights are those of a network, and can be computed with: any others render black frames."""

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


def check_names(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], what: str) -> None:
    """Raises ValueError that names missing and unexpected weights of a `what`, and those of another shape."""
    shapes = [
        f"{key} is {tuple(weights[key].shape)}, not {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    for problem, names in (
        ("misses weights", [key for key in expected if key not in weights]),
        ("has unexpected weights", [key for key in weights if key not in expected]),
        ("has wrong shapes", shapes),
    ):
        if names:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            raise ValueError(
                f"this {what} {problem}: {', '.join(names[:4])}{more}. It may be cut short, so download it again; "
                "or of an unknown kind."
            )
