"""The temporal transformer of AnimateDiff (Guo et al. 2023, arXiv 2307.04725, section 4.2).

B: conds in the batch   F: frames   C: channels   H, W: latent size   P = H * W
A UNet hands over rows as (B*F, C, H, W), cond by cond. Every layer here acts on the last dimension
except attention, which runs over F at each pixel; so tokens stay (B*F, P, C) and only attention
looks at them through a transposed view.

Attribute names are the checkpoints' keys. Layers come in through `operations`: torch.nn, or the
host's comfy.ops. No module holds anything but weights.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
import math

from einops import rearrange
import torch
from torch import Tensor, nn

from .changed_forward import Change
from .config import NORM_GROUPS, NUM_HEADS

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]  # of (N, sequences, F, c), as scaled_dot_product_attention
View = tuple[Tensor, Tensor]  # (f,) and (f,): frames that are seen together, and the share of each in the result
ByFrame = float | Tensor  # one number, or (F, 1, h, w): a number for every frame and, unless 1 x 1, every place


def sinusoid(max_frames: int, channels: int) -> Tensor:
    """Position table (1, max_frames, channels): sine in even columns, cosine in odd, base 10000."""
    position = torch.arange(max_frames, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, channels, 2, dtype=torch.float32) * (-math.log(10000.0) / channels))
    table = torch.zeros(1, max_frames, channels)
    table[0, :, 0::2] = torch.sin(position * frequency)
    table[0, :, 1::2] = torch.cos(position * frequency)
    return table


def fold_frames(x: Tensor, num_frames: int) -> Tensor:
    """So that a GroupNorm takes its statistics over all frames of a cond."""
    return rearrange(x, "(b f) c h w -> b c f h w", f=num_frames)


def unfold_frames(x: Tensor) -> Tensor:
    return rearrange(x, "b c f h w -> (b f) c h w")


def norms_over_frames(norms: Iterable[nn.Module], num_frames: int) -> Iterator[Change]:
    """For `changed_forwards`: these norms take their statistics over all frames of a cond."""
    for norm in norms if num_frames > 1 else ():
        yield norm, lambda forward: lambda x: unfold_frames(forward(fold_frames(x, num_frames)))


def resized_to(value: ByFrame, like: Tensor) -> ByFrame:
    """A per-frame value resized to the rows (.., H, W) that it shall act on, in their dtype and on their device.

    Resized before it is moved: not every graphics card takes the mean over areas that do not divide.
    """
    if not isinstance(value, Tensor):
        return value
    if value.shape[2:] not in ((1, 1), like.shape[2:]):
        value = nn.functional.interpolate(value, like.shape[2:], mode="area")
    return value.to(device=like.device, dtype=like.dtype)


def plus_by_frame(x: Tensor, term: Tensor) -> Tensor:
    """(B*F, ..) with the term of each of its F frames, (F, ..), added in every cond."""
    return x + term.repeat(x.shape[0] // term.shape[0], *[1] * (term.ndim - 1)).to(x)


class PositionalEncoding(nn.Module):
    """Holds the table `pe` (1, max_frames, C) in float32."""

    def __init__(self, channels: int, max_frames: int, device=None):
        super().__init__()
        self.register_buffer("pe", torch.empty(1, max_frames, channels, dtype=torch.float32, device=device))

    def forward(self, tokens: Tensor, table: Tensor | None = None) -> Tensor:  # (B, F, P, C), (max_frames, C)
        table = self.pe[0] if table is None else table
        return tokens + table[: tokens.shape[1], None].to(device=tokens.device, dtype=tokens.dtype)


class TemporalAttention(nn.Module):
    """Self-attention over the frames at each pixel."""

    def __init__(self, channels: int, max_frames: int, operations, dtype=None, device=None):
        super().__init__()
        options = {"dtype": dtype, "device": device}
        self.to_q = operations.Linear(channels, channels, bias=False, **options)
        self.to_k = operations.Linear(channels, channels, bias=False, **options)
        self.to_v = operations.Linear(channels, channels, bias=False, **options)
        self.to_out = nn.ModuleList([operations.Linear(channels, channels, **options)])
        self.pos_encoder = PositionalEncoding(channels, max_frames, device=device)

    def forward(
        self,
        tokens: Tensor,
        num_frames: int,
        motion_scale: ByFrame,
        attention: Attention,
        positions: Tensor | None = None,
    ) -> Tensor:
        """tokens: normalised, (B*F, P, C); positions count from 0 in every clip. Returns the same shape.

        motion_scale: a number, or one for each frame and place, (F, P or 1, 1).
        """
        tokens = self.pos_encoder(rearrange(tokens, "(b f) p c -> b f p c", f=num_frames), positions)
        q, k, v = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        if isinstance(motion_scale, Tensor) or motion_scale != 1.0:
            k = k * motion_scale
        # every head of every pixel is a sequence of frames: so these are views, and so is what comes back
        q, k, v = (rearrange(t, "b f p (heads c) -> b (p heads) f c", heads=NUM_HEADS) for t in (q, k, v))
        mixed = attention(q, k, v)
        return self.to_out[0](rearrange(mixed, "b (p heads) f c -> (b f) p (heads c)", heads=NUM_HEADS))


class GEGLU(nn.Module):
    def __init__(self, channels: int, hidden: int, operations, dtype=None, device=None):
        super().__init__()
        self.proj = operations.Linear(channels, hidden * 2, dtype=dtype, device=device)

    def forward(self, tokens: Tensor) -> Tensor:
        value, gate = self.proj(tokens).chunk(2, dim=-1)
        return value * nn.functional.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels: int, operations, dtype=None, device=None):
        super().__init__()
        self.net = nn.ModuleList(
            [
                GEGLU(channels, channels * 4, operations, dtype=dtype, device=device),
                nn.Identity(),  # the checkpoints' dropout, which keeps net.2 in its place
                operations.Linear(channels * 4, channels, dtype=dtype, device=device),
            ]
        )

    def forward(self, tokens: Tensor, slices: int = 1) -> Tensor:  # (B*F, P, C)
        parts = [self.net[2](self.net[0](part)) for part in tokens.chunk(slices)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class TemporalTransformerBlock(nn.Module):
    def __init__(self, channels: int, attentions: int, max_frames: int, operations, dtype=None, device=None):
        super().__init__()
        options = {"dtype": dtype, "device": device}
        self.attention_blocks = nn.ModuleList(
            TemporalAttention(channels, max_frames, operations, **options) for _ in range(attentions)
        )
        self.norms = nn.ModuleList(operations.LayerNorm(channels, **options) for _ in range(attentions))
        self.ff = FeedForward(channels, operations, **options)
        self.ff_norm = operations.LayerNorm(channels, **options)

    def forward(
        self,
        tokens: Tensor,
        num_frames: int,
        motion_scale: ByFrame,
        attention: Attention,
        positions: Sequence[Tensor | None],
        feed_forward_slices: int,
        views: Sequence[View] | None,
    ) -> Tensor:
        attend = self._attend if views is None else partial(self._attend_in_views, views)
        tokens = attend(tokens, num_frames, motion_scale, attention, positions)
        return tokens + self.ff(self.ff_norm(tokens), feed_forward_slices)

    def _attend(
        self,
        tokens: Tensor,
        num_frames: int,
        motion_scale: ByFrame,
        attention: Attention,
        positions: Sequence[Tensor | None],
    ) -> Tensor:
        for norm, attention_block, table in zip(self.norms, self.attention_blocks, positions, strict=True):
            tokens = tokens + attention_block(norm(tokens), num_frames, motion_scale, attention, table)
        return tokens

    def _attend_in_views(
        self, views: Sequence[View], tokens: Tensor, num_frames: int, motion_scale: ByFrame, *others
    ) -> Tensor:
        """As FreeNoise does it (Qiu et al. 2023, arXiv 2310.15169): views overlap, and where they do, they mix."""
        clip = rearrange(tokens, "(b f) p c -> b f p c", f=num_frames)
        mixed = torch.zeros_like(clip)
        for frames, shares in views:
            scale = motion_scale[frames] if isinstance(motion_scale, Tensor) else motion_scale
            seen = self._attend(rearrange(clip[:, frames], "b f p c -> (b f) p c"), len(frames), scale, *others)
            seen = rearrange(seen, "(b f) p c -> b f p c", f=len(frames))
            mixed[:, frames] += seen * shares.to(seen)[:, None, None]
        return rearrange(mixed, "b f p c -> (b f) p c")


class TemporalTransformer(nn.Module):
    """One motion module site: norm, projection, one transformer block over frames, projection, residual."""

    def __init__(
        self,
        channels: int,
        attentions: int,
        max_frames: int,
        norm_over_frames: bool,
        operations,
        dtype=None,
        device=None,
    ):
        super().__init__()
        options = {"dtype": dtype, "device": device}
        self.channels = channels
        self.norm_over_frames = norm_over_frames
        self.norm = operations.GroupNorm(NORM_GROUPS, channels, eps=1e-6, **options)
        self.proj_in = operations.Linear(channels, channels, **options)
        self.transformer_blocks = nn.ModuleList(
            [TemporalTransformerBlock(channels, attentions, max_frames, operations, **options)]
        )
        self.proj_out = operations.Linear(channels, channels, **options)

    def forward(
        self,
        x: Tensor,
        num_frames: int,
        motion_scale: ByFrame = 1.0,
        effect: ByFrame = 1.0,
        attention: Attention = nn.functional.scaled_dot_product_attention,
        positions: Sequence[Tensor | None] | None = None,
        feed_forward_slices: int = 1,
        views: Sequence[View] | None = None,
    ) -> Tensor:
        """(B*F, C, H, W) to the same shape and dtype, x itself left as it is.

        motion_scale multiplies the attention keys; effect scales what is added to x (0 adds nothing).
        Both are numbers, or (F, 1, h, w) with any h and w, resized to H and W.
        positions: tables (max_frames, C) in place of the attentions' own.
        feed_forward_slices: in how many parts the feed-forward runs, whose hidden layer is the largest tensor here.
        views: frames whose attentions see each other and no others, positions counting from 0 in each.
        """
        if self.norm_over_frames:
            tokens = unfold_frames(self.norm(fold_frames(x, num_frames)))
        else:
            tokens = self.norm(x)
        tokens = self.proj_in(rearrange(tokens, "bf c h w -> bf (h w) c"))
        motion_scale, effect = resized_to(motion_scale, x), resized_to(effect, x)
        if isinstance(motion_scale, Tensor):
            motion_scale = rearrange(motion_scale, "f one h w -> f (h w) one")
        for block in self.transformer_blocks:
            tables = positions or [None] * len(block.attention_blocks)
            tokens = block(tokens, num_frames, motion_scale, attention, tables, feed_forward_slices, views)
        motion = rearrange(self.proj_out(tokens), "bf (h w) c -> bf c h w", h=x.shape[2])
        if isinstance(effect, Tensor):
            return torch.addcmul(x, motion, effect.repeat(x.shape[0] // num_frames, 1, 1, 1))
        return torch.add(x, motion, alpha=effect)
