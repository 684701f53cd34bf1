"""Soft weights: a ControlNet that leaves the prompt more say, its finest features counting least.

The same numbers as in the web UI's "my prompt is more important" (Mikubill/sd-webui-controlnet), for a base of 0.825.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

T2I_POWERS = (0, 1, 2, 7)  # of the base, from an adapter's deepest level on, three entries each


def soft_weights(counts: Mapping[str, int], base: float, flip: bool) -> dict[str, list[float]]:
    """Of each entry of what a control model gives for the UNet's parts; counts: how many there are of each.

    The host's "output", of ControlNets and ControlLoRAs, begins with the finest; "input", of T2I-adapters, with the
    deepest. flip: the deepest count least instead.
    """
    deepest = counts.get("output") or T2I_POWERS[-1]
    weights = {}
    for part, count in counts.items():
        if part == "middle":
            powers = [deepest if flip else 0] * count
        elif part == "input":
            levels = T2I_POWERS[::-1] if flip else T2I_POWERS
            powers = [levels[min(i // 3, len(levels) - 1)] for i in range(count)]
        else:
            powers = list(range(count)) if flip else list(range(count, 0, -1))
        weights[part] = [base**power for power in powers]
    return weights


def soften(merge: Callable, base: float, flip: bool) -> Callable:
    """A control's `control_merge` that weights what the control model gave first."""

    def softened(control: dict[str, list[Tensor | None]], *args, **kwargs):
        weights = soft_weights({part: len(entries) for part, entries in control.items()}, base, flip)
        return merge({part: weighted(x, weights[part]) for part, x in control.items()}, *args, **kwargs)

    return softened


def weighted(entries: list[Tensor | None], weights: list[float]) -> list[Tensor | None]:
    """Each entry times its weight, in place as the host does it; a tensor that stands there twice becomes two."""
    seen: set[int] = set()
    own = []
    for entry in entries:
        own.append(entry.clone() if id(entry) in seen and entry is not None else entry)
        seen.add(id(entry))
    return [entry if entry is None else entry.mul_(weight) for entry, weight in zip(own, weights, strict=True)]
