"""The frames of a clip in one picture."""

import math

from einops import rearrange
import torch
from torch import Tensor


def contact_sheet(frames: Tensor, most: int = 16) -> Tensor:
    """Up to `most` frames (F, H, W, C), evenly taken, row by row in a picture (H', W', C); empty places are black."""
    count = min(most, frames.shape[0])
    taken = frames[torch.linspace(0, frames.shape[0] - 1, count).round().long()]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    padded = torch.cat((taken, taken.new_zeros(rows * columns - count, *frames.shape[1:])))
    return rearrange(padded, "(r c) h w k -> (r h) (c w) k", c=columns)
