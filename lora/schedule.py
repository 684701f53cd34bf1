"""A MotionLoRA's strength over the sampling range."""

from dataclasses import dataclass

from ..motion_modules.keyframes import Keyframes, check_range


@dataclass(frozen=True)
class StrengthSchedule:
    """A factor on the strength: `start_strength` up to start_percent, `end_strength` from end_percent on."""

    start_strength: float = 1.0
    end_strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    curve: str = "linear"

    def __post_init__(self):
        check_range(self.start_percent, self.end_percent)

    @property
    def is_flat(self) -> bool:
        return self.start_strength == self.end_strength

    def at(self, percent: float) -> float:
        """The factor at a point of the sampling range, 0 its start."""
        ends = (self.start_percent, self.end_percent), (self.start_strength, self.end_strength)
        return Keyframes(*ends, self.curve).at(percent)
