"""Prompts that change along the clip, as plain CONDITIONING with a row for every frame."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...timeline.expressions import fill_expressions, has_expressions
from ...timeline.keyframes import Keyframes, neighbours
from ..core.progress import with_progress


@dataclass(frozen=True)
class Travel:
    """Prompts by frame, ascending, on a clip of num_frames. With `loop`, the last runs into the first.

    numbers: what expressions in the prompts may use, by name, beside t, the frame, and max_f, the number of frames.
    """

    prompts: Mapping[int, str]
    num_frames: int
    curve: str = "linear"
    loop: bool = False
    numbers: Mapping[str, Keyframes] = field(default_factory=dict)

    @property
    def stays(self) -> bool:
        return len(self.prompts) == 1 and not any(map(has_expressions, self.prompts.values()))

    def at(self, frame: int) -> tuple[str, str, float]:
        """The two prompts that a frame lies between, as they are at this frame, and the share of the second."""
        before, after, share = neighbours(list(self.prompts), frame, self.curve, self.num_frames if self.loop else None)
        numbers = {name: keys.at(frame) for name, keys in self.numbers.items()}
        texts = list(self.prompts.values())
        first, second = (
            fill_expressions(texts[i], {"t": frame, "max_f": self.num_frames, **numbers}) for i in (before, after)
        )
        return first, second, share


def prompt_travel(clip, travel: Travel, frames: Sequence[int]) -> list[list]:
    """CONDITIONING whose tensors have a row for each of `frames`: encodings of the prompts, interpolated between them.

    Pooled encodings (SDXL) travel along. Every text is encoded once by the host, so weights, embeddings and LoRA hooks
    mean what they mean elsewhere.
    """
    if travel.stays:
        return encode_prompt(clip, *travel.prompts.values())  # one row, which the host repeats
    between = [travel.at(frame) for frame in frames]
    texts = list(dict.fromkeys(text for first, second, _ in between for text in (first, second)))
    encodings = [encode_prompt(clip, text) for text in with_progress(texts)]
    places = [(texts.index(first), texts.index(second), share) for first, second, share in between]
    travelled = []
    for schedule in zip(*encodings, strict=True):  # one entry, unless hooks change the text encoder while sampling
        conds = same_length([cond for cond, _ in schedule], lambda: encode_prompt(clip, "")[0][0])
        options = dict(schedule[0][1])
        if options.get("pooled_output") is not None:
            options["pooled_output"] = along([other["pooled_output"] for _, other in schedule], places)
        travelled.append([along(conds, places), options])
    return travelled


def encode_prompt(clip, prompt: str) -> list[list]:
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))


def same_length(conds: list[Tensor], empty: Callable[[], Tensor]) -> list[Tensor]:
    """Long prompts come in several chunks of tokens; shorter ones get chunks of the empty prompt added."""
    longest = max(cond.shape[1] for cond in conds)
    if all(cond.shape[1] == longest for cond in conds):
        return conds
    chunk = empty()
    return [torch.cat([cond, *[chunk] * ((longest - cond.shape[1]) // chunk.shape[1])], dim=1) for cond in conds]


def along(encodings: list[Tensor], places: list[tuple[int, int, float]]) -> Tensor:
    """(frames, ...) from encodings (1, ...): each frame's mixture of the two that it lies between."""
    rows = torch.cat(encodings)
    before, after = ([place[i] for place in places] for i in (0, 1))
    share = torch.tensor([place[2] for place in places], dtype=rows.dtype, device=rows.device)
    return torch.lerp(rows[before], rows[after], share.view(-1, *[1] * (rows.ndim - 1)))
