"""Layers that do something more for the length of one call."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

Forward = Callable[..., Tensor]
Change = tuple[nn.Module, Callable[[Forward], Forward]]


@contextmanager
def changed_forwards(changes: Iterable[Change]) -> Iterator[None]:
    """While the context lasts, each module's `forward` is what its change makes of it; later ones wrap earlier ones.

    Not hooks: torch.compile does not look for them on a module that had none when it was compiled, and their handles
    would compile it anew in every call. An attribute of the instance it sees, and its graph serves the next call too.
    """
    replaced = []
    try:
        for module, change in changes:
            replaced.append((module, module.__dict__.get("forward")))
            module.forward = change(module.forward)
        yield
    finally:
        for module, forward in reversed(replaced):
            if forward is None:
                del module.forward
            else:
                module.forward = forward


def on_input(act: Callable[[Tensor], Tensor]) -> Callable[[Forward], Forward]:
    """A change: `act` on what goes into the layer."""
    return lambda forward: lambda x, *args, **kwargs: forward(act(x), *args, **kwargs)


def on_output(act: Callable[[Tensor], Tensor]) -> Callable[[Forward], Forward]:
    """A change: `act` on what the layer gives."""
    return lambda forward: lambda *args, **kwargs: act(forward(*args, **kwargs))
