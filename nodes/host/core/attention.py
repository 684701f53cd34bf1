"""The attention of temporal transformers: short sequences, one for each pixel, of up to 160 channels a head."""

import comfy.ldm.modules.attention
import comfy.model_management
from torch import Tensor


def attention_over_frames(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for (N, F, C) tensors, in PyTorch's own kernels.

    Not what the user chose for pictures: sage and int8 kernels refuse these head sizes or lose accuracy on 16 frames,
    and the host's sub-quadratic attention, its choice on a processor, copies q, k and v. The host's function also knows
    how many sequences a kernel takes. Where the host switched PyTorch's attention off, its choice stands.
    """
    attention = comfy.ldm.modules.attention
    if comfy.model_management.pytorch_attention_enabled() or q.device.type == "cpu":
        return attention.attention_pytorch(q, k, v, heads)
    return attention.optimized_attention(q, k, v, heads)
