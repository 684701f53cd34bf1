"""What travels between a card and the machine's memory, which a step must not wait for."""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class DeviceCopies(TorchDispatchMode):
    """Counts copies between devices while it is on, by (from, to, shape)."""

    def __init__(self):
        super().__init__()
        self.counts: Counter[tuple] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        source = self._source(func, args)
        if source is not None and source.device.type != out.device.type:
            self.counts[source.device.type, out.device.type, tuple(out.shape)] += 1
        return out

    @staticmethod
    def _source(func, args) -> torch.Tensor | None:
        if func is torch.ops.aten._to_copy.default:
            return args[0]
        if func is torch.ops.aten.copy_.default:
            return args[1]
        return None
