"""Prompts that change along the clip, as plain CONDITIONING with a row for every frame."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...timeline.keyframes import neighbours


def prompt_travel(
    clip, prompts: dict[int, str], num_frames: int, curve: str = "linear", loop: bool = False
) -> list[list]:
    """CONDITIONING whose tensors are (num_frames, ...): encodings of the prompts, interpolated between their frames.

    prompts: by frame, ascending. Pooled encodings (SDXL) travel along. With `loop`, the last runs into the first.
    Every prompt is encoded once by the host, so weights, embeddings and LoRA hooks mean what they mean elsewhere.
    """
    if len(prompts) == 1:
        return encode_prompt(clip, *prompts.values())  # one row, which the host repeats
    encodings = [encode_prompt(clip, prompt) for prompt in prompts.values()]
    places = [neighbours(list(prompts), frame, curve, num_frames if loop else None) for frame in range(num_frames)]
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
