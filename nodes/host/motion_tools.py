"""Combining, extracting, merging and saving motion modules and MotionLoRAs, with progress and a way to stop."""

from collections.abc import Iterable
from functools import partial
import hashlib
import json
import logging
import os
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
from safetensors.torch import save_file
import torch
from torch import Tensor

from ...lora.files import original_state_dict
from ...lora.low_rank import LowRank, MotionLora, combine
from ...lora.merge import average, bake, extract, linear_targets, parse_block_shares, reduce, relative_error
from ...motion_modules.config import MotionModuleConfig
from .folders import MOTION_LORAS, MOTION_MODULES
from .motion_loras import LoadedMotionLora, fitting
from .motion_models import FileShare, LoadedMotionModule, Source, motion_module_from

logger = logging.getLogger(__name__)

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def combine_motion_loras(stack: tuple[LoadedMotionLora, ...], rank: int) -> tuple[LoadedMotionLora, str]:
    """One MotionLoRA of strength 1 for a whole stack, and a report. rank 0 is exact; a smaller one loses a part.

    Raises ValueError for an empty stack, or a strength that changes while sampling.
    """
    constant = _constant(stack)
    weighted = [(entry.lora, entry.strength) for entry in constant]
    if rank == 0:
        lora, error = combine(weighted), 0.0
    else:
        count = len({target for entry in constant for target in entry.lora})
        lora, error = _collect(reduce(weighted, rank), count)
    name = " + ".join(f"{entry.strength:g} {entry.name}" for entry in constant)
    combined = LoadedMotionLora(name, 1.0, lora, _files_of(constant))
    return combined, f"rank {combined.rank}, relative error {error:.2e}"


def extract_motion_lora(tuned: LoadedMotionModule, base: LoadedMotionModule, rank: int) -> tuple[LoadedMotionLora, str]:
    """The MotionLoRA that turns `base` into `tuned`, as near as its rank allows, and a report of the relative error."""
    tuned_weights, base_weights = tuned.source()[1], base.source()[1]
    if tuned_weights.keys() != base_weights.keys():
        raise ValueError(f"{tuned.name} and {base.name} have different blocks; extract from two of the same kind.")
    targets = linear_targets(base_weights, tuned_weights)
    if not targets:
        raise ValueError(f"{tuned.name} and {base.name} are the same in every layer that a MotionLoRA can change.")
    lora, error = _collect(extract(tuned_weights, base_weights, rank), len(targets))
    others = sum(
        not value.equal(base_weights[key])
        for key, value in tuned_weights.items()
        if value.ndim == 1 and key in base_weights
    )
    report = f"{len(lora)} layers, rank {rank}, relative error {error:.2e}"
    if others:
        report += f"; {others} biases and norms differ too, which a MotionLoRA cannot hold"
    name = f"{tuned.name} - {base.name}"
    return LoadedMotionLora(name, 1.0, lora, tuned.files + scaled(base.files, -1.0)), report


def merge_motion_modules(
    first: LoadedMotionModule, second: LoadedMotionModule, share: float, block_shares: str
) -> LoadedMotionModule:
    """A motion module between two: (1 - share) * first + share * second, and other shares for named blocks."""
    shares = parse_block_shares(block_shares, first.source()[1])
    source = partial(_merged, first.source, second.source, share, shares)
    return motion_module_from(
        f"{first.name} and {second.name}", source, scaled(first.files, 1 - share) + scaled(second.files, share)
    )


def _merged(first: Source, second: Source, share: float, shares: dict[str, float]) -> tuple[MotionModuleConfig, dict]:
    (config, weights), (_, others) = first(), second()
    return config, average(weights, others, share, shares)


def bake_motion_loras(module: LoadedMotionModule, stack: tuple[LoadedMotionLora, ...]) -> LoadedMotionModule:
    """The motion module with a stack's changes added to its weights."""
    constant = _constant(stack)
    weighted = [(fitting(module.patcher.model, entry), entry.strength) for entry in constant]
    name = " + ".join([module.name, *(entry.name for entry in constant)])
    return motion_module_from(name, partial(_baked, module.source, weighted), module.files + _files_of(constant))


def _baked(source: Source, weighted: list[tuple[MotionLora, float]]) -> tuple[MotionModuleConfig, dict[str, Tensor]]:
    config, weights = source()
    return config, bake(weights, combine(weighted))


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
    metadata = {"model_type": "motion_module", "family": config.family}
    metadata["sources"] = _sources(module.files)
    return _save(weights, MOTION_MODULES, filename, metadata, overwrite)


def _collect(changes: Iterable[tuple[str, LowRank, float, float]], count: int) -> tuple[MotionLora, float]:
    """All changes and their relative error together, with progress over `count` targets."""
    progress = comfy.utils.ProgressBar(count)
    lora, lost, whole = {}, 0.0, 0.0
    for target, change, lost_here, whole_here in changes:
        comfy.model_management.throw_exception_if_processing_interrupted()
        lora[target] = change
        lost, whole = lost + lost_here, whole + whole_here
        progress.update(1)
    return lora, relative_error(lost, whole)


def _constant(stack: tuple[LoadedMotionLora, ...]) -> list[LoadedMotionLora]:
    if not stack:
        raise ValueError("There is no MotionLoRA in the stack. Connect Load MotionLoRA.")
    settled = [entry.settled() for entry in stack]
    for entry in settled:
        if entry.schedule is not None:
            raise ValueError(f"{entry.name} has a strength that changes while sampling, which a file cannot hold.")
    return settled


def scaled(files: tuple[FileShare, ...], strength: float) -> tuple[FileShare, ...]:
    return tuple((folder, name, own * strength) for folder, name, own in files)


def _files_of(entries: list[LoadedMotionLora]) -> tuple[FileShare, ...]:
    return tuple(share for entry in entries for share in scaled(entry.files, entry.strength))


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
            comfy.model_management.throw_exception_if_processing_interrupted()
            digest.update(block)
    return digest.hexdigest()


def _save(
    weights: dict[str, Tensor], folder_key: str, filename: str, metadata: dict[str, str], overwrite: bool
) -> Path:
    """Write a safetensors file into the first folder of `folder_key`, whole or not at all.

    Raises ValueError for a name that leaves the folder, FileExistsError unless `overwrite`.
    """
    folder = Path(folder_paths.get_folder_paths(folder_key)[0]).resolve()
    path = (folder / filename.strip()).with_suffix(".safetensors")
    if (
        not filename.strip()
        or path.parent.resolve() != path.parent
        or not path.is_relative_to(folder)
        or ".." in path.parts
    ):
        raise ValueError(f"'{filename}' is not a file name inside {folder.name}.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path.name} exists already. Choose another name, or switch overwrite on.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        save_file(weights, part, metadata={**metadata, "software": "ComfyUI-Animatic"})
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    logger.info("saved %s", path)
    return path
