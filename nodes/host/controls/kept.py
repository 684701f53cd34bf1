"""What was prepared for some frames, kept for the next step that has them."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from torch import Tensor

# Prepared hints of about a hundred frames at 512 x 768. A longer clip prepares its windows anew at each step, which
# costs less than what would not fit into a small card's memory beside them.
LIMIT = 2**28


class Kept:
    """Values by key, the least recently used going first when their tensors exceed a number of bytes."""

    def __init__(self, limit: int = LIMIT):
        self._limit = limit
        self._values: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()

    def get(self, key: Hashable) -> Any | None:
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key][1]

    def put(self, key: Hashable, value: Any) -> None:
        self._values[key] = bytes_of(value), value
        self._values.move_to_end(key)
        while len(self._values) > 1 and sum(size for size, _ in self._values.values()) > self._limit:
            self._values.popitem(last=False)

    def clear(self) -> None:
        self._values.clear()


def bytes_of(value: Any) -> int:
    """Of all tensors in it."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(bytes_of, items))
