"""The paper's ablation (Guo et al. 2023, arXiv 2307.04725, section 5.3): convolution over time in place of attention.

A motion module whose temporal attentions are 1D convolutions over the frames, with as many weights: a kernel of three
has what to_q, to_k and to_v had. It knows order by its kernel, so it needs no table of positions, and sees one frame to
each side in every layer, where attention sees all.
"""

from einops import rearrange
import torch
from torch import Tensor, nn
from torch.nn import Conv1d, Linear

from ...motion_modules.motion_module import MotionModule

KERNEL = 3


class TemporalConvolution(nn.Module):
    """In the place of a `TemporalAttention`, called alike; what acts on attention alone has no effect."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = Conv1d(channels, channels, KERNEL, padding=KERNEL // 2, bias=False)
        self.to_out = nn.ModuleList([Linear(channels, channels)])

    def forward(self, tokens: Tensor, num_frames: int, *_) -> Tensor:
        """tokens: normalised, (B*F, P, C). Returns the same shape."""
        places = tokens.shape[1]
        clips = rearrange(tokens, "(b f) p c -> (b p) c f", f=num_frames)
        mixed = rearrange(self.conv(clips), "(b p) c f -> (b f) p c", p=places)
        return self.to_out[0](mixed)


def convolutional(motion: MotionModule, seed: int) -> MotionModule:
    """Put convolutions in the place of all attentions of a motion module, drawn anew; the rest stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for transformer in motion.sites.values():
            for block in transformer.transformer_blocks:
                block.attention_blocks = nn.ModuleList(
                    TemporalConvolution(transformer.channels) for _ in block.attention_blocks
                )
    return motion
