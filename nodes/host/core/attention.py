"""The attention of temporal transformers: very many short sequences, of up to 160 channels."""

from functools import partial

import comfy.ldm.modules.attention
import comfy.model_management
import torch
from torch import Tensor

SEQUENCES_AT_ONCE = 2**15  # kernels on graphics cards end at 65535


def attention_over_frames(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(c)) v for (conds, sequences, frames, c) tensors, in PyTorch's own kernels.

    Not what the user chose for pictures: sage and int8 kernels refuse these sizes or lose accuracy on 16 frames, and
    the host's sub-quadratic attention, its choice on a processor, copies q, k and v. Where the host switched PyTorch's
    attention off for a graphics card, its choice stands.
    """
    attention = comfy.ldm.modules.attention
    torchs = comfy.model_management.pytorch_attention_enabled() or q.device.type == "cpu"
    kernel = partial(
        attention.attention_pytorch if torchs else attention.optimized_attention,
        skip_reshape=True,
        skip_output_reshape=True,
    )
    split = (t.split(SEQUENCES_AT_ONCE, dim=1) for t in (q, k, v))
    parts = [kernel(*part, heads=part[0].shape[1]) for part in zip(*split, strict=True)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
