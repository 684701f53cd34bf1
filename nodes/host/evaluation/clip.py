"""CLIP for the evaluation of clips: the stock CLIP_VISION, or a whole one from a folder beside its files."""

from collections.abc import Callable
from pathlib import Path

import comfy.model_management
from comfy.model_patcher import ModelPatcher
import folder_paths
import torch
from torch import Tensor

from ....evaluation.clip_folder import BATCH, ClipFolder
from ..core.paths import path_inside
from ..core.progress import with_progress

FOLDER = "clip_vision"


def image_embedding(clip_vision) -> Callable[[Tensor], Tensor]:
    """What gives pictures (F, h, w, 3) their embeddings (F, D) in the space that a CLIP_VISION shares with texts.

    It raises ValueError for a SigLIP, of which ComfyUI reads all but what makes one embedding of a picture's patches.
    """

    def embed(pictures: Tensor) -> Tensor:
        parts = [clip_vision.encode_image(part)["image_embeds"] for part in with_progress(pictures.split(BATCH))]
        if parts[0].ndim != 2:
            raise ValueError(
                "clip_vision gives an embedding for each patch of a picture and none for the whole, as SigLIP does in "
                "ComfyUI. Load a CLIP, such as CLIP-ViT-H-14 or clip-vit-large-patch14."
            )
        return torch.cat(parts).float().cpu()

    return embed


def clip_folders() -> list[str]:
    """Folders in models/clip_vision that hold a model as Hugging Face stores it."""
    roots = [Path(root) for root in folder_paths.get_folder_paths(FOLDER)]
    return sorted({path.parent.name for root in roots for path in root.glob("*/config.json")})


def open_clip_folder(name: str) -> ClipFolder:
    """The CLIP of a folder that `clip_folders` names, where the host runs text encoders. Raises as ClipFolder does."""
    for root in folder_paths.get_folder_paths(FOLDER):
        path = path_inside(root, name)
        if path is not None and (path / "config.json").is_file():
            break
    else:
        raise FileNotFoundError(f"There is no folder {name} with a config.json in models/{FOLDER}.")
    clip = ClipFolder(path)
    device = comfy.model_management.text_encoder_device()
    held = torch.nn.ModuleList([clip.model])  # the patcher sets attributes that transformers' own class refuses
    patcher = ModelPatcher(held, load_device=device, offload_device=torch.device("cpu"))
    comfy.model_management.load_models_gpu([patcher])
    clip.device = device
    return clip
