"""The file that a stage writes, with a header that says how it was made."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from safetensors.torch import save_file
import torch

from .atomic import write_file
from .denoiser import Denoiser


def write_trained(
    path: Path,
    denoiser: Denoiser,
    metadata: Mapping[str, str],
    half: bool = False,
    elsewhere: Mapping[str, Path] | None = None,
) -> list[Path]:
    """Write what was learnt as safetensors, in float32 or, for half the size, float16. Returns where.

    metadata: beside the stage, the noise schedule and the scale, which are added. elsewhere: paths of single files, by
    what they are, if the stage writes several. Raises OSError as `write_file`.
    """
    stage = {"stage": denoiser.stage.name, "beta_schedule": denoiser.stage.beta_schedule}
    if denoiser.stage.v_prediction:
        stage["prediction"] = "v"
    written = []
    for what, weights in denoiser.files(torch.float16 if half else torch.float32).items():
        written.append((elsewhere or {}).get(what, file_path(path, what)))
        write_file(written[-1], partial(save_file, weights, metadata={**stage, **metadata}))
    return written


def file_path(path: Path, what: str) -> Path:
    """Of one of a stage's files: `me.safetensors` as reference_unet is `me_reference_unet.safetensors`."""
    return path.with_name(f"{path.stem}_{what}{path.suffix}") if what else path
