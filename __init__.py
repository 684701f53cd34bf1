"""ComfyUI-Animatic: AnimateDiff for ComfyUI. Registration only."""

from .nodes.host.core.folders import register_model_folders
from .nodes.host.core.replacements import register_replacements
from .nodes.registry import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

register_model_folders()
register_replacements()

WEB_DIRECTORY = "./nodes/web"

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]
