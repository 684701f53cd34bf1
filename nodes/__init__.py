"""All nodes of the pack by their ids, which stand in users' workflows and are never renamed."""

from . import motion, video

NODE_CLASSES = {**motion.NODE_CLASSES, **video.NODE_CLASSES}
NODE_CLASS_MAPPINGS = {node_id: node_class for node_id, (node_class, _) in NODE_CLASSES.items()}
NODE_DISPLAY_NAME_MAPPINGS = {node_id: title for node_id, (_, title) in NODE_CLASSES.items()}
