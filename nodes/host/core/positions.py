"""Position tables of motion modules, where and as the network computes, made once in a sampling run."""

import torch
from torch import Tensor

from ....motion_modules.motion_module import MotionModule


class PositionTables:
    """The network's own tables stay wherever the host's memory manager leaves them, which moves layers with weights.

    All sites of one width have the same table, unless the file brought its own.
    """

    def __init__(self):
        self._tables: dict[tuple, Tensor] = {}

    def of(self, module: MotionModule, site: str, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """A site's tables (max_frames, C), one for each attention."""
        attentions = module.sites[site].transformer_blocks[0].attention_blocks
        tables = []
        for number, pe in enumerate(attention.pos_encoder.pe for attention in attentions):
            key = pe.shape[-1], device, dtype, (site, number) if module.config.custom_positions else ()
            if key not in self._tables:
                self._tables[key] = pe[0].to(device, dtype)
            tables.append(self._tables[key])
        return tuple(tables)
