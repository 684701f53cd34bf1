"""Files that a prompt names, kept inside the host's folders, and what their frames need of the host."""

from collections.abc import Callable, Collection, Iterable
import os
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
import torch

check_interrupted: Callable[[], None] = comfy.model_management.throw_exception_if_processing_interrupted


def input_files(extensions: Collection[str]) -> list[str]:
    """Files with these extensions below the input folder, named from there with forward slashes."""
    files, _ = folder_paths.recursive_search(folder_paths.get_input_directory(), [".git"])
    return [name.replace(os.sep, "/") for name in folder_paths.filter_files_extensions(files, extensions)]


def input_path(name: str, folder: bool = False) -> Path:
    """The file (or folder) that `name` means, with "[output]" or "[temp]" at its end not in the input folder.

    Raises ValueError, with a message for the user, if it is missing or outside of the host's folder.
    """
    kind = "folder" if folder else "file"
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise ValueError(f"Choose a {kind}: {name!r} is no name.")
    plain, base = folder_paths.annotated_filepath(name)
    # Links are not resolved: people keep large files elsewhere and link them. The name itself must not lead out.
    base = os.path.abspath(base or folder_paths.get_input_directory())
    path = os.path.abspath(os.path.join(base, plain.strip()))
    try:
        inside = os.path.normcase(os.path.commonpath([base, path])) == os.path.normcase(base)
    except ValueError:  # two drives of Windows
        inside = False
    if not inside:
        raise ValueError(f"{name} is outside of ComfyUI's folders. Copy it into the input folder and choose it there.")
    if not (os.path.isdir(path) if folder else os.path.isfile(path)):
        raise ValueError(f"The {kind} {name} is missing. Copy it into ComfyUI's {Path(base).name} folder.")
    return Path(path)


def name_problem(name: str | None, folder: bool = False) -> bool | str:
    """What VALIDATE_INPUTS returns. A linked name is not known yet: None passes here."""
    try:
        return name is None or bool(input_path(name, folder))
    except ValueError as error:
        return str(error)


def fingerprint(paths: Iterable[Path]) -> str:
    """Changes when a file does."""
    return " ".join(f"{path.name} {path.stat().st_mtime_ns} {path.stat().st_size}" for path in paths)


def target_size(width: int, height: int, wanted_width: int, wanted_height: int) -> tuple[int, int]:
    """Width and height of the output. A wanted 0 follows the other one and the aspect ratio; two: nothing changes."""
    if not wanted_width and not wanted_height:
        return width, height
    return (
        wanted_width or max(1, round(width * wanted_height / height)),
        wanted_height or max(1, round(height * wanted_width / width)),
    )


def resize(frame: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """One frame, float (H, W, 3) in 0..1, centre-cropped to the new aspect ratio and scaled."""
    if frame.shape[:2] == (height, width):
        return frame
    frame = comfy.utils.common_upscale(frame.movedim(-1, 0)[None], width, height, "lanczos", "center")
    return frame[0].movedim(0, -1)


def require_memory(count: int, width: int, height: int) -> None:
    """Raises ValueError if so many float frames cannot fit, before the computer starts to swap."""
    needed = count * width * height * 3 * 4
    free = comfy.model_management.get_free_memory(torch.device("cpu"))
    if needed > free:
        raise ValueError(
            f"{count} frames of {width} x {height} need {needed / 2**30:.1f} GB of memory, {free / 2**30:.1f} GB are "
            "free. Set frame_load_cap, a lower force_rate, or a smaller width and height."
        )


def progress_bar(total: int) -> Callable[[], None]:
    """A function that moves the node's progress bar by one; total: 0 if unknown."""
    bar = comfy.utils.ProgressBar(total)
    return lambda: bar.update_absolute(bar.current + 1, max(bar.total, bar.current + 1))
