"""What was prepared for some frames, kept for the next step that has them."""

from collections.abc import Hashable
from typing import Any

from torch import Tensor

# Prepared hints of about a hundred frames at 512 x 768. A longer clip prepares its other windows anew at each step,
# which costs less than what would not fit into a small card's memory beside them.
LIMIT = 2**28


class Kept:
    """Values by key, as many as have room in a number of bytes; the rest is not kept.

    Windows come in the same order at every step. Were the oldest dropped, each would be gone when its turn comes again.
    """

    def __init__(self, limit: int = LIMIT):
        self._limit = limit
        self._values: dict[Hashable, tuple[int, Any]] = {}

    def get(self, key: Hashable) -> Any | None:
        return self._values[key][1] if key in self._values else None

    def put(self, key: Hashable, value: Any) -> None:
        size = bytes_of(value)
        others = sum(held for other, (held, _) in self._values.items() if other != key)
        if others == 0 or others + size <= self._limit:
            self._values[key] = size, value
        else:
            self._values.pop(key, None)

    def clear(self) -> None:
        self._values.clear()


def bytes_of(value: Any) -> int:
    """Of all tensors in it."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(bytes_of, items))
