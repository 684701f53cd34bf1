"""The node's progress bar and the user's stop button."""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TypeVar

import comfy.model_management
import comfy.utils

T = TypeVar("T")

# Raises an exception of the host when the user has cancelled the prompt.
check_interrupted: Callable[[], None] = comfy.model_management.throw_exception_if_processing_interrupted


def with_progress(items: Iterable[T], count: int | None = None) -> Iterator[T]:
    """The items, each a step of the node's progress bar and a chance to stop. count: how many, if len() cannot tell."""
    if count is None:
        assert isinstance(items, Collection)
        count = len(items)
    bar = comfy.utils.ProgressBar(count)
    for item in items:
        check_interrupted()
        yield item
        bar.update(1)


def progress_bar(total: int) -> Callable[[], None]:
    """A function that moves the node's progress bar by one; total: 0 if unknown."""
    bar = comfy.utils.ProgressBar(total)
    return lambda: bar.update_absolute(bar.current + 1, max(bar.total, bar.current + 1))
