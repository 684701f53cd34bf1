"""The paper's claims (Guo et al. 2023, arXiv 2307.04725) as figures of the small world; one function for each.

And the one of Animate Anyone (Hu et al. 2023, arXiv 2311.17117) that all its others stand on.

Every figure is over seeds that no training saw, with its negative controls beside it. A claim that does not come out
stands in the table as it came out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...motion_modules.motion_module import MotionModule
from ...training.camera import MOVES
from ...training.denoiser import Parts, fresh_denoiser
from ...training.stages import MOTION_MODULE, STAGES
from ..camera import likeness, nearest_move
from ..certainty import mean, share
from .baselines import side_by_side
from .copying import copying
from .depth_control import hint_of
from .drawing import draw
from .figures import Effort, Figure, camera_figure, camera_moves, mark_figure, object_figure
from .learning import NUM_SCENES
from .measures import object_places
from .models import Animator
from .programme import COMPARED_MOVE, COUNTS, RANKS, SCALED_STAGE
from .scenes import PLAIN, STYLES, draw_arc
from .world import LORA_RANK, World

SCALES = (1.0, 0.75, 0.5, 0.25, 0.0)
NEAR = 2.0  # latent pixels
TWO_MOVES, TWO_STRENGTH = ("PanRight", "TiltDown"), 0.7


@dataclass(frozen=True)
class Claim:
    """name: such as "T1". says: the paper. measured: how. figures: with the world and the effort."""

    name: str
    title: str
    says: str
    measured: str
    figures: Callable[[World, Effort], Iterator[Figure]]


# ---------------------------------------------------------------------------------------------------------- the claims


def _identity(world: World, effort: Effort) -> Iterator[Figure]:
    base = world.image_model()
    with torch.no_grad():
        denoiser = fresh_denoiser(STAGES[MOTION_MODULE], base, Parts(), 0)
        generator = torch.Generator().manual_seed(0)
        same = []
        for _ in range(effort.seeds):
            x = torch.randn(1, effort.sampling.num_frames, 4, 16, 16, generator=generator).to(base.device)
            t = torch.randint(1000, (1,), generator=generator).to(base.device)
            context = world.words("")[None].to(base.device)
            plain = base.unet(x[0], t.expand(x.shape[1]), context.expand(x.shape[1], -1, -1))
            with denoiser.running(x.shape[1]):
                same.append(torch.equal(denoiser(x, t, context)[0], plain))
    yield Figure("fresh motion module", {"equal bit for bit": share(same)})


def _transfer(world: World, effort: Effort) -> Iterator[Figure]:
    motion = world.motion_module()
    for style in STYLES:
        base = world.image_model("image_model" if style == PLAIN else style)
        if style == PLAIN:
            yield object_figure("no motion module", Animator(base, world.words), effort)
        yield object_figure(f"{style}, motion module", Animator(base, world.words, motion), effort, style)


def _adapter(world: World, effort: Effort) -> Iterator[Figure]:
    base = world.image_model()
    adapter = world.adapter(base)
    stills = replace(effort, sampling=replace(effort.sampling, num_frames=1))
    for scale in SCALES:
        animator = Animator(base, world.words, adapter=adapter, adapter_scale=scale)
        yield mark_figure(f"stills, adapter at {scale:g}", animator, stills)
    motion = world.motion_module()
    for scale in (1.0, 0.0):
        animator = Animator(base, world.words, motion, adapter, scale)
        yield mark_figure(f"clips, adapter at {scale:g}", animator, effort)
    alone = Animator(base, world.words, world.motion_module("motion_module_alone"))
    yield mark_figure("clips, motion module trained without adapter", alone, effort)


def _camera(world: World, effort: Effort) -> Iterator[Figure]:
    base, motion = world.image_model(), world.motion_module()
    without, clip = camera_moves(Animator(base, world.words, motion), effort)
    yield Figure("no MotionLoRA", {}, clip)
    for name in MOVES:
        layers = world.motion_lora(name, motion)
        for strength in (0.5, 1.0):
            found, clip = camera_moves(Animator(base, world.words, motion, loras=((layers, strength),)), effort)
            estimates = {
                "named": share([nearest_move(move) == name for move in found]),
                "named without": share([nearest_move(move) == name for move in without]),
                "of the move": mean([likeness(move, name) for move in found]),
                "without": mean([likeness(move, name) for move in without]),
            }
            yield Figure(f"{name} at {strength:g}", estimates, clip)


def _two_moves(world: World, effort: Effort) -> Iterator[Figure]:
    base, motion = world.image_model(), world.motion_module()
    loras = [(world.motion_lora(move, motion), TWO_STRENGTH) for move in TWO_MOVES]
    for title, used in (("the first", loras[:1]), ("the second", loras[1:]), ("both", loras)):
        animator = Animator(base, world.words, motion, loras=tuple(used))
        yield camera_figure(f"{title} at {TWO_STRENGTH:g}", animator, effort, TWO_MOVES)


def _convolution(world: World, effort: Effort) -> Iterator[Figure]:
    base, attention = world.image_model(), world.motion_module("motion_module_alone")
    for title, motion in (("attention", attention), ("convolution", world.convolution())):
        yield object_figure(title, Animator(base, world.words, motion), effort)


def _betas(world: World, effort: Effort) -> Iterator[Figure]:
    base = world.image_model()
    for title, name, stage in (
        ("linear, as the image model", "motion_module_alone", STAGES[MOTION_MODULE]),
        ("scaled linear", "motion_module_scaled", SCALED_STAGE),
    ):
        yield object_figure(title, Animator(base, world.words, world.motion_module(name), stage=stage), effort)


def _ranks(world: World, effort: Effort) -> Iterator[Figure]:
    base, motion = world.image_model(), world.motion_module()
    trained = [(COMPARED_MOVE if rank == LORA_RANK else f"{COMPARED_MOVE}_rank{rank}", rank, 50) for rank in RANKS]
    trained += [(f"{COMPARED_MOVE}_{count}clips", LORA_RANK, count) for count in COUNTS if count != 50]
    for name, rank, count in trained:
        animator = Animator(base, world.words, motion, loras=((world.motion_lora(name, motion, rank), 1.0),))
        yield camera_figure(f"rank {rank}, {count} clips", animator, effort, (COMPARED_MOVE,))


def _depth(world: World, effort: Effort) -> Iterator[Figure]:
    """Beside its own depth's way each clip is held against the next one's."""
    base, motion, control = world.image_model(), world.motion_module(), world.depth_control()
    num_frames = effort.sampling.num_frames
    scenes = [draw_arc(0, 2 * NUM_SCENES + number, num_frames) for number in range(effort.camera_seeds)]
    drawn = [draw(scene, num_frames) for scene in scenes]
    ways = [object_places(one.pictures) for one in drawn]
    for title, network in (("no ControlNet", None), ("ControlNet", control)):
        animator = Animator(base, world.words, motion, depth_control=network)
        hints = [hint_of(one) if network else None for one in drawn]
        clips = [
            animator.colours(scene, seed, effort.sampling, hint)
            for seed, (scene, hint) in enumerate(zip(scenes, hints, strict=True))
        ]
        places = [object_places(clip) for clip in clips]
        own = list(zip(ways, places, strict=True))
        others = list(zip([*ways[1:], ways[0]], places, strict=True))
        estimates = {
            "on the way": share([seen_on(way, seen) for way, seen in own]),
            "on another's": share([seen_on(way, seen) for way, seen in others]),
        }
        yield Figure(title, estimates, clips[0])


def seen_on(way: np.ndarray, places: np.ndarray) -> bool:
    """The object of both (F, 2) is in every frame, and on average within two latent pixels of its way."""
    return bool(np.linalg.norm(way - places, axis=1).mean() < NEAR)


def _positions_off(world: World, effort: Effort) -> Iterator[Figure]:
    base = world.image_model()
    for title, motion in (("positions", world.motion_module()), ("no positions", _without_positions(world))):
        yield object_figure(title, Animator(base, world.words, motion), effort)


def _without_positions(world: World) -> MotionModule:
    motion = world.motion_module()
    for name, table in motion.named_buffers():
        if name.endswith("pos_encoder.pe"):
            table.zero_()
    return motion


OBJECTS = "direction and colour of the object in the prompt, found by its colour; direction by chance is 0.25"
CAMERA = (
    "how much of a move's strongest form is in the camera's way over bare ground; named: the clips whose way is most "
    "like the move's, by chance 0.12"
)

CLAIMS = (
    Claim("T0", "A new motion module changes nothing", "output layers start at zero", "equal outputs", _identity),
    Claim(
        "T1",
        "One motion module moves any style",
        "it fits personalised models as it is",
        f"{OBJECTS}. Aimed at: direction 0.8, in a style that the motion module never saw 0.6; colour 0.9; jitter 0.5",
        _transfer,
    ),
    Claim(
        "T2",
        "The domain adapter takes the videos' mark along",
        "the mark fades with the adapter's scale, and the motion module has not learnt it",
        "correlation of the corner with the mark",
        _adapter,
    ),
    Claim("T3", "A MotionLoRA is a camera move", "eight moves from some 50 clips each", CAMERA, _camera),
    Claim("T4", "MotionLoRAs add up", "several at once make both moves", CAMERA, _two_moves),
    Claim(
        "T5",
        "Attention over time, not convolution",
        "1D convolution makes all frames alike, and nothing moves",
        f"{OBJECTS}; both motion modules have equally many weights and were trained equally long, without an adapter",
        _convolution,
    ),
    Claim("T6", "Small ranks and few clips are enough", "rank 2 is like 128, 50 clips are like 1000", CAMERA, _ranks),
    Claim(
        "T7",
        "A ControlNet of pictures steers the clip",
        "depth sequences from videos lead the motion, with no training",
        "half circles, which no training showed: clips whose object is within two latent pixels of its depth's way on "
        "average, or of another clip's",
        _depth,
    ),
    Claim("T8", "Positions are needed", "sinusoids tell the frames' order", OBJECTS, _positions_off),
    Claim(
        "T9",
        "Other betas than the image model's",
        "motion trained under linear betas on images trained under scaled-linear ones looks better than under the same",
        f"{OBJECTS}. Turned around: here the image model is trained under linear betas, and a motion module under each",
        _betas,
    ),
    Claim(
        "T10",
        "Beside Text2Video-Zero and Tune-A-Video",
        "by CLIP the clips of AnimateDiff keep the checkpoint's domain best and are the smoothest, those of "
        "Tune-A-Video follow the text best (Table 1)",
        f"{OBJECTS}; text, domain and smooth in 100 times a cosine, by a small CLIP that was trained on this world, "
        "beside the motion, which a still picture has none of. Domain: against four stills of the same words. "
        "Text2Video-Zero is told the way by its settings; Tune-A-Video was tuned on one clip of another object for "
        "each way, and begins with that clip's noise",
        side_by_side,
    ),
    Claim(
        "A1",
        "Animate Anyone: the reference's character, in the skeletons' poses",
        "a ReferenceNet keeps what the character looks like, a Pose Guider leads it, temporal layers smooth it",
        "correlation of the colours of hair, skin and clothes with those that the reference shows, and overlap of the "
        "figure with the one that the poses say (intersection over union); characters and dances are of no training, "
        "and each clip is held against the next one's too. Beside the clips: the reference and its poses",
        copying,
    ),
)
