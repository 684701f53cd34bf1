"""`python -m evaluation.world`: train the small world, measure the paper's claims on it, write files and page."""

import argparse
from collections.abc import Callable
import logging
from pathlib import Path
import platform
import shlex
import signal
import subprocess
import sys

import torch

from .figures import Effort
from .files import save_files
from .models import Sampling
from .page import write_page
from .programme import needed_minutes, train
from .strips import write_strips
from .world import SMOKE, Host, Sizes, World

SMOKE_MINUTES = 10.0  # below that nothing is learnt
SHORT = Sampling(2, num_frames=2)
SMOKE_EFFORT = Effort(1, SHORT, 1, SHORT)
PACK = Path(__file__).resolve().parents[2]


def main(arguments: list[str], open_host: Callable[[], Host]) -> int:
    """The exit code: 0 when the page is written, 1 for a mistake that is said, 130 after Ctrl+C."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.world", description=__doc__.split(": ")[1])
    minutes = f"of training, in all; {needed_minutes():g} on one core for what the repository ships"
    parser.add_argument("--budget", type=float, required=True, metavar="MINUTES", help=minutes)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--folder", type=Path, default=PACK / ".animatic" / "small_world", help="to work and go on in")
    parser.add_argument("--page", type=Path, help="default: docs/small_world.md, in the folder for a smoke run")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    torch.set_grad_enabled(False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a state is saved however it is ended
    smoke = options.budget < SMOKE_MINUTES
    page = options.page or (options.folder if smoke else PACK / "docs") / "small_world.md"
    try:
        sizes = SMOKE if smoke else Sizes()
        world = World(options.folder, open_host(), options.budget * 60, torch.device(options.device), sizes)
        train(world)
        facts = made_by(options.budget, options.device)
        save_files(world, options.folder / "files", facts)
        effort = SMOKE_EFFORT if smoke else Effort()
        write_strips(page.parent / "small_world", world, effort)
        write_page(page, world, effort, facts, smoke)
    except (OSError, ValueError, RuntimeError, FloatingPointError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    logging.getLogger(__name__).info("written: %s", page)
    return 0


def _commit() -> str:
    """Of the pack, or "unknown" where it is no checkout."""
    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PACK, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return asked.stdout.strip()


def made_by(minutes: float, device: str) -> dict[str, str]:
    """For the page and the files' headers."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} processor"
    command = shlex.join(["python", "-m", "evaluation.world", "--budget", f"{minutes:g}", "--device", device])
    threads = torch.get_num_threads()
    machine = f"{name}, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}"
    return {"command": command, "commit": _commit(), "machine": machine}
