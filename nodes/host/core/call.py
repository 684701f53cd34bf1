"""One call of the UNet, and what acts in it.

The host runs a clip as rows of a batch: cond by cond, the frames at hand of each. `Call` says once which rows these
are; whatever is attached to a MODEL reads it and gives an `Answer`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from ....lora.layers import LowRankUse
from ....motion_modules.changed_forward import Forward

# in the host's transformer_options: what says how a motion module sees the clip, and what windows keep for each other
VIEWS, BANK = "animatic_views", "animatic_window_bank"
WINDOWS = "animatic_windows"  # the windows of the step at hand, as `WindowsOfStep`
# the conds of the rows that a self-attention is given, where an answer divides those of a call
ROWS = "animatic_rows"


@dataclass(frozen=True, eq=False)
class Call:
    """latents: what goes into the UNet, (conds * frames, C, H, W). sigma: its noise level, a scalar on the device.

    frames: which of the clip's `full_length` frames the rows of each cond are.
    conds: the host's numbers of the conds in the batch, in their order: 0 positive, 1 negative. A guider that asks for
        one cond alone has it as 0, whichever it is.
    options: the host's transformer_options of this call. dtype: in which the network computes.
    run_plain: runs the UNet as it is, without anything attached or any ControlNet, on one row for each cond,
        (conds, C, H, W), with that cond's prompt at this noise level.
    """

    latents: Tensor
    sigma: Tensor
    frames: tuple[int, ...]
    full_length: int
    conds: tuple[int, ...]
    options: Mapping
    model_sampling: object
    dtype: torch.dtype
    unet: nn.Module | None = None
    run_plain: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def at_hand(
        cls,
        latents: Tensor,
        sigma: Tensor,
        conds: Sequence[int],
        options: Mapping,
        model_sampling,
        dtype: torch.dtype | None = None,
    ) -> "Call":
        """Read off what the host passes: a batch, its noise level and conds, and its transformer_options."""
        frames = frames_at_hand(options, latents.shape[0] // len(conds))
        stated = (options.get("ad_params") or {}).get("full_length")
        stated = stated or getattr(options.get("context_window"), "total_frames", None)
        full_length = stated or len(frames)
        return cls(latents, sigma, frames, full_length, tuple(conds), options, model_sampling, dtype or latents.dtype)

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    @cached_property
    def views(self) -> list[tuple[Tensor, Tensor]] | None:
        """Rows of a cond that a motion module sees together, and their shares in the result; None: all together."""
        schedule, device = self.options.get(VIEWS), self.latents.device
        views = schedule and holding(schedule, partial(self.within, end_percent=1.0)).views(self.num_frames)
        return views and [(torch.tensor(rows, device=device), shares.to(device, self.dtype)) for rows, shares in views]

    @cached_property
    def percent(self) -> float:
        """The point of the sampling range, 0 its start.

        Worked out only when something asks: reading sigma waits for the device.
        """
        return percent_of(self.sigma, self.model_sampling)

    def within(self, start_percent: float, end_percent: float) -> bool:
        return in_range(start_percent, end_percent, self.sigma, self.model_sampling)


@dataclass(frozen=True)
class Answer:
    """What one attached thing does in one call; an empty one is an answer too: nothing, on purpose.

    at_sites: what takes the hidden states of a motion site, (conds * frames, C, H, W), and gives new ones, by site.
    after_blocks: what takes the tokens behind a transformer block, (conds * frames, P, C), and gives new ones, by
        `transformer_blocks`' names.
    self_attentions: what makes of a self-attention's forward the one that runs instead, by `self_attentions`' names.
    latents: (frames, C, H, W) added to what goes into the UNet's first convolution, in every cond.
    first_conv: (frames, C, H, W) added to what the UNet's first convolution gives, in every cond.
    norm_over_frames: the UNet's ResBlock and output norms take their statistics over all frames of a cond.
    low_rank: changes of linear layers that are on in this call.
    """

    at_sites: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    first_conv: Tensor | None = None
    norm_over_frames: bool = False
    low_rank: tuple[LowRankUse, ...] = ()
    self_attentions: Mapping[str, Callable[[Forward], Forward]] = field(default_factory=dict)
    latents: Tensor | None = None
    after_blocks: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class WindowsOfStep:
    """windows: the frames of each, in the order in which they run. kept: what one keeps for those after it."""

    windows: tuple[tuple[int, ...], ...]
    kept: dict = field(default_factory=dict)

    def around(self, frames: tuple[int, ...]) -> tuple[Sequence, Sequence]:
        """The windows before and after the one of these frames; none if it is no window of the step."""
        if frames not in self.windows:
            return (), ()
        number = self.windows.index(frames)
        return self.windows[:number], self.windows[number + 1 :]


def frames_at_hand(options: Mapping, rows: int) -> tuple[int, ...]:
    """Which frames of the clip the rows of a cond are: the window's, ours or the stock node's, or simply all."""
    window = options.get("context_window")
    frames = tuple(getattr(window, "index_list", None) or range(rows))
    anchor = getattr(window, "causal_anchor_index", None)  # newer stock windows may put an earlier frame in front
    if anchor is not None and anchor >= 0:
        frames = (anchor, *frames)
    return frames if len(frames) == rows else tuple(range(rows))


def percent_of(sigma: float | Tensor, model_sampling) -> float:
    """The point of the sampling range, 0 its start; the reverse of the host's percent_to_sigma."""
    return 1.0 - float(model_sampling.timestep(torch.as_tensor(float(sigma)))) / 999.0


def holding(schedule: Sequence, has_begun: Callable[[float], bool]):
    """Of entries by ascending start_percent the last that has begun; the first before any has."""
    begun = [entry for entry in schedule[1:] if has_begun(entry.start_percent)]
    return begun[-1] if begun else schedule[0]


def in_range(start_percent: float, end_percent: float, sigma: float | Tensor, model_sampling) -> bool:
    """Whether a step at noise level `sigma` lies in the range; the end belongs to whatever follows."""
    if start_percent <= 0 and end_percent >= 1:
        return True  # without reading sigma, which would wait for the device
    start, end = (model_sampling.percent_to_sigma(p) for p in (start_percent, end_percent))
    return end < float(sigma) <= start


def check_length(name: str, known: int, call: Call) -> None:
    """Raises ValueError, naming the network, if it sees more frames together than the `known` that it was made for."""
    num_frames = max(len(frames) for frames, _ in call.views) if call.views else call.num_frames
    if num_frames > known:
        what = "the batch has" if num_frames == call.full_length else "a context window has"
        raise ValueError(
            f"{name} knows {known} frames, but {what} {num_frames}. Use at most {known} frames, or add Context Options "
            "with a context_length of at most that."
        )
