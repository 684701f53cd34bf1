"""Reading weight files safely, with errors that say what a bad file is."""

import os
from collections.abc import Mapping

import comfy.utils
import folder_paths


def load_weights(folder_key: str, name: str) -> Mapping:
    """The weights of a file of a model folder; see `load_weights_and_metadata`."""
    return load_weights_and_metadata(folder_key, name)[0]


def load_weights_and_metadata(folder_key: str, name: str) -> tuple[Mapping, dict[str, str]]:
    """Load a file and its metadata with the host's safe loader (safetensors, or pickles with weights only).

    Raises FileNotFoundError for an unknown name and ValueError, naming the file and the remedy, for one that
    cannot be read.
    """
    path = folder_paths.get_full_path_or_raise(folder_key, name)
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        raise ValueError(f"{name} is empty: the download failed. Download it again.")
    if start.lstrip()[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError(
            f"{name} is a web page, not a model: the link led to a page about the file. Download the file itself."
        )
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{name} is a Git LFS pointer, not the model itself. Download the file itself, or run 'git lfs pull'."
        )
    try:
        weights, metadata = comfy.utils.load_torch_file(path, safe_load=True, return_metadata=True)
    except Exception as error:  # each loader raises its own kinds for the same few causes
        raise ValueError(_unreadable(name, path, start, error)) from error
    return weights, metadata or {}


def _unreadable(name: str, path: str, start: bytes, error: Exception) -> str:
    text = str(error)
    if "Weights only load failed" in text or "Unsupported global" in text or "UnpicklingError" in type(error).__name__:
        if start[:2] in (b"PK", b"\x80\x02"):
            return (
                f"{name} was not loaded: it is a pickle that holds more than weights, and loading it could run code. "
                "Use a safetensors version of this model from a source that you trust."
            )
        return (
            f"{name} is not a model file: its content is neither safetensors nor a torch checkpoint. Download it again."
        )
    megabytes = os.path.getsize(path) / 2**20
    return (
        f"{name} ({megabytes:.1f} MB) is damaged or cut short and cannot be read. Compare its size with the "
        f"original and download it again. ({type(error).__name__}: {text.splitlines()[0] if text else 'no details'})"
    )
