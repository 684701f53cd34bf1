"""Tune-A-Video under training (Wu et al. 2022, arXiv 2212.11565, section 3.3): one clip, learnt by an image model.

The clip is seen through sparse-causal attention. The queries of self- and cross-attention learn, and a new attention
over the frames behind each transformer block; everything else stays, that attention's norm with it. As in the authors'
code, norms of ResBlocks and of the UNet's end are taken over all frames.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
import re

import torch
from torch import Tensor, nn

from ..motion_modules.changed_forward import Change, Forward, on_output
from ..motion_modules.temporal_transformer import norms_over_frames
from ..motion_modules.tune_a_video import QUERIES, TuneAVideo, sparse_causal, sparse_causal_frames, with_keys_of
from .base import Base
from .denoiser import Denoiser, Parts
from .stages import Stage

FRAME_NORM = re.compile(r"(?:^|\.)(?:in_layers|out_layers)\.0$|^out\.0$")


@dataclass(frozen=True)
class TuneParts(Parts):
    """tune_a_video: what learns."""

    tune_a_video: TuneAVideo | None = None


class TuneDenoiser(Denoiser):
    """Predicts the noise of the clip."""

    def __init__(self, stage: Stage, base: Base, parts: TuneParts):
        super().__init__(stage, base, parts)
        self.frame_norms = [norm for path, norm in base.unet.named_modules() if FRAME_NORM.search(path)]
        for block in self.trained.blocks.values():
            block.norm_temp.requires_grad_(False)

    def _changes(self, num_frames: int, recompute: bool) -> Iterator[Change]:
        yield from super()._changes(num_frames, recompute)
        yield from norms_over_frames(self.frame_norms, num_frames)
        look = seeing_clip(num_frames)
        for name, block in self.base.transformer_blocks().items():
            tuned = self.trained.blocks[name]
            for query in QUERIES:
                yield block.get_submodule(query), replaced_by(tuned.get_submodule(query))
            yield block.attn1, with_keys_of(look)
            yield block, on_output(partial(tuned, num_frames=num_frames))


def seeing_clip(num_frames: int) -> Callable[[Tensor, str], Tensor]:
    """What the self-attentions see of whole clips."""
    frames = sparse_causal_frames(range(num_frames))
    return lambda tokens, which: sparse_causal(tokens.unflatten(0, (-1, num_frames)), frames)


def replaced_by(layer: nn.Module) -> Callable[[Forward], Forward]:
    return lambda forward: lambda x: layer(x)  # a module in place of a function would be registered in its layer


def fresh_tune_denoiser(stage: Stage, base: Base, frozen: Parts, seed: int) -> TuneDenoiser:
    """A network at its beginning: the base's own queries, and attention over the frames that adds nothing.

    The authors' begins with the bias of its last layer at random; here that is zero too.
    """
    given = {field.name: getattr(frozen, field.name) for field in fields(Parts)}
    return TuneDenoiser(stage, base, TuneParts(**given, tune_a_video=fresh_network(base, seed)))


def fresh_network(base: Base, seed: int) -> TuneAVideo:
    blocks = base.transformer_blocks()
    shapes = {name: (block.attn1.to_q.in_features, block.attn1.heads) for name, block in blocks.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TuneAVideo(shapes, nn, queries=True)
    for name, block in blocks.items():
        tuned = network.blocks[name]
        for query in QUERIES:
            tuned.get_submodule(query).load_state_dict(block.get_submodule(query).state_dict())
        nn.init.zeros_(tuned.attn_temp.to_out[0].weight)
        nn.init.zeros_(tuned.attn_temp.to_out[0].bias)
    return network
