"""A wrapped host function's arguments by its own parameter names, whichever way they were passed.

Hosts add arguments between versions, and pass the same one by position here and by name there.
"""

import inspect


def named_arguments(executor, args: tuple, kwargs: dict) -> dict:
    """All arguments of the call, defaults included."""
    bound = inspect.signature(executor.original).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def call_with(executor, args: tuple, kwargs: dict, /, **changes) -> tuple[tuple, dict]:
    """The call's args and kwargs with some arguments replaced by name."""
    bound = inspect.signature(executor.original).bind(*args, **kwargs)
    bound.arguments.update(changes)
    return bound.args, bound.kwargs
