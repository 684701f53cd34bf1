"""Tune-A-Video (Wu et al. 2022, arXiv 2212.11565): what an image model learns from one clip, and its file.

Every spatial self-attention becomes sparse-causal, each frame looks at the clip's first frame and the one before it;
every transformer block ends in an attention over the frames. Queries and that attention learn; all else stays.
B: conds in the batch   F: frames   P: tokens of a frame   C: channels
Attribute names are the keys of the authors' files, which are whole UNets in diffusers' names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import re

from einops import rearrange
import torch
from torch import Tensor, nn

from .changed_forward import Forward
from .checkpoint import unwrap
from .file_kind import FileKind, file_kind
from .temporal_transformer import Attention
from .values import check_values

QUERIES = ("attn1.to_q", "attn2.to_q")  # of the self-attention and of the cross-attention
BLOCK = r"(?:(?:down|up)_blocks\.\d+|mid_block)\.attentions\.\d+\.transformer_blocks\.\d+"
KEY = re.compile(rf"(?:.*\.)?({BLOCK}\.(?:attn[12]\.to_q|attn_temp\.to_(?:q|k|v|out\.0)|norm_temp)\.(?:weight|bias))")


class FrameAttention(nn.Module):
    """Self-attention over the frames at each place, which knows no positions."""

    def __init__(self, channels: int, heads: int, operations, dtype=None, device=None):
        super().__init__()
        self.heads = heads
        options = {"dtype": dtype, "device": device}
        self.to_q, self.to_k, self.to_v = (
            operations.Linear(channels, channels, bias=False, **options) for _ in range(3)
        )
        self.to_out = nn.ModuleList([operations.Linear(channels, channels, **options)])

    def forward(self, tokens: Tensor, num_frames: int, attention: Attention) -> Tensor:  # (B*F, P, C)
        split = (layer(tokens) for layer in (self.to_q, self.to_k, self.to_v))
        pattern = {"f": num_frames, "heads": self.heads}
        q, k, v = (rearrange(t, "(b f) p (heads c) -> b (p heads) f c", **pattern) for t in split)
        return self.to_out[0](rearrange(attention(q, k, v), "b (p heads) f c -> (b f) p (heads c)", heads=self.heads))


class TunedBlock(nn.Module):
    """What is added behind one transformer block; and, where they learn, the block's queries."""

    def __init__(self, channels: int, heads: int, operations, dtype=None, device=None, queries: bool = False):
        super().__init__()
        options = {"dtype": dtype, "device": device}
        for path in QUERIES if queries else ():
            register_at(self, path, operations.Linear(channels, channels, bias=False, **options))
        self.attn_temp = FrameAttention(channels, heads, operations, **options)
        self.norm_temp = operations.LayerNorm(channels, **options)

    def forward(
        self,
        tokens: Tensor,
        num_frames: int,
        attention: Attention = nn.functional.scaled_dot_product_attention,
    ) -> Tensor:
        """What the transformer block gives, (B*F, P, C), to the same shape."""
        return tokens + self.attn_temp(self.norm_temp(tokens), num_frames, attention)


class TuneAVideo(nn.Module):
    """All blocks of a UNet.

    shapes: channels and heads of each transformer block, by its name in diffusers. queries: they are layers here too,
    to learn; else they go into the UNet's own.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, int]], operations, dtype=None, device=None, queries: bool = False
    ):
        super().__init__()
        self.blocks: dict[str, TunedBlock] = {}
        for name, (channels, heads) in shapes.items():
            self.blocks[name] = TunedBlock(channels, heads, operations, dtype, device, queries)
            register_at(self, name, self.blocks[name])


def register_at(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register a module under a path, so that the names of its weights begin with it."""
    *parents, last = path.split(".")
    for name in parents:
        if name not in dict(root.named_children()):
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(last, module)


@dataclass(frozen=True)
class SparseCausalFrames:
    """Which frames each frame looks at.

    stored: frames that are not at hand but were in a window before. to_store: those at hand that later windows ask for.
    first, previous: for each frame at hand where the clip's first frame and the one before it are, among those at hand
    and then those stored.
    """

    stored: tuple[int, ...]
    to_store: tuple[int, ...]
    first: list[int]
    previous: list[int]


def sparse_causal_frames(
    frames: Sequence[int], earlier: Sequence[Sequence[int]] = (), later: Sequence[Sequence[int]] = ()
) -> SparseCausalFrames:
    """frames: at hand. earlier, later: the windows before and after in the same step.

    A frame that no window has had yet is stood in for by the one that comes before it among those that there are.
    """
    stored = tuple(sorted(_asked(frames) & set().union(*earlier)))
    to_store = tuple(sorted(set().union(*map(_asked, later)) & set(frames)))
    places = {frame: number for number, frame in enumerate((*frames, *stored))}
    start = min(frames)

    def place_of(frame: int) -> int:
        return places[max((there for there in places if there <= frame), default=start)]

    previous = [place_of(max(frame - 1, 0)) for frame in frames]
    return SparseCausalFrames(stored, to_store, [place_of(0) for _ in frames], previous)


def _asked(frames: Sequence[int]) -> set[int]:
    """What a window looks at outside of itself."""
    return {0, *(max(frame - 1, 0) for frame in frames)} - set(frames)


def sparse_causal(tokens: Tensor, frames: SparseCausalFrames) -> Tensor:
    """Tokens (B, frames at hand and stored, P, C) as the frames at hand look at them: (B*F, 2 P, C), section 3.2."""
    return torch.cat([tokens[:, frames.first], tokens[:, frames.previous]], dim=2).flatten(0, 1)


def with_keys_of(look: Callable[[Tensor, str], Tensor]) -> Callable[[Forward], Forward]:
    """A change of a self-attention: keys and values are made of what `look` makes of its own tokens.

    look: also told which they are, "keys" or "values", for some hosts' patches give an attention two kinds.
    """

    def change(forward: Forward) -> Forward:
        def attend(x: Tensor, context: Tensor | None = None, value: Tensor | None = None, **options) -> Tensor:
            own = x if context is None else context
            keys = look(own, "keys")
            if value is not None:
                options["value"] = keys if value is own else look(value, "values")
            return forward(x, context=keys, **options)

        return attend

    return change


def read_tune_a_video(file_content: Mapping) -> dict[str, Tensor]:
    """What was learnt, by its key in the authors' files; the rest of a whole UNet is that of its checkpoint, unchanged.

    Raises ValueError that says what the file is instead, or names a weight that is unusable.
    """
    if not isinstance(file_content, Mapping):
        raise ValueError(f"this file holds a {type(file_content).__name__}, not named weights.")
    raw = unwrap(file_content)
    kind = file_kind(raw)
    if kind is not FileKind.TUNED_VIDEO:
        raise ValueError(f"this file is {kind.value}.")
    weights = {found[1]: value for key, value in raw.items() if (found := KEY.fullmatch(key))}
    check_values(weights)
    return weights


def fit_problem(shapes: Mapping[str, tuple[int, int]], weights: Mapping[str, Tensor]) -> str | None:
    """Why a file's weights do not fit a UNet of these shapes; None if they do."""
    wanted = TuneAVideo(shapes, nn, device="meta", queries=True).state_dict()
    missing = [key for key in wanted if key not in weights]
    if missing:
        return f"it misses {len(missing)} of {len(wanted)} weights, such as {missing[0]}"
    for key in weights:
        if key not in wanted:
            return f"it has {key}, which the model has no place for"
        if weights[key].shape != wanted[key].shape:
            return f"{key} is {tuple(weights[key].shape)} and has to be {tuple(wanted[key].shape)}"
    return None
