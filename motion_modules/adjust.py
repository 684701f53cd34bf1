"""A motion module changed as a whole when it is loaded: positions stretched, weights multiplied, norms over frames."""

from dataclasses import dataclass, replace
import re

from torch import Tensor, nn

from .config import MotionModuleConfig
from .families import V2

HOW_STRETCHES_ARE_WRITTEN = (
    "Write '16 -> 18' for the first 16 positions over 18 frames, '-> 40' for all, '4..20 -> 18'."
)


@dataclass(frozen=True)
class Stretch:
    """Positions `start` to before `end` (None: to the last) become `length` positions."""

    start: int
    end: int | None
    length: int


@dataclass(frozen=True)
class Adjustment:
    """factor: on every weight, position tables too. v2_norms_as_v1: a v2 file's UNet norms go over all frames."""

    stretch: Stretch | None = None
    factor: float = 1.0
    v2_norms_as_v1: bool = False


def parse_stretch(text: str) -> Stretch | None:
    """Read `16 -> 18`, `-> 40` or `4..20 -> 18`; None for an empty text. Raises ValueError for any other."""
    if not text.strip():
        return None
    found = re.fullmatch(r"\s*(?:(?:(\d+)\s*\.\.\s*)?(\d+))?\s*->\s*(\d+)\s*", text)
    if not found or int(found[3]) < 1:
        raise ValueError(f"stretch_positions: '{text}' is not understood. {HOW_STRETCHES_ARE_WRITTEN}")
    return Stretch(int(found[1] or 0), int(found[2]) if found[2] else None, int(found[3]))


def adjusted(
    config: MotionModuleConfig, weights: dict[str, Tensor], adjustment: Adjustment
) -> tuple[MotionModuleConfig, dict[str, Tensor]]:
    """The description and weights of a motion module with the adjustment made.

    Raises ValueError for positions that its table does not have.
    """
    if adjustment.v2_norms_as_v1 and config.family == V2:
        config = replace(config, family=replace(V2, unet_norm_over_frames=True))
    stretch = adjustment.stretch
    if stretch:
        weights = {k: stretched(w, stretch) if k.endswith("pos_encoder.pe") else w for k, w in weights.items()}
        config = replace(config, max_frames=stretch.length, custom_positions=True)
    if adjustment.factor != 1:
        weights = {key: (weight.float() * adjustment.factor).to(weight.dtype) for key, weight in weights.items()}
        config = replace(config, custom_positions=True)
    return config, weights


def stretched(table: Tensor, stretch: Stretch) -> Tensor:
    """(1, rows, C) to (1, length, C); row i is read at (i + 1/2) * (end - start) / length - 1/2 of the range."""
    rows = table.shape[1]
    end = rows if stretch.end is None else stretch.end
    if not stretch.start < end <= rows:
        raise ValueError(
            f"stretch_positions: this motion module has positions 0 to {rows}, not {stretch.start} to {end}."
        )
    part = table[:, stretch.start : end].mT
    return nn.functional.interpolate(part, stretch.length, mode="linear", align_corners=False).mT.contiguous()
