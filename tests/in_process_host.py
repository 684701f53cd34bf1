"""The real ComfyUI in this process, for what calls it directly; tests/unit does without."""

import sys

from animatic_pack import dev

MODULES = {  # ComfyUI's own, those that nodes/host may import
    "comfy",
    "comfy_extras",
    "comfy_execution",
    "comfy_api",
    "folder_paths",
    "nodes",
    "server",
    "execution",
    "latent_preview",
}


def make_importable(cpu: bool = True) -> None:
    """Call it before anything of ComfyUI is imported, because that chooses its device while it is imported."""
    host = str(dev.find_host())
    if host not in sys.path:
        sys.path.insert(0, host)
    import comfy.cli_args

    comfy.cli_args.args.cpu = cpu
