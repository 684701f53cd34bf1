"""`python -m training config.toml`, from the pack's folder, with the host's Python."""

import argparse
from collections.abc import Callable
from datetime import timedelta
from functools import partial
import logging
import os
from pathlib import Path
import signal
import sys
import threading

import torch

from .config import Config, ModelFiles, read_config
from .engine import Accelerated, Engine, OneDevice, best_device
from .manifest import draw_clips
from .posed_clips import cache_for
from .prepare import HostModels, Plan, check_length, encode, prepare_run, write_result
from .run import Run

logger = logging.getLogger(__name__)

EVERY = 10  # steps between two lines

# The host's part: the named files, the precision ("fp32", "bf16" or "fp16"), and the device to train on
OpenModels = Callable[[ModelFiles, str, torch.device], HostModels]
FindHost = Callable[[str | None], OpenModels]  # from the base directory of its models


def main(arguments: list[str], find_host: FindHost) -> int:
    """The exit code: 0 when the file is written, 1 for a mistake that is said, 130 after Ctrl+C."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train what this pack runs.")
    parser.add_argument("config", type=Path, help="a TOML file; commented examples are in training/configs")
    parser.add_argument("--base-directory", help="of models, if ComfyUI is started with this option")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        config = read_config(options.config)
        train(config, find_host(options.base_directory))
    except (OSError, ValueError, RuntimeError, FloatingPointError) as error:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise  # so that the launcher ends the other processes
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def train(config: Config, open_models: OpenModels) -> None:
    """From the config to the written file. Ctrl+C saves a state first; the same command goes on from it."""
    engine = _engine()
    manifest = draw_clips(config.data.videos(), config.sampling)
    plan = Plan(
        config.row,
        manifest,
        config.training,
        config.state,
        low_rank=config.low_rank,
        max_frames=config.motion_module.max_frames,
        mid_block=config.motion_module.mid_block,
        save_every=config.save_every,
        validate_every=config.validate_every,
        validation_clips=config.validation_clips,
    )
    models = open_models(config.models, config.base_precision, engine.device)
    check_length(plan, models.max_frames)
    cache = cache_for(config.row, config.data.cache, models.encoders)
    if engine.rank == 0 and engine.world_size > 1:
        logger.info("%d processes share every batch", engine.world_size)
    with torch.no_grad():  # the host's own nodes encode in inference mode
        clips = encode(plan, cache, engine, partial(_encoding_line, engine))
    base, frozen = models.training_parts()
    run = prepare_run(plan, clips, base, frozen, engine)
    if not _finished(run):
        run.save()
        if engine.rank == 0:
            logger.info("stopped at step %d; the same command goes on from there", run.trainer.step)
        raise KeyboardInterrupt
    for path in write_result(config.output, run, plan, config.half):
        logger.info("written: %s", path)


def _engine() -> Engine:
    """accelerate's where `accelerate launch` has started several processes, or else one device."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return Accelerated(timeout=timedelta(minutes=10))
    return OneDevice(best_device())


def _encoding_line(engine: Engine, done: int, total: int) -> None:
    if engine.rank == 0 and (done == total or done % EVERY == 0):
        logger.info("encoding clips: %d of %d", done, total)


def _finished(run: Run) -> bool:
    """Train and show it; False after Ctrl+C, which lets the step end first, so that weights and optimizer agree."""
    stop = threading.Event()
    usual = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        for report in run.steps():
            shown = report.step % EVERY == 0 or report.step == run.trainer.settings.steps
            if shown and run.trainer.engine.rank == 0:
                logger.info(run.line())
            if run.trainer.engine.mean(torch.tensor(float(stop.is_set()), device=run.trainer.engine.device)) > 0:
                break  # all processes together, or one would wait for the others' gradients
    finally:
        signal.signal(signal.SIGINT, usual)
    return run.trainer.step >= run.trainer.settings.steps
