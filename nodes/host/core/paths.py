"""Files that a prompt names, kept inside the host's folders."""

from collections.abc import Collection, Iterable
import os
from pathlib import Path
import re

import folder_paths

LONGEST_NAME = 220  # bytes; disks take 255, with a number, an ending and a mark for the unfinished file


def path_inside(folder: str | Path, name: str) -> Path | None:
    """What `name` means below `folder`; None if it leads out.

    Links are not resolved: people keep large files elsewhere and link them. The name itself must not lead out.
    """
    base = os.path.abspath(folder)
    path = os.path.abspath(os.path.join(base, name.strip()))
    try:
        common = os.path.commonpath([base, path])
    except ValueError:  # two drives of Windows
        return None
    return Path(path) if os.path.normcase(common) == os.path.normcase(base) else None


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
    base = base or folder_paths.get_input_directory()
    path = path_inside(base, plain)
    if path is None:
        raise ValueError(f"{name} is outside of ComfyUI's folders. Copy it into the input folder and choose it there.")
    if not (path.is_dir() if folder else path.is_file()):
        raise ValueError(f"The {kind} {name} is missing. Copy it into ComfyUI's {Path(base).name} folder.")
    return path


def name_problem(name: str | None, folder: bool = False) -> bool | str:
    """What VALIDATE_INPUTS returns. A linked name is not known yet: None passes here."""
    try:
        return name is None or bool(input_path(name, folder))
    except ValueError as error:
        return str(error)


def fingerprint(paths: Iterable[Path]) -> str:
    """Changes when a file does."""
    return " ".join(f"{path.name} {path.stat().st_mtime_ns} {path.stat().st_size}" for path in paths)


def output_path(filename_prefix: str, extension: str, save_output: bool, width: int, height: int) -> tuple[Path, dict]:
    """A free, numbered path in the output (or temp) folder, and the entry that tells clients where it is.

    Raises ValueError for a prefix that no file can be named by, and an exception of the host if it points outside that
    folder.
    """
    check_lengths(filename_prefix, "filename_prefix")
    kind = "output" if save_output else "temp"
    base = folder_paths.get_output_directory() if save_output else folder_paths.get_temp_directory()
    Path(base).mkdir(parents=True, exist_ok=True)
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(filename_prefix, base, width, height)
    # The host counts names of this shape; a .png sequence is a folder of that name.
    file_name = f"{name}_{counter:05}_" + ("" if extension == ".png" else extension)
    return Path(folder) / file_name, {"filename": file_name, "subfolder": subfolder, "type": kind}


def model_folder(folder_key: str) -> Path:
    """Where models of a kind that are made here go."""
    return Path(os.path.abspath(folder_paths.get_folder_paths(folder_key)[0]))


def model_path(folder_key: str, filename: str) -> Path:
    """Where a model that is made here goes: a .safetensors file in the first folder of its kind.

    Raises ValueError for a name that leads out of the folder, or is too long for a file.
    """
    folder = model_folder(folder_key)
    check_lengths(filename, "filename")
    path = path_inside(folder, filename)
    if path in (None, folder) or "\0" in filename:
        raise ValueError(f"'{filename}' is not a file name inside {folder.name}.")
    return path.with_name(path.name.removesuffix(".safetensors") + ".safetensors")


def check_lengths(name: str, title: str) -> None:
    """Raises ValueError if a part of this path, of the input `title`, is longer than disks allow."""
    for part in re.split(r"[/\\]", name):
        if len(part.encode("utf-8", "replace")) > LONGEST_NAME:
            raise ValueError(
                f"{title}: '{part:.20}...' has {len(part)} characters, more than a disk takes for the name of one file "
                "or folder. Shorten it to 200, or to 70 if they are not Latin letters."
            )
