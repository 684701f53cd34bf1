"""Where the host wants files, what it wants in them, and its progress bar and stop button."""

from collections.abc import Iterator
import json
from pathlib import Path

import comfy.model_management
import comfy.utils
from comfy.cli_args import args
import folder_paths
from torch import Tensor


def output_path(filename_prefix: str, extension: str, save_output: bool, width: int, height: int) -> tuple[Path, dict]:
    """A free, numbered path in the output (or temp) folder, and the entry that tells clients where it is.

    Raises an exception of the host if the prefix points outside that folder.
    """
    kind = "output" if save_output else "temp"
    base = folder_paths.get_output_directory() if save_output else folder_paths.get_temp_directory()
    Path(base).mkdir(parents=True, exist_ok=True)
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(filename_prefix, base, width, height)
    # The host counts names of this shape; a .png sequence is a folder of that name.
    file_name = f"{name}_{counter:05}_" + ("" if extension == ".png" else extension)
    return Path(folder) / file_name, {"filename": file_name, "subfolder": subfolder, "type": kind}


def file_metadata(prompt: dict | None, extra_pnginfo: dict | None) -> dict[str, str]:
    """Prompt and workflow as the JSON texts that go into files; empty if the user switched that off."""
    if args.disable_metadata:
        return {}
    metadata = {} if prompt is None else {"prompt": json.dumps(prompt)}
    for name, value in (extra_pnginfo or {}).items():
        metadata[name] = json.dumps(value)
    return metadata


def with_progress(count: int) -> Iterator[int]:
    """0 .. count-1, moving the node's progress bar and stopping when the user cancels the prompt."""
    progress = comfy.utils.ProgressBar(count)
    for index in range(count):
        comfy.model_management.throw_exception_if_processing_interrupted()
        yield index
        progress.update(1)


def preview_image(image: Tensor) -> dict:
    """A picture (H, W, 3) in 0..1 as the node's preview, through the host's own Preview Image node."""
    from nodes import PreviewImage  # only there once the server runs

    return PreviewImage().save_images(image[None])["ui"]
