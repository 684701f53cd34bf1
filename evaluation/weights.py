"""Weight files as those who trained a network publish them: plain tensors by name, never a program."""

from pathlib import Path
import pickle
import zipfile

from safetensors import SafetensorError
from safetensors.torch import load_file
import torch
from torch import Tensor


def read_weights(path: Path, wanted: str) -> dict[str, Tensor]:
    """Of a safetensors file, or one of torch.save. wanted: which file it should be, for the messages.

    Raises FileNotFoundError and ValueError that name the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. {wanted}")
    if _is_program(path):
        raise ValueError(f"{path} is a program (TorchScript), not weights, and is not run. {wanted}")
    try:
        safe = path.suffix.lower() == ".safetensors"
        found = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: it is damaged, or holds no plain weights. {wanted}") from error
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError(f"{path} holds something else than weights by their names. {wanted}")
    return found


def _is_program(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
