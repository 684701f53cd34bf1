"""Several processes under accelerate, on the CPU: they follow one process, and none waits for a dead one."""

import os
from pathlib import Path
import signal
import socket
import subprocess
import sys

from animatic_pack.training.denoiser import Parts, fresh_denoiser
from animatic_pack.training.engine import OneDevice
from animatic_pack.training.stages import STAGES
from animatic_pack.training.trainer import Trainer, TrainingSettings
import pytest
from safetensors.torch import load_file
import torch
from training_models import CONTEXT, one_thread, small_base, zoom_clip  # noqa: F401

pytest.importorskip("accelerate", reason="accelerate is not installed (pip install accelerate)")
pytestmark = pytest.mark.usefixtures("one_thread")

TESTS = Path(__file__).resolve().parents[1]

SCRIPT = """
import os, signal, sys
from datetime import timedelta
from pathlib import Path
tests, folder, dies_at = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
sys.path.insert(0, tests)
import torch
torch.set_num_threads(1)
from training_models import CONTEXT, small_base, zoom_clip
from animatic_pack.training.denoiser import Parts, fresh_denoiser
from animatic_pack.training.engine import Accelerated, OneDevice
from animatic_pack.training.run import Run
from animatic_pack.training.stages import STAGES
from animatic_pack.training.trainer import Trainer, TrainingSettings

several = "WORLD_SIZE" in os.environ
engine = Accelerated(cpu=True, timeout=timedelta(seconds=300)) if several else OneDevice()
denoiser = fresh_denoiser(STAGES["motion_module"], small_base(), Parts(), seed=0)
settings = TrainingSettings(steps=10, batch_size=4, learning_rate=1e-3, precision="fp32")
clips = [zoom_clip(seed, num_frames=4) for seed in range(3)]
run = Run(Trainer(denoiser, clips, torch.zeros(7, CONTEXT), settings, engine), folder, {})
run.resume()
for report in run.steps():
    print(report.step, report.loss, flush=True)
    if report.step == dies_at and engine.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def start(folder: Path, world_size: int, dies_at: int = 0) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(world_size):
        environment = dict(os.environ)
        if world_size > 1:  # what `accelerate launch` sets
            environment.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE=str(world_size))
            environment.update(RANK=str(rank), LOCAL_RANK=str(rank), ACCELERATE_USE_CPU="true")
        command = [sys.executable, "-c", SCRIPT, str(TESTS), str(folder), str(dies_at)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
        processes.append(subprocess.Popen(command, **options))
    return processes


def finish(processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each; a hang fails."""
    results = []
    try:
        for process in processes:
            output, errors = process.communicate(timeout=400)
            results.append((process.returncode, output, errors))
    finally:
        for process in processes:
            process.kill()
    return results


def test_two_processes_with_half_the_batch_each_follow_one(tmp_path):
    ((code, alone, errors),) = finish(start(tmp_path / "one", 1))
    assert code == 0, errors
    both = finish(start(tmp_path / "two", 2))
    assert [code for code, _, _ in both] == [0, 0], both
    losses = [[float(line.split()[1]) for line in output.splitlines()] for output in (alone, both[0][1], both[1][1])]
    assert len(losses[0]) == 10 and losses[1] == losses[2]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    one, two = (load_file(tmp_path / name / "step-00000010" / "trainables.safetensors") for name in ("one", "two"))
    assert max((one[key] - two[key]).abs().max() for key in one) < 1e-5


def test_a_process_that_dies_ends_the_others_with_an_error(tmp_path):
    (survivor, dead) = finish(start(tmp_path, 2, dies_at=3))
    assert dead[0] == -signal.SIGKILL
    assert survivor[0] not in (0, None) and survivor[2]
    assert len(survivor[1].splitlines()) < 6


def test_a_batch_that_cannot_be_shared_is_said():
    denoiser = fresh_denoiser(STAGES["motion_module"], small_base(), Parts(), seed=0)
    settings, two = TrainingSettings(batch_size=3), OneDevice(world_size=2)
    with pytest.raises(ValueError, match="batch_size 3 cannot be shared equally by 2 processes"):
        Trainer(denoiser, [zoom_clip(0)], torch.zeros(7, CONTEXT), settings, two)
