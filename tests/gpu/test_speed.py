"""Step times of this card into a copy of docs/benchmarks.md, when --table=PATH names one."""

from functools import partial
import platform

from card_rates import copy_rate, matmul_rate, recorded_event, seconds_between
from card_table import StepTimes, table_of, write_between_marks
import comfyui_version
from full_size import MOTION_MODULES, animated, full_model, full_motion_module
from host_models import sample
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

FRAMES, STEPS, ROUNDS = 16, 6, 2
CLIPS = [("v2", 512), ("v2", 768), ("v2", 1024), ("v3", 512), ("HotShotXL", 512), ("HotShotXL", 1024)]


def step_seconds(model, **options) -> list[float]:
    """Of warm steps: the first one ends where the first of these begins."""
    events = []
    sample(model, steps=STEPS + 1, callback=lambda *_: events.append(recorded_event()), **options)
    return seconds_between(events)


def flops_of_a_step(model, **options) -> int:
    with FlopCounterMode(display=False) as counter:
        sample(model, steps=1, **options)
    return counter.get_total_flops()


def step_times(plain, name, pixels, matmuls, copies) -> StepTimes:
    moving = animated(plain, name)
    options = {"frames": FRAMES, "size": (pixels // 8, pixels // 8), "kind": MOTION_MODULES[name][0]}
    flops, without = (flops_of_a_step(model, **options) for model in (moving, plain))
    seconds = {plain: [], moving: []}
    for _ in range(ROUNDS):  # in turn, so that a card that slows down does so for both
        for model, all_times in seconds.items():
            all_times += step_seconds(model, **options)
    weights = full_motion_module(name).patcher.model_size()
    floor = max((flops - without) / matmuls, weights / copies)
    return StepTimes(f"{name}, {pixels} x {pixels}", seconds[plain], seconds[moving], floor)


def test_step_times_are_written_when_asked_for(request, sd15):
    path = request.config.getoption("--table", default=None)
    if path is None:
        pytest.skip("no --table=PATH")
    models = {"SD1.5": sd15, "SDXL": full_model("SDXL")}
    matmuls, copies = matmul_rate(torch.float16), copy_rate()
    times = partial(step_times, matmuls=matmuls, copies=copies)
    rows = [times(models[MOTION_MODULES[name][0]], name, pixels) for name, pixels in CLIPS]
    machine = (
        f"{torch.cuda.get_device_name()}; ComfyUI {comfyui_version.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, float16, {FRAMES} frames, cond and uncond; matrix products at "
        f"{matmuls / 1e12:.0f} TFLOP/s, copies at {copies / 1e9:.0f} GB/s"
    )
    write_between_marks(path, table_of(machine, rows))
    assert all(len(row.plain) >= STEPS and min(row.plain) > 0 for row in rows)
