"""What a motion module needs in the same form at every step, made once in a sampling run."""

from ..core.positions import PositionTables
from .control import MaskSizes
from .image import EncodedImage


class MotionRun:
    """still: the image that the clip begins with, if there is one. masks: those of Motion Control, resized."""

    def __init__(self, still: EncodedImage | None = None):
        self.still = still
        self.masks = MaskSizes()
        self.positions = PositionTables()
