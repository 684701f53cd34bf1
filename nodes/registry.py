"""All nodes of the pack by their ids, which stand in users' workflows and are never renamed."""

from . import (
    animate_anyone,
    context,
    controlnet,
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
    save_video,
)
NODE_CLASSES = {node_id: node for theme in THEMES for node_id, node in theme.NODE_CLASSES.items()}
NODE_CLASS_MAPPINGS = {node_id: node_class for node_id, (node_class, _) in NODE_CLASSES.items()}
NODE_DISPLAY_NAME_MAPPINGS = {node_id: title for node_id, (_, title) in NODE_CLASSES.items()}
