"""All nodes of the pack by their ids, which stand in users' workflows and are never renamed."""

from collections.abc import Mapping, Sequence
from functools import wraps
import math
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

from . import (
    animate_anyone,
    baselines,
    context,
    controlnet,
    evaluation,
    guidance,
    load_video,
    motion,
    motion_lora,
    motion_tools,
    noise,
    numbers,
    poses,
    prompt_travel,
    reference_image,
    save_video,
    train,
    train_animate_anyone,
    training_clips,
)

THEMES = (
    motion,
    noise,
    guidance,
    prompt_travel,
    numbers,
    context,
    reference_image,
    controlnet,
    animate_anyone,
    poses,
    load_video,
    motion_lora,
    motion_tools,
    training_clips,
    train,
    train_animate_anyone,
    evaluation,
    baselines,
    save_video,
)

MAY_BE_NONE = ("CLIP", "VAE")  # of a checkpoint that has none, which the nodes say themselves
NUMBERS = ("INT", "FLOAT", "FLOAT,INT")


def with_inputs_checked(node_class: type, title: str) -> type:
    """The node, whose function refuses what no widget of it could hold. The host looks at what is typed, not at links.

    Of numbers it compares only with limits, which NaN passes.
    """
    run = getattr(node_class, node_class.FUNCTION)

    @wraps(run)
    def checked(self, **inputs):
        groups = node_class.INPUT_TYPES()
        declared = {**groups["required"], **groups.get("optional", {})}
        for name, value in inputs.items():
            if value is None and name not in groups["required"]:
                continue
            if name in declared and (problem := problem_of(value, *declared[name])):
                raise ValueError(f"{title}: {name} {problem} Look at the node that it comes from.")
        return run(self, **inputs)

    return type(node_class.__name__, (node_class,), {node_class.FUNCTION: checked, "__module__": node_class.__module__})


def problem_of(value: Any, kind: str | Sequence[str], options: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Why an input of this kind cannot be this, as a sentence that goes on from its name; "" if it can."""
    if value is None and kind not in MAY_BE_NONE:
        return "got nothing by its link."
    if kind in NUMBERS:
        return _problem_of_number(value, kind, options)
    if kind == "STRING" and not isinstance(value, str):
        return f"is no text ({value!r:.40})."
    if not isinstance(kind, str) and "default" in options and value not in kind:
        return f"has no choice {value!r:.40}; there are {', '.join(kind)}."
    if kind in ("IMAGE", "MASK") and 0 in getattr(value, "shape", ()):
        return "holds no pictures."
    return ""


def _problem_of_number(value: Any, kind: str, options: Mapping[str, Any]) -> str:
    """Counts and rates have a least one; other numbers only a usual range."""
    if not isinstance(value, Real) or not math.isfinite(value):
        return f"is no number ({value!r:.40})."
    if kind == "INT" and not isinstance(value, Integral):
        return f"is no whole number ({value:g})."
    if kind != "FLOAT" and value < options["min"]:
        return f"is {value:g}, but has to be {options['min']:g} or more."
    return ""


NODE_CLASSES = {node_id: node for theme in THEMES for node_id, node in theme.NODE_CLASSES.items()}
NODE_CLASS_MAPPINGS = {
    node_id: with_inputs_checked(node_class, title) for node_id, (node_class, title) in NODE_CLASSES.items()
}
NODE_DISPLAY_NAME_MAPPINGS = {node_id: title for node_id, (_, title) in NODE_CLASSES.items()}
