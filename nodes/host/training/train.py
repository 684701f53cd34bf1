"""A training inside a running host: in a thread of its own, with progress, previews, and a Cancel that can go on."""

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass, field
import gc
import logging
from pathlib import Path
import threading
import traceback
from typing import TypeVar

import comfy.model_management
from comfy.model_management import InterruptProcessingException
import folder_paths
import torch
from torch import Tensor

from ....training.cache import Cache, CachedClips
from ....training.denoiser import LowRankSize
from ....training.noise import generator_at
from ....training.posed_clips import cache_for
from ....training.prepare import Plan, check_length, encode, prepare_run, write_result
from ....training.run import Run
from ....training.sampling import sample_clip
from ....training.stages import UNET_LEARNS, Stage
from ....training.state import Curve, states
from ....training.trainer import TrainingSettings
from ..core.paths import model_folder, model_path
from ..core.progress import check_interrupted
from ..frames.save import play_clip
from .clips import TrainingClips
from .models import OpenedModels, default_precision, training_device
from .progress import NodeProgress

logger = logging.getLogger(__name__)

FOLDER = "animatic_training"  # in the output folder: states to go on from, and what was encoded
SUFFIX = ".safetensors"
POSED_GUIDANCE = 3.5  # of previews of Animate Anyone, the open release's
EVERY = 10  # steps between two lines of the log
Result = TypeVar("Result")


@dataclass(frozen=True)
class TrainingOptions:
    """What few change; see the node Training Options. precision: "" for what suits the device."""

    batch_size: int = 1
    text_dropout: float = 0.1
    precision: str = ""
    recompute: bool = True
    eight_bit_adam: bool = False
    save_every: int = 100
    validate_every: int = 50
    preview_every: int = 100
    half: bool = True
    seed: int = 0

    def settings(self, steps: int, learning_rate: float, precision: str) -> TrainingSettings:
        return TrainingSettings(
            steps=steps,
            batch_size=self.batch_size,
            learning_rate=learning_rate,
            text_dropout=self.text_dropout,
            precision=precision,
            recompute=self.recompute,
            eight_bit_adam=self.eight_bit_adam,
            seed=self.seed,
        )


@dataclass(frozen=True)
class Job:
    """One training as a node asks for it.

    filename: in the model folder of the stage; the states to go on from stand under it too.
    max_frames, mid_block: of a new motion module.
    """

    stage: Stage
    clips: TrainingClips
    filename: str
    settings: TrainingSettings
    options: TrainingOptions
    low_rank: LowRankSize = LowRankSize()
    max_frames: int = 32
    mid_block: bool = False


@dataclass(frozen=True)
class Trained:
    """path: of the written file. name: of it in its model folder. files: of each, by what it is, if there are several.

    text: how the run ended, and what was left out. shown: the newest preview clip as the node shows it; empty if there
    was none.
    """

    path: Path
    name: str
    curve: Curve
    text: str
    shown: dict
    files: dict[str, Path] = field(default_factory=dict)


def train_as_told(
    stage: Stage,
    opened: Callable[[str, torch.device], OpenedModels],
    vae,
    clips: TrainingClips,
    filename: str,
    steps: int,
    learning_rate: float,
    options: TrainingOptions | None,
    **more,
) -> tuple[dict, Trained]:
    """Train as a node was told to: what the node shows, and what was trained.

    opened: the models to train around, by their precision and device. more: of `Job`.
    """
    options, device = options or TrainingOptions(), training_device()
    precision = options.precision or default_precision(device)
    frozen = "fp32" if stage.name in UNET_LEARNS else precision  # what learns stays in float32
    job = Job(stage, clips, filename, options.settings(steps, learning_rate, precision), options, **more)
    trained = train(job, opened(frozen, device), vae)
    return {**trained.shown, "text": (f"{trained.name}: {trained.text}",)}, trained


def train(job: Job, models: OpenedModels, vae) -> Trained:
    """Train, or go on from the state that an earlier run of this file name left, and write the file.

    Raises FileExistsError rather than write over a file that no such run has made; ValueError for clips that cannot be
    used or a state of other settings. A Cancel is raised on, after the state was saved.
    """
    path = model_path(job.stage.model_folder, job.filename)
    name = path.relative_to(model_folder(job.stage.model_folder)).as_posix()
    base = Path(folder_paths.get_output_directory()) / FOLDER
    state = base / job.stage.name / name.removesuffix(SUFFIX)
    files = {what: model_path(kind, f"{name.removesuffix(SUFFIX)}_{what}") for what, kind in job.stage.files}
    there = [file.name for file in files.values() or [path] if file.exists()]
    if there and not states(state):
        raise FileExistsError(
            f"{there[0]} exists already, and there is no state to go on from. Choose another filename, or delete it."
        )
    options = job.options
    plan = Plan(
        job.stage,
        job.clips.manifest(),
        job.settings,
        state,
        low_rank=job.low_rank,
        max_frames=job.max_frames,
        mid_block=job.mid_block,
        save_every=options.save_every,
        validate_every=options.validate_every,
    )
    check_length(plan, models.max_frames)
    try:
        cache = cache_for(job.stage, base / "cache", models.encoders)
        curve, text, shown = in_thread(lambda: _train(plan, cache, models, vae, path, job, files))
    finally:
        gc.collect()  # the network and its optimizer refer to each other; the next node needs their memory
        comfy.model_management.soft_empty_cache()
    return Trained(path, name, curve, text, shown, files)


def in_thread(work: Callable[[], Result]) -> Result:
    """Do the work where the host's inference mode does not reach; progress still goes to the node at work."""
    future: Future[Result] = Future()
    context = copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(work))
        except BaseException as error:  # a Cancel is none of Exception's, on newer hosts
            traceback.clear_frames(error.__traceback__)  # they hold the network
            future.set_exception(error)

    # a daemon, as the host's own worker: a server that is stopped does not wait for it
    thread = threading.Thread(target=run, name="animatic_training", daemon=True)
    thread.start()
    thread.join()
    return future.result()


def _train(
    plan: Plan, cache: Cache, models: OpenedModels, vae, path: Path, job: Job, files: dict[str, Path]
) -> tuple[Curve, str, dict]:
    """How it went, in words too, and what the node shows of it."""
    progress = NodeProgress()
    with torch.inference_mode():
        clips = encode(plan, cache, progress=progress.show, check=check_interrupted)
    base, frozen = models.training_parts()
    run = prepare_run(plan, clips, base, frozen)
    shown: dict = {}
    try:
        for report in run.steps():
            check_interrupted()
            progress.show(report.step, plan.settings.steps, run.line())
            if _shows(job.options.preview_every, report.step, plan.settings.steps):
                shown = play_clip(_preview(run, clips, models, vae))
                progress.play(shown)
            if report.step % EVERY == 0:
                logger.info(run.line())
    except InterruptProcessingException:
        run.save()
        logger.info("stopped after step %d; queue again to go on from there", run.trainer.step)
        raise
    write_result(path, run, plan, job.options.half, files)
    logger.info("written: %s", ", ".join(map(str, files.values() or [path])))
    return run.curve, "\n".join([run.line(), *map("left out: {}".format, clips.rejected)]), shown


def _shows(preview_every: int, step: int, last: int) -> bool:
    return bool(preview_every) and (step % preview_every == 0 or step == last)


def _preview(run: Run, clips: CachedClips, models: OpenedModels, vae) -> Tensor:
    """A clip (F, H, W, 3) in 0..1 of the first caption, or reference, from noise that is always the same."""
    first, denoiser = clips[0], run.trainer.denoiser
    noise = torch.randn(first.mean.shape, generator=generator_at(0, "preview"))
    batch = first.fixed(noise, 0)
    beside = {name: value[0] for name, value in batch.beside.items()}
    options = {"guidance": POSED_GUIDANCE} if denoiser.stage.posed else {}
    latents = sample_clip(
        denoiser, noise, batch.context[0], clips.empty_context, check=check_interrupted, beside=beside, **options
    )
    with torch.inference_mode():
        frames = vae.decode(models.model.model.process_latent_out(latents)).float().cpu()
    with torch.inference_mode(False):
        return frames.clone()
