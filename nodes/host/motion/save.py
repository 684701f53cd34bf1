"""Motion modules and MotionLoRAs as files, in AnimateDiff's own layout."""

import hashlib
import json
import logging
from pathlib import Path

import folder_paths
from safetensors.torch import save_file
import torch
from torch import Tensor

from ....lora.files import original_state_dict
from ....training.atomic import write_file
from ..core.folders import MOTION_LORAS, MOTION_MODULES
from ..core.paths import model_path
from ..core.progress import check_interrupted
from .loras import LoadedMotionLora
from .module import FileShare, LoadedMotionModule
from .tools import bake_motion_loras, combine_motion_loras

logger = logging.getLogger(__name__)

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def save_motion_lora(
    stack: tuple[LoadedMotionLora, ...], filename: str, dtype: str, overwrite: bool
) -> tuple[Path, str]:
    """Save a stack as one file in AnimateDiff's own layout. Returns the path and a report; raises as `_save` does."""
    combined, report = combine_motion_loras(stack, rank=0)
    weights = {key: value.to(DTYPES[dtype]) for key, value in original_state_dict(combined.lora).items()}
    metadata = {"model_type": "motion_lora", "rank": str(combined.rank)}
    metadata["sources"] = _sources(combined.files)
    return _save(weights, MOTION_LORAS, filename, metadata, overwrite), report


def save_motion_module(
    module: LoadedMotionModule, stack: tuple[LoadedMotionLora, ...], filename: str, dtype: str, overwrite: bool
) -> Path:
    """Save a motion module, with a stack baked in, in AnimateDiff's own layout; see `_save` for what it raises."""
    if stack:
        module = bake_motion_loras(module, stack)
    config, weights = module.source()
    weights = {key: value.to(DTYPES[dtype]).contiguous() for key, value in weights.items()}
    # blocks share position tables in memory, which the format does not allow
    weights = {key: value.clone() if key.endswith(".pe") else value for key, value in weights.items()}
    metadata = {"model_type": "motion_module", "family": config.family.name}
    metadata["sources"] = _sources(module.files)
    return _save(weights, MOTION_MODULES, filename, metadata, overwrite)


def _sources(files: tuple[FileShare, ...]) -> str:
    """JSON of file names, sha256 sums and strengths, for a saved file's metadata."""
    rows = []
    for folder, name, strength in files:
        path = folder_paths.get_full_path(folder, name)
        rows.append({"name": name, "sha256": _sha256(path) if path else None, "strength": strength})
    return json.dumps(rows)


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**22):
            check_interrupted()
            digest.update(block)
    return digest.hexdigest()


def _save(
    weights: dict[str, Tensor], folder_key: str, filename: str, metadata: dict[str, str], overwrite: bool
) -> Path:
    """Write a safetensors file into the first folder of `folder_key`, whole or not at all.

    Raises ValueError for a name that leaves the folder, FileExistsError unless `overwrite`, OSError as `write_file`.
    """
    path = model_path(folder_key, filename)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path.name} exists already. Choose another name, or switch overwrite on.")
    metadata = {**metadata, "software": "ComfyUI-Animatic"}
    write_file(path, lambda part: save_file(weights, part, metadata=metadata))
    logger.info("saved %s", path)
    return path
