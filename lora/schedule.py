"""A MotionLoRA's strength over the sampling range."""

from dataclasses import dataclass

from ..motion_modules.keyframes import CURVES


@dataclass(frozen=True)
class StrengthSchedule:
    """A factor on the strength: `start_strength` up to start_percent, `end_strength` from end_percent on."""

    start_strength: float = 1.0
    end_strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    curve: str = "linear"

    def __post_init__(self):
        if self.start_percent >= self.end_percent:
            raise ValueError(
                f"start_percent ({self.start_percent}) must be smaller than end_percent ({self.end_percent})."
            )

    @property
    def is_flat(self) -> bool:
        return self.start_strength == self.end_strength

    def at(self, percent: float) -> float:
        """The factor at a point of the sampling range, 0 its start."""
        x = (percent - self.start_percent) / (self.end_percent - self.start_percent)
        x = CURVES[self.curve](min(1.0, max(0.0, x)))
        return self.start_strength * (1 - x) + self.end_strength * x
