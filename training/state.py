"""States to go on from: weights, optimizer and the number of steps done, in a folder per state.

    <folder>/step-00000120/trainables.safetensors   the part that learns, float32
                          /optimizer.pt             tensors and numbers alone; loads with weights_only
                          /state.json               step, settings, base, and the curve so far

A state is written beside and renamed when it is whole, and only then is the one before it removed; so whenever a run is
killed, the newest folder with such a name is a whole state. Random generators have no state to save (noise.py), and
the place in the data follows from the step (batches.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
import json
import logging
from pathlib import Path
import pickle
import re
import shutil

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
import torch

from .atomic import write_folder
from .trainer import StepReport, Trainer

logger = logging.getLogger(__name__)

# by what reads a state's three files
UNREADABLE = OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, pickle.UnpicklingError
NAME = re.compile(r"step-(\d{8})")
VAE_AND_CLIP = "vae_and_clip"
ADDED = (VAE_AND_CLIP,)  # names of an identity that older states lack; they go on without this comparison


@dataclass(frozen=True)
class Curve:
    """What a run reported: one report per step, and (step, fixed-noise loss) wherever that was measured."""

    reports: tuple[StepReport, ...] = ()
    validation: tuple[tuple[int, float], ...] = ()


def save_state(folder: Path, trainer: Trainer, identity: Mapping[str, object], curve: Curve) -> Path:
    """Write the trainer's state and remove older ones.

    identity: what a run cannot change and go on, by name, in JSON's types; `load_state` compares it.
    Raises FloatingPointError for weights that are not numbers, and OSError for a full disk; older states stay.
    """
    weights = {key: value.detach().cpu().contiguous() for key, value in trainer.denoiser.state_dict().items()}
    broken = next((key for key, value in weights.items() if not torch.isfinite(value).all()), None)
    if broken:
        raise FloatingPointError(
            f"{broken} is not a number any more; the state before step {trainer.step} was kept. "
            "Go on from it with a lower learning rate."
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{trainer.step:08d}"
    if path.exists():  # every draw is fixed, so it is the same state
        return path

    def write(part: Path) -> None:
        save_file(weights, part / "trainables.safetensors")
        optimizer = {"optimizer": trainer.optimizer.state_dict(), "scaler": trainer.scaler.state_dict()}
        torch.save(optimizer, part / "optimizer.pt")
        content = {"step": trainer.step, "identity": dict(identity), "curve": asdict(curve)}
        (part / "state.json").write_text(json.dumps(content), encoding="utf-8")

    write_folder(path, write)
    for older in (state for state in states(folder) if state.name < path.name):
        shutil.rmtree(older, ignore_errors=True)
    for left_over in folder.glob(".step-*.tmp"):  # of a run that was killed while it wrote
        shutil.rmtree(left_over, ignore_errors=True)
    return path


def load_state(folder: Path, trainer: Trainer, identity: Mapping[str, object]) -> Curve | None:
    """Put the newest state of a folder into the trainer; None if there is none, and the run starts at its beginning.

    Raises ValueError that says in what a state of another run differs, or that it is damaged.
    """
    found = states(folder)
    if not found:
        return None
    path = found[-1]
    try:
        content = json.loads((path / "state.json").read_text(encoding="utf-8"))
        weights = load_file(path / "trainables.safetensors")
        optimizer = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
        curve = _curve(content["curve"])
        step, saved = content["step"], content["identity"]
    except UNREADABLE as error:
        kind = type(error).__name__  # torch's own words advise to load a damaged file without weights_only
        raise ValueError(f"The state {path} is damaged. Delete this folder to start over. ({kind})") from error
    _compare(path, saved, json.loads(json.dumps(dict(identity))))
    with torch.inference_mode(False):
        trainer.denoiser.load_state_dict(weights)
        trainer.optimizer.load_state_dict(optimizer["optimizer"])
        trainer.scaler.load_state_dict(optimizer["scaler"])
    trainer.step = step
    logger.info("going on from step %d of %s", step, path)
    return curve


def curve_of(folder: Path) -> Curve:
    """Of the newest state, without its weights; empty if there is none."""
    found = states(folder)
    return _curve(json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))["curve"]) if found else Curve()


def states(folder: Path) -> list[Path]:
    """The whole states of a folder, the newest last."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if NAME.fullmatch(path.name) and path.is_dir())


def _curve(content: Mapping[str, Sequence]) -> Curve:
    reports = tuple(StepReport(**report) for report in content["reports"])
    return Curve(reports, tuple((int(step), float(loss)) for step, loss in content["validation"]))


def _compare(path: Path, saved: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    names = [name for name in (*wanted, *(saved.keys() - wanted.keys())) if name in saved or name not in ADDED]
    different = [name for name in names if saved.get(name) != wanted.get(name)]
    if different:
        words = "; ".join(f"{name} was {saved.get(name)} and is now {wanted.get(name)}" for name in different)
        raise ValueError(
            f"The state {path} is of another run: {words}. Put this back to go on from there. To start over, "
            "choose another name, or delete this folder."
        )
