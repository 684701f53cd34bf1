"""From what is wanted to a run that is ready for its first step, or for the next one."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
import math
from pathlib import Path
from typing import Protocol

from .animate_anyone import AnimateParts, fresh_animate_denoiser
from .base import Base, weights_digest
from .cache import Cache, CachedClips, Encoders, encode_manifest
from .camera import CameraMove
from .denoiser import Denoiser, LowRankSize, Parts, fresh_denoiser
from .engine import ONE_DEVICE, Engine
from .files import write_trained
from .manifest import Manifest
from .run import Run
from .sources import Check
from .stages import ANIMATE_ANYONE_MOTION, MOTION_MODULE, TUNE_A_VIDEO, Stage
from .state import VAE_AND_CLIP
from .trainer import Trainer, TrainingSettings
from .tune_a_video import fresh_tune_denoiser

# What may differ when a run goes on: how far it goes, and how it fits into memory.
FREE_SETTINGS = ("steps", "recompute")
NEW_MOTION = (MOTION_MODULE, ANIMATE_ANYONE_MOTION)  # stages that begin a motion module if none is given


class HostModels(Protocol):
    """A checkpoint that a host has opened.

    encoders: used first, so that they can be out of the way when the UNet comes.
    max_frames: that its motion module knows; None without one.
    """

    encoders: Encoders
    max_frames: int | None

    def training_parts(self) -> tuple[Base, Parts]:
        """The frozen UNet and what acts beside it, on their device; VAE and text encoder may be freed."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides what is learnt, beside the models.

    state: the folder of the run's states. validation_clips: how many of the first clips the fixed-noise loss is
    measured on, unless validate_every is 0. max_frames, mid_block: of a new motion module, see `fresh_denoiser`.
    """

    stage: Stage
    manifest: Manifest
    settings: TrainingSettings
    state: Path
    low_rank: LowRankSize = LowRankSize()
    max_frames: int = 32
    mid_block: bool = False
    save_every: int = 100
    validate_every: int = 50
    validation_clips: int = 4


def check_length(plan: Plan, known: int | None) -> None:
    """known: the frames that the given motion module knows; None: a new one is made as the plan says.

    Raises ValueError for longer clips, and single frames where motion is learnt, before they are encoded.
    """
    known = known or (plan.max_frames if plan.stage.name in NEW_MOTION else None)
    num_frames = plan.manifest.clips[0].num_frames
    if num_frames == 1 and plan.stage.num_frames > 1:
        raise ValueError(f"The clips have one frame, and {plan.stage.title} is learnt from several: raise num_frames.")
    if known and num_frames > known:
        raise ValueError(f"The clips have {num_frames} frames, but the motion module knows {known}: lower num_frames.")


def encode(
    plan: Plan,
    cache: Cache,
    engine: Engine = ONE_DEVICE,
    progress: Callable[[int, int], None] = lambda done, total: None,
    check: Check = lambda: None,
) -> CachedClips:
    """All clips of the plan, encoded; afterwards the VAE and the text encoder can leave the device.

    Raises ValueError if no clip can be used.
    """
    rejected = encode_manifest(plan.manifest, cache, engine, progress, check)
    return cache.clips(replace(plan.manifest, rejected=(*plan.manifest.rejected, *rejected)))


def prepare_run(plan: Plan, clips: CachedClips, base: Base, frozen: Parts, engine: Engine = ONE_DEVICE) -> Run:
    """A run at its beginning, or at its newest state.

    frozen: what acts beside the base; for the motion module stage, a motion module in it is trained further.
    Call it outside of inference mode, best in a thread of its own. Raises ValueError for a state of another run.
    """
    denoiser = _denoiser(plan, base, frozen)
    identity = _identity(plan, clips, base, frozen)
    trainer = Trainer(denoiser, clips, clips.empty_context, plan.settings, engine)
    shown = [clips[index] for index in range(min(plan.validation_clips, len(clips)))] if plan.validate_every else []
    run = Run(trainer, plan.state, identity, plan.save_every, plan.validate_every, shown)
    if run.resume() > plan.settings.steps:
        raise ValueError(
            f"The state in {plan.state} has made {run.trainer.step} steps already, more than {plan.settings.steps}. "
            "For fewer choose another name, and start over."
        )
    if engine.rank == 0:
        plan.manifest.write(plan.state / "clips.jsonl")
    return run


def _denoiser(plan: Plan, base: Base, frozen: Parts) -> Denoiser:
    seed, new_module = plan.settings.seed, (plan.max_frames, plan.mid_block)
    if isinstance(frozen, AnimateParts):
        return fresh_animate_denoiser(plan.stage, base, frozen, seed, *new_module)
    if plan.stage.name == TUNE_A_VIDEO:
        return fresh_tune_denoiser(plan.stage, base, frozen, seed)
    return fresh_denoiser(plan.stage, base, frozen, seed, plan.low_rank, *new_module)


def write_result(
    path: Path, run: Run, plan: Plan, half: bool = False, elsewhere: Mapping[str, Path] | None = None
) -> list[Path]:
    """Write what the run has learnt so far, with how it was made in the header; of several processes the first does.

    elsewhere: see `write_trained`. Returns the files that this process has written.
    """
    if run.trainer.engine.rank != 0:
        return []
    return write_trained(path, run.trainer.denoiser, metadata(run, plan), half, elsewhere)


def metadata(run: Run, plan: Plan) -> dict[str, str]:
    """For the file's header, as safetensors wants it: text by name."""
    first = plan.manifest.clips[0]
    moves = {clip.move for clip in plan.manifest.clips if clip.move != CameraMove()}
    seen = [move.picture_motion() for move in sorted(moves, key=_how_far)]
    facts = {
        "base": run.identity["base"],
        "motion_module": run.identity["motion_module"],
        "dataset": run.identity["data"],
        "num_clips": len(plan.manifest.clips),
        "num_frames": first.num_frames,
        "stride": first.stride,
        "size": f"{first.size[0]}x{first.size[1]}",
        "steps": run.trainer.step,
        "batch_size": plan.settings.batch_size,
        "learning_rate": plan.settings.learning_rate,
        "seed": plan.settings.seed,
    }
    if plan.stage.low_rank:
        facts |= {"rank": plan.low_rank.rank, "alpha": plan.low_rank.rank}  # the file's: the trained alpha is in `up`
    if plan.stage.name == TUNE_A_VIDEO:
        facts["prompt"] = first.source.caption
    if seen:
        facts["motion"] = seen[0] if len(seen) == 1 else f"{seen[0]} to {seen[-1]}"
    return {name: str(value) for name, value in facts.items() if value is not None}


def _how_far(move: CameraMove) -> tuple[float, ...]:
    return abs(math.log(move.zoom)), abs(move.pan), abs(move.tilt), abs(move.roll)


def _identity(plan: Plan, clips: CachedClips, base: Base, frozen: Parts) -> dict[str, object]:
    settings = {name: value for name, value in asdict(plan.settings).items() if name not in FREE_SETTINGS}
    new = plan.stage.name in NEW_MOTION and frozen.motion_module is None
    parts = {}
    if isinstance(frozen, AnimateParts):
        networks = {"reference_unet": frozen.reference_unet, "pose_guider": frozen.pose_guider}
        parts = {name: network and weights_digest(network) for name, network in networks.items()}
        parts["prediction"] = "v" if plan.stage.v_prediction else "noise"
    return {
        "stage": plan.stage.name,
        **parts,
        VAE_AND_CLIP: clips.encoders,
        "base": weights_digest(base.unet),
        "motion_module": frozen.motion_module and weights_digest(frozen.motion_module),
        "domain_adapter": frozen.domain_adapter and weights_digest(frozen.domain_adapter),
        "domain_adapter_scale": frozen.domain_adapter_scale,
        "data": plan.manifest.digest(),
        **({"max_frames": plan.max_frames, "mid_block": plan.mid_block} if new else {}),
        **(asdict(plan.low_rank) if plan.stage.low_rank else {}),
        **settings,
    }
