"""Reading weight files safely, with errors that say what a bad file is."""

from collections.abc import Mapping
import os
import re

import comfy.utils
import folder_paths

# in the words of safetensors, torch and Windows, whose error 1455 is a paging file that cannot grow
NO_MEMORY = re.compile(r"not enough memory|[Cc]an(no|')t allocate memory|os error (12|1455)\b")


def load_weights(folder_key: str, name: str) -> Mapping:
    """The weights of a file of a model folder; see `load_weights_and_metadata`."""
    return load_weights_and_metadata(folder_key, name)[0]


def load_weights_and_metadata(folder_key: str, name: str) -> tuple[Mapping, dict[str, str]]:
    """Load a file and its metadata with the host's safe loader (safetensors, or pickles with weights only).

    Raises FileNotFoundError for an unknown name, ValueError, naming the file and the remedy, for one that cannot be
    used, and MemoryError or OSError where this computer is what fails.
    """
    path = folder_paths.get_full_path_or_raise(folder_key, name)
    form = _format_of(path)
    named = "safetensors" if path.lower().endswith((".safetensors", ".sft")) else "torch"
    if form == "empty":
        raise ValueError(f"{name} is empty: the download failed. Download it again.")
    if form == "web page":
        raise ValueError(
            f"{name} is a web page, not a model: the link led to a page about the file. Download the file itself."
        )
    if form == "pointer":
        raise ValueError(
            f"{name} is a Git LFS pointer, not the model itself. Download the file itself, or run 'git lfs pull'."
        )
    if form != named and form != "unknown":
        ending = ".safetensors" if form == "safetensors" else ".ckpt"
        raise ValueError(
            f"{name} has the wrong ending: by its content it is a {form} file. Rename it to end in {ending}."
        )
    try:
        weights, metadata = comfy.utils.load_torch_file(path, safe_load=True, return_metadata=True)
    except Exception as error:  # each loader raises its own kinds for the same few causes
        if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
            raise MemoryError(
                f"There is not enough memory to read {name}. Close other programs; on Windows, let the paging file "
                "grow."
            ) from error
        if isinstance(error, OSError):
            raise OSError(f"{name} could not be read, though it may be whole: {error}") from error
        raise ValueError(_unreadable(name, path, form, error)) from error
    return weights, metadata or {}


def _format_of(path: str) -> str:
    """What a file is by its first bytes: "safetensors", "torch", or what people have in its place."""
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        return "empty"
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and header < 2**32:
        return "safetensors"
    if start.startswith(b"PK\x03\x04") or (start[0] == 0x80 and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        return "torch"
    if start.startswith(b"version https://git-lfs"):
        return "pointer"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    return "web page" if re.match(rb"<[!?a-zA-Z]", text) else "unknown"


def _unreadable(name: str, path: str, form: str, error: Exception) -> str:
    text = str(error)
    if form == "torch" and (
        "Weights only load failed" in text or "Unsupported" in text or "Unpickling" in type(error).__name__
    ):
        return (
            f"{name} was not loaded: it is a pickle that holds more than weights, and loading it could run code. "
            "Use a safetensors version of this model from a source that you trust."
        )
    if form == "torch" and isinstance(error, (TypeError, AttributeError)):
        return f"{name} holds no named weights, so it is no model."
    if form == "unknown" and not path.lower().endswith((".safetensors", ".sft")):
        return (
            f"{name} is not a model file: its content is neither safetensors nor a torch checkpoint. Download it again."
        )
    megabytes = os.path.getsize(path) / 2**20
    return (
        f"{name} ({megabytes:.1f} MB) is damaged or cut short and cannot be read. Compare its size with the "
        f"original and download it again. ({type(error).__name__}: {text.splitlines()[0] if text else 'no details'})"
    )
