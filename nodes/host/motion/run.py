"""What a motion module needs in the same form at every step, made once in a sampling run."""

from torch import Tensor

from ....motion_modules.motion_module import MotionModule
from ..core.call import Call
from .control import MaskSizes
from .image import EncodedImage


class MotionRun:
    """still: the image that the clip begins with, if there is one. masks: those of Motion Control, resized."""

    def __init__(self, still: EncodedImage | None = None):
        self.still = still
        self.masks = MaskSizes()
        self._tables: dict[tuple, Tensor] = {}

    def positions(self, module: MotionModule, site: str, call: Call) -> tuple[Tensor, ...]:
        """A site's position tables (max_frames, C), one for each attention, where and as the UNet computes.

        The network's own tables stay wherever the host's memory manager leaves them, which moves layers with weights.
        All sites of one width have the same table, unless the file brought its own.
        """
        return tuple(
            self._table(attention.pos_encoder.pe, (site, number) if module.config.custom_positions else (), call)
            for number, attention in enumerate(module.sites[site].transformer_blocks[0].attention_blocks)
        )

    def _table(self, pe: Tensor, own: tuple, call: Call) -> Tensor:
        key = pe.shape[-1], own, call.latents.device
        if key not in self._tables:
            self._tables[key] = pe[0].to(call.latents.device, call.dtype)
        return self._tables[key]

