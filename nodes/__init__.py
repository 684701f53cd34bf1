"""All nodes of the pack by their ids, which stand in users' workflows and are never renamed."""

from . import context, control, load, motion, motion_lora, motion_tools, prompt_travel, start, video

NODE_CLASSES = {
    node_id: node
    for theme in (motion, start, prompt_travel, context, control, load, motion_lora, motion_tools, video)
    for node_id, node in theme.NODE_CLASSES.items()
}
NODE_CLASS_MAPPINGS = {node_id: node_class for node_id, (node_class, _) in NODE_CLASSES.items()}
NODE_DISPLAY_NAME_MAPPINGS = {node_id: title for node_id, (_, title) in NODE_CLASSES.items()}
