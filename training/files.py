"""The file that a stage writes, with a header that says how it was made."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
import torch

from .atomic import write_file
from .denoiser import Denoiser


def write_trained(path: Path, denoiser: Denoiser, metadata: Mapping[str, str], half: bool = False) -> None:
    """Write what was learnt as safetensors, in float32 or, for half the size, float16.

    metadata: beside the stage, the noise schedule and the scale, which are added. Raises OSError as `write_file`.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"{path.name} has to end in .safetensors, the format that it is written in.")
    weights = denoiser.file_weights(torch.float16 if half else torch.float32)
    stage = {"stage": denoiser.stage.name, "beta_schedule": denoiser.stage.beta_schedule}
    write_file(path, lambda part: save_file(weights, part, metadata={**stage, **metadata}))
