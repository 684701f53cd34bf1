"""All nodes of the pack by their ids, which stand in users' workflows and are never renamed."""

from functools import wraps
import math

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


def with_numbers_checked(node_class: type, title: str) -> type:
    """The node, whose function refuses NaN and infinity. The host only compares with limits, which NaN passes."""
    run = getattr(node_class, node_class.FUNCTION)

    @wraps(run)
    def checked(self, **inputs):
        for name, value in inputs.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(
                    f"{title}: {name} is no number ({value}). Type one, or look at the node that it comes from."
                )
        return run(self, **inputs)

    return type(node_class.__name__, (node_class,), {node_class.FUNCTION: checked, "__module__": node_class.__module__})


NODE_CLASSES = {node_id: node for theme in THEMES for node_id, node in theme.NODE_CLASSES.items()}
NODE_CLASS_MAPPINGS = {
    node_id: with_numbers_checked(node_class, title) for node_id, (node_class, title) in NODE_CLASSES.items()
}
NODE_DISPLAY_NAME_MAPPINGS = {node_id: title for node_id, (_, title) in NODE_CLASSES.items()}
