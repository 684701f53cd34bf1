"""What the small world trains, in order, as a table; every row goes on where it stopped and writes a file as it ends.

The paper's stages are its trainer's own (training/); before them stands an image model from nothing, which nobody else
needs to train, and the autoencoder's decoder.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
import json
import logging

import torch

from ...training.atomic import write_file
from ...training.base import Base
from ...training.camera import MOVES, move_between
from ...training.denoiser import Denoiser, LowRankSize, Parts, fresh_denoiser, new_motion_module
from ...training.run import Run
from ...training.stages import (
    ANIMATE_ANYONE,
    ANIMATE_ANYONE_MOTION,
    DOMAIN_ADAPTER,
    MOTION_LORA,
    MOTION_MODULE,
    STAGES,
    Stage,
)
from ...training.trainer import TrainingSettings
from ...training.tune_a_video import fresh_tune_denoiser
from .baselines import TUNED_STAGE, tuned_clips
from .contrastive import learn_clip
from .convolution import convolutional
from .dancing import DancingClips, first_stage, second_stage
from .depth_control import HintedClips, begin_as, controlled
from .learning import NUM_SCENES, Clips, image_denoiser, learn
from .models import SCHEDULE
from .picture_training import dancers, learn_decoder, scenes
from .scenes import DIRECTIONS, STYLES, draw_scene
from .world import ADAPTER_RANK, DANCERS_DECODER, LORA_RANK, World, tuned_name

logger = logging.getLogger(__name__)

SCALED_STAGE = replace(STAGES[MOTION_MODULE], beta_schedule="linear")  # the host's word for scaled-linear betas
ADAPTER_STAGE = replace(STAGES[DOMAIN_ADAPTER], beta_schedule=SCHEDULE)
STILLS = TrainingSettings(steps=10**7, learning_rate=1e-3, precision="fp32")  # runs end by their time
MOTION = replace(STILLS, timestep_power=0.5)  # the paper draws timesteps evenly; motion is in the noisy ones
# which way the camera goes over soft ground is seen where noise is low, so timesteps are drawn evenly, as in the paper
CAMERA = replace(STILLS, learning_rate=7e-3)
DANCE = replace(STILLS, timestep_power=0.5)  # what is worn is decided where noise hides it
BARE = 0.15  # the share of clips over bare ground, where the camera moves
LINE_EVERY = 50  # steps between two lines of the log
RANKS, COUNTS = (2, 8, 32, 128), (5, 50, 500)
MAX_FRAMES = 32  # of motion modules
COMPARED_MOVE = "PanRight"  # the move of all ranks and numbers of clips


@dataclass(frozen=True)
class Row:
    """One training. minutes: of the programme's time, if that is `needed_minutes`; of other budgets in proportion.

    train: does it, for so many seconds in all.
    """

    name: str
    minutes: float
    train: Callable[[World, str, float], None]


def rows() -> list[Row]:
    styles = [Row(style, 10, _style) for style in STYLES[1:]]
    # zooms and rolls go another way at each place, which takes longer to learn
    moves = [Row(move, 3 if move.startswith(("Pan", "Tilt")) else 6, _camera(LORA_RANK, 50)) for move in MOVES]
    ranks = [Row(f"{COMPARED_MOVE}_rank{rank}", 3, _camera(rank, 50)) for rank in RANKS if rank != LORA_RANK]
    counts = [Row(f"{COMPARED_MOVE}_{n}clips", 3, _camera(LORA_RANK, n)) for n in COUNTS if n != 50]
    tuned = [Row(tuned_name(direction), 3, _tuned(direction)) for direction in DIRECTIONS]
    return [
        Row("image_model", 72, _image_model),
        Row("domain_adapter", 10, _adapter),
        Row("motion_module", 205, _motion(with_adapter=True)),
        Row("decoder", 10, _decoder),
        *styles,
        *moves,
        *ranks,
        *counts,
        Row("motion_module_alone", 10, _motion(with_adapter=False)),
        Row("motion_module_convolution", 10, _convolution),
        Row("motion_module_scaled", 10, _motion(with_adapter=False, stage=SCALED_STAGE)),
        Row("depth_control", 12, _depth_control),
        Row("clip", 4, _clip),
        *tuned,
        Row(DANCERS_DECODER, 10, _dancers_decoder),
        Row(ANIMATE_ANYONE, 40, _animate_anyone),
        Row(ANIMATE_ANYONE_MOTION, 10, _animate_anyone_motion),
    ]


def needed_minutes() -> float:
    """What the shipped files took on one core."""
    return sum(row.minutes for row in rows())


def train(world: World) -> None:
    """Every row that has not had its share of the time. Raises ValueError for a folder of another budget."""
    _check_budget(world)
    for row in rows():
        seconds, done = row.minutes / needed_minutes() * world.seconds, world.folder / f"{row.name}.done"
        if not done.exists():
            logger.info("%s: %.1f minutes", row.name, seconds / 60)
            row.train(world, row.name, seconds)
            done.touch()


def _check_budget(world: World) -> None:
    """A longer run would train the image model on, and all that stands on it would have to start over."""
    path = world.folder / "budget.json"
    if not path.is_file():
        write_file(path, lambda part: part.write_text(json.dumps({"seconds": world.seconds}), encoding="utf-8"))
    before = json.loads(path.read_text(encoding="utf-8"))["seconds"]
    if before != world.seconds:
        raise ValueError(
            f"{world.folder} is of a run of {before / 60:g} minutes: go on with that, or start over in "
            "another --folder."
        )


# ------------------------------------------------------------------------------------------------------- the trainings


def _image_model(world: World, name: str, seconds: float) -> None:
    clips = Clips(world.words, seed=1, bare=BARE)
    denoiser = image_denoiser(_on(world.device, world.host.fresh_base(0)))
    _phases(world, name, denoiser, clips, replace(STILLS, batch_size=world.sizes.stills), seconds)


def _style(world: World, name: str, seconds: float) -> None:
    """All of the image model on stills of one style, whose name its captions begin with."""
    clips = Clips(world.words, seed=2, bare=BARE, styles=(name,))
    settings = replace(STILLS, batch_size=world.sizes.stills, learning_rate=5e-4)
    _phases(world, name, image_denoiser(world.image_model()), clips, settings, seconds)


def _decoder(world: World, name: str, seconds: float) -> None:
    learn_decoder(world.folder / f"{name}.safetensors", seconds, scenes)


def _dancers_decoder(world: World, name: str, seconds: float) -> None:
    learn_decoder(world.folder / f"{name}.safetensors", seconds, dancers)


def _adapter(world: World, name: str, seconds: float) -> None:
    clips = Clips(world.words, seed=3, bare=BARE, video=True)
    denoiser = fresh_denoiser(ADAPTER_STAGE, world.image_model(), Parts(), 0, LowRankSize(ADAPTER_RANK))
    _phases(world, name, denoiser, clips, replace(STILLS, batch_size=world.sizes.adapter), seconds)


def _motion(
    with_adapter: bool, stage: Stage = STAGES[MOTION_MODULE]
) -> Callable[[World, str, float], None]:
    def train_motion(world: World, name: str, seconds: float) -> None:
        base = world.image_model()
        frozen = Parts(domain_adapter=world.adapter(base)) if with_adapter else Parts()
        clips = Clips(world.words, seed=4, num_frames=world.sizes.num_frames, bare=BARE, video=True)
        denoiser = fresh_denoiser(stage, base, frozen, 0)
        settings = replace(MOTION, batch_size=world.sizes.clips)
        _phases(world, name, denoiser, clips, settings, seconds, MOTION_PHASES)

    return train_motion


def _convolution(world: World, name: str, seconds: float) -> None:
    """As "motion_module_alone", with convolutions over time."""
    base = world.image_model()
    motion = convolutional(new_motion_module(base, MAX_FRAMES, mid_block=False, seed=0), 0)
    clips = Clips(world.words, seed=4, num_frames=world.sizes.num_frames, bare=BARE, video=True)
    denoiser = fresh_denoiser(STAGES[MOTION_MODULE], base, Parts(motion_module=motion), 0)
    settings = replace(MOTION, batch_size=world.sizes.clips)
    _phases(world, name, denoiser, clips, settings, seconds, MOTION_PHASES)


def _camera(rank: int, num_clips: int) -> Callable[[World, str, float], None]:
    """A MotionLoRA from so many clips of bare ground, in which the camera makes one move."""

    def train_camera(world: World, name: str, seconds: float) -> None:
        base = world.image_model()
        frozen = Parts(domain_adapter=world.adapter(base), motion_module=world.motion_module())
        bare = [draw_scene(6, number, world.sizes.num_frames, bare=1.0) for number in range(num_clips)]
        move = MOVES[name.split("_")[0]]
        moved = [replace(s, move=move_between(*move, n / max(1, num_clips - 1))) for n, s in enumerate(bare)]
        clips = Clips(world.words, num_frames=world.sizes.num_frames, video=True, scenes=tuple(moved))
        denoiser = fresh_denoiser(STAGES[MOTION_LORA], base, frozen, 0, LowRankSize(rank))
        _phases(world, name, denoiser, clips, replace(CAMERA, batch_size=world.sizes.clips), seconds)

    return train_camera


def _depth_control(world: World, name: str, seconds: float) -> None:
    """From stills of the image domain, as people's ControlNets are."""
    base = world.image_model()
    control = begin_as(world.host.fresh_control(0), base.unet)
    clips = HintedClips(world.words, seed=7, bare=BARE)
    settings = replace(STILLS, batch_size=world.sizes.stills, learning_rate=5e-4)
    _phases(world, name, controlled(base, control.to(world.device)), clips, settings, seconds)


def _clip(world: World, name: str, seconds: float) -> None:
    learn_clip(world.folder / f"{name}.safetensors", seconds)


def _tuned(direction: str) -> Callable[[World, str, float], None]:
    """Tune-A-Video on one clip, in which an object goes that way."""

    def tune(world: World, name: str, seconds: float) -> None:
        clips = tuned_clips(world, direction, world.sizes.num_frames)
        denoiser = fresh_tune_denoiser(TUNED_STAGE, world.image_model(), Parts(), 0)
        settings = replace(STILLS, learning_rate=3e-4, text_dropout=0.0)  # without dropout, as the authors tune
        _phases(world, name, denoiser, clips, settings, seconds)

    return tune


def _animate_anyone(world: World, name: str, seconds: float) -> None:
    clips = DancingClips(9, world.sizes.num_frames, pairs=True)
    settings = replace(DANCE, batch_size=world.sizes.pairs, learning_rate=5e-4)
    _phases(world, name, first_stage(world.image_model()), clips, settings, seconds)


def _animate_anyone_motion(world: World, name: str, seconds: float) -> None:
    clips = DancingClips(10, world.sizes.num_frames, pairs=False)
    base = world.host.fresh_base(0)
    denoiser = second_stage(_on(world.device, base), world.animate_networks(base))
    _phases(world, name, denoiser, clips, replace(DANCE, batch_size=world.sizes.clips), seconds)


@dataclass(frozen=True)
class Phase:
    """share: of a row's time. rate: times the learning rate. timestep_power: in place of the row's."""

    share: float
    rate: float
    timestep_power: float | None = None


PHASES = (Phase(0.75, 1.0), Phase(0.25, 0.2))
# where a clip's way is decided its noise hides the object, and the loss says little: so that is learnt by itself
MOTION_PHASES = (
    Phase(0.552, 1.0),
    Phase(0.183, 0.2),
    Phase(0.224, 0.5, timestep_power=0.12),
    Phase(0.041, 0.1, timestep_power=0.3),
)


def _phases(
    world: World,
    name: str,
    denoiser: Denoiser,
    clips: Clips | DancingClips,
    settings: TrainingSettings,
    seconds: float,
    phases: Sequence[Phase] = PHASES,
) -> None:
    shown = _shown(clips, world.sizes.shown)
    note = _logged(name)
    for number, phase in enumerate(phases, 1):
        changed = replace(settings, learning_rate=settings.learning_rate * phase.rate, seed=number)
        if phase.timestep_power is not None:
            changed = replace(changed, timestep_power=phase.timestep_power)
        learn(denoiser, clips, changed, world.folder / f"{name}-{number}", phase.share * seconds, shown, note)


def _shown(clips: Clips | DancingClips, count: int) -> list:
    """Clips for the fixed-noise loss, which are not trained on; of a few clips there are no others."""
    return [clips.unseen(number) for number in range(count)] if len(clips) == NUM_SCENES else []


def _logged(name: str) -> Callable[[Run], None]:
    def note(run: Run) -> None:
        last = run.reports[-1]
        if last.step % LINE_EVERY == 0:
            loss = sum(report.loss for report in run.reports[-LINE_EVERY:]) / LINE_EVERY
            logger.info("%s, step %d: loss %.4f, %.2f s", name, last.step, loss, last.seconds)

    return note


def _on(device: torch.device, base: Base) -> Base:
    base.unet.to(device)
    return base
