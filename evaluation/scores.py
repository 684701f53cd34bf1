"""All measures of a clip, and the table in which clips stand below each other, as in the paper's Table 1."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
import math
from typing import Protocol

import torch
from torch import Tensor

from . import quality, similarity
from .camera import CameraFit, fit_camera
from .clips import checked
from .flow import steps_of
from .perceptual import Lpips, lpips

TEXT, DOMAIN, BEST = "CLIP text", "CLIP domain", "CLIP domain best"
SMOOTH, NEXT = "CLIP smooth", "CLIP consecutive"
MOTION, FLICKER = "motion %", "flicker %"
PSNR, SSIM, LPIPS = "PSNR dB", "SSIM", "LPIPS"
CAMERA = "camera"
DIGITS = {TEXT: 2, DOMAIN: 2, BEST: 2, SMOOTH: 2, NEXT: 2, MOTION: 3, FLICKER: 3, PSNR: 2, SSIM: 4, LPIPS: 4}
FROZEN = 0.02  # percent of the shorter side; less motion than that is none
FROZEN_WORDS = "hardly moves (less than {limit:g} %), so being smooth says nothing of it: a still picture is, too."

Points = list[tuple[int, float]]
Embed = Callable[[Tensor], Tensor]  # pictures (F, h, w, 3) to embeddings (F, D)


class WholeClip(Protocol):
    def images(self, clip: Tensor) -> Tensor: ...

    def text(self, prompt: str) -> Tensor: ...


@dataclass(frozen=True)
class Scores:
    """values: by the names above, nan where a single frame has none. by_frame: what the plot shows.

    camera: None where it cannot be told.
    """

    values: Mapping[str, float]
    by_frame: Mapping[str, Points]
    camera: CameraFit | None = None

    @property
    def frozen(self) -> bool:
        return self.values[MOTION] < FROZEN


@dataclass(frozen=True)
class Against:
    """What a clip is held against. references: pictures (K, h, w, 3) each, of the same checkpoint without motion.

    embed: for domain and smoothness. clip: for the prompt; it embeds pictures too, if `embed` is None.
    truth: the same clip as it should be, for PSNR and SSIM, and LPIPS if its network is there.
    """

    prompt: str = ""
    references: Sequence[Tensor] = ()
    embed: Embed | None = None
    clip: WholeClip | None = None
    truth: Tensor | None = None
    perceptual: Lpips | None = None

    @property
    def embed_pictures(self) -> Embed | None:
        return self.embed or (self.clip.images if self.clip else None)

    @cached_property
    def stills(self) -> Tensor:
        """The references' embeddings (sum of K, D), the same for each clip that is held against them."""
        pictures = [checked(picture, "reference") for picture in self.references]
        return _known(torch.cat([self.embed_pictures(picture) for picture in pictures]), "the references")


def evaluate(clip: Tensor, against: Against, name: str = "images") -> Scores:
    """All that can be measured of a clip (F, h, w, 3 or 4). Raises ValueError that names what is wrong with it."""
    clip = checked(clip, name)
    by_frame = _likeness(clip, against, name)
    by_frame |= _movement(clip)
    by_frame |= _nearness(clip, against)
    pairs = by_frame.pop(SMOOTH, None)
    values = {key: _mean(points) for key, points in by_frame.items()}
    if pairs is not None:
        values[SMOOTH] = pairs[0][1]
    return Scores({key: values[key] for key in DIGITS if key in values}, by_frame, fit_camera(clip))


def _likeness(clip: Tensor, against: Against, name: str) -> dict[str, Points]:
    """What CLIP says; smoothness is one number for all pairs."""
    found: dict[str, Points] = {}
    whole = None
    if against.clip is not None:
        whole = _known(against.clip.images(clip), name)
        if against.prompt.strip():
            text = _known(against.clip.text(against.prompt), "the prompt")
            found[TEXT] = _points(similarity.text_alignment(whole, text))
    if against.embed_pictures is None:
        return found
    frames = whole if against.embed is None else _known(against.embed(clip), name)
    if against.references:
        alike = similarity.domain_similarity(frames, against.stills)
        found[DOMAIN], found[BEST] = _points(alike.mean(1)), _points(alike.amax(1))
    found[SMOOTH] = [(0, similarity.smoothness(frames))]
    found[NEXT] = _points(similarity.consecutive(frames), start=1)
    return found


def _known(embeddings: Tensor, what: str) -> Tensor:
    """Raises ValueError for nan, which a mean over frames would leave out."""
    if not torch.isfinite(embeddings).all():
        raise ValueError(
            f"CLIP gave numbers for {what} that are not finite, as it can in half precision: start ComfyUI with "
            "--fp32-text-enc, which holds for CLIP Vision, too."
        )
    return embeddings


def _nearness(clip: Tensor, against: Against) -> dict[str, Points]:
    if against.truth is None:
        return {}
    truth = checked(against.truth, "the true clip")
    found = {PSNR: _points(quality.psnr(clip, truth)), SSIM: _points(quality.ssim(clip, truth))}
    if against.perceptual is not None:
        found[LPIPS] = _points(lpips(against.perceptual, clip, truth))
    return found


def _movement(clip: Tensor) -> dict[str, Points]:
    steps = list(steps_of(clip))
    return {
        MOTION: [(frame, step.moved) for frame, step in enumerate(steps, 1)],
        FLICKER: [(frame, step.flicker) for frame, step in enumerate(steps, 1)],
    }


def _points(values: Tensor, start: int = 0) -> Points:
    return list(enumerate(values.tolist(), start))


def _mean(points: Points) -> float:
    """Of those that are numbers: nowhere visible pixels have no flicker."""
    numbers = [value for _, value in points if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def table(rows: Mapping[str, Scores]) -> str:
    """Markdown: a row for each clip, a column for each measure that any has; below it what must be read with it."""
    columns = [key for key in DIGITS if any(key in scores.values for scores in rows.values())]
    lines = [_row(["", *columns, CAMERA]), _row(["---"] * (len(columns) + 2))]
    for name, scores in rows.items():
        cells = [_number(scores.values.get(key, math.nan), DIGITS[key]) for key in columns]
        lines.append(_row([name.replace("|", "/"), *cells, str(scores.camera or "-")]))
    notes = [f"{name} {FROZEN_WORDS.format(limit=FROZEN)}" for name, scores in rows.items() if scores.frozen]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def card(scores: Scores) -> str:
    """One clip's measures below each other, and what must be read with them."""
    lines = [f"{key}: {_number(value, DIGITS[key])}" for key, value in scores.values.items()]
    lines.append(f"{CAMERA}: {scores.camera or '-'}")
    return "\n".join([*lines, *([f"The clip {FROZEN_WORDS.format(limit=FROZEN)}"] if scores.frozen else [])])


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
