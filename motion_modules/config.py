"""What a motion module is, in one frozen description that the network is built from."""

from dataclasses import dataclass

from .families import Family

# Every released motion module has these; none stores them in its file.
NUM_HEADS = 8
NORM_GROUPS = 32


@dataclass(frozen=True)
class MotionModuleConfig:
    """Everything about a motion module except its weights.

    family: how it was trained.
    unet: the UNet it was trained with, "SD1.5" or "SDXL".
    channels: width of each down level, from the top; the up levels mirror it.
    modules_per_block: temporal transformers per down block; an up block has one more.
    max_frames: rows of the position table, so the longest clip (or context window).
    attentions: self-attentions per temporal transformer (2; a SparseCtrl has 1).
    custom_positions: the file's position table differs from the standard sinusoid and is kept.
    down_only: has no up blocks, as in a SparseCtrl, whose ControlNet is the first half of a UNet.
    """

    family: Family
    unet: str
    channels: tuple[int, ...]
    modules_per_block: int
    has_mid_block: bool
    max_frames: int
    attentions: int = 2
    custom_positions: bool = False
    down_only: bool = False

    @property
    def layout(self) -> str:
        """The UNet that this fits, in words, for messages."""
        widths = ", ".join(str(c) for c in self.channels)
        return f"{self.unet}, {len(self.channels)} levels ({widths} channels)"
