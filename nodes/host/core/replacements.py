"""Nodes of other packs that the host itself may replace when a workflow is opened and those packs are absent.

ComfyUI's node replacement (0.33) knows one new node for one old one, inputs by name, values as they are or fixed. It
cannot make two nodes of one, change a value, look at another node, or read widget values kept by name as
VideoHelperSuite keeps them; and a prompt without an input that is mapped fails. So only what loses nothing by that is
registered here, and `python -m migration` does the rest.
"""

import sys
from typing import Any, NamedTuple


class Replacement(NamedTuple):
    """inputs: new name -> old name. fixed: new inputs with a value of their own. outputs: old place -> new place."""

    new: str
    widgets: tuple[str, ...]
    inputs: dict[str, str]
    fixed: dict[str, Any]
    outputs: dict[int, int]


SIZE = ("width", "height", "batch_size")
COMBINE = ("frame_rate", "loop_count", "filename_prefix", "format", "pingpong", "save_image")
REPLACEMENTS = {
    "ADE_EmptyLatentImageLarge": Replacement("EmptyLatentImage", SIZE, {name: name for name in SIZE}, {}, {0: 0}),
    "ADE_AnimateDiffCombine": Replacement(
        "AnimaticVideoCombine",
        COMBINE,
        {"images": "images", **{name: name for name in COMBINE[:-1]}, "save_output": "save_image"},
        {"crf": 19},
        {},
    ),
    "VHS_VAEDecodeBatched": Replacement("VAEDecode", (), {"samples": "samples", "vae": "vae"}, {}, {0: 0}),
    "VHS_VAEEncodeBatched": Replacement("VAEEncode", (), {"pixels": "pixels", "vae": "vae"}, {}, {0: 0}),
    "VHS_GetImageCount": Replacement("GetImageSize", (), {"image": "images"}, {}, {0: 2}),
    "VHS_GetLatentCount": Replacement(
        "AnimaticFrameNumbers",
        (),
        {"latent": "latents"},
        {"by_frame": "0", "num_frames": 16, "width": 64, "height": 64, "curve": "linear"},
        {0: 2},
    ),
}


def register_replacements() -> None:
    """Tell the host, if it replaces nodes. It does so only for nodes that are not installed."""
    server = getattr(sys.modules.get("server"), "PromptServer", None)  # a host that only runs nodes has not loaded it
    manager = getattr(getattr(server, "instance", None), "node_replace_manager", None)
    if manager is None:
        return
    from comfy_api.latest import io  # only hosts that replace nodes have what is used here

    for old, row in REPLACEMENTS.items():
        inputs = [{"new_id": new, "old_id": name} for new, name in row.inputs.items()]
        inputs += [{"new_id": new, "set_value": value} for new, value in row.fixed.items()]
        outputs = [{"old_idx": before, "new_idx": after} for before, after in row.outputs.items()]
        manager.register(io.NodeReplace(row.new, old, list(row.widgets), inputs, outputs))
