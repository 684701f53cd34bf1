"""The paper's Table 1 in the small world: three methods on the same image model, prompts and noise, and stills.

Text2Video-Zero (Khachatryan et al. 2023, arXiv 2303.13439) and Tune-A-Video (Wu et al. 2022, arXiv 2212.11565).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from torch import Tensor

from ...training.base import Base
from ...training.stages import STAGES, TUNE_A_VIDEO
from ...training.tune_a_video import TuneDenoiser, TuneParts
from ..certainty import Estimate, mean
from ..scores import DOMAIN, MOTION, SMOOTH, TEXT, Against, evaluate
from .autoencoder import colours
from .figures import Effort, Figure, object_estimates, unseen_scenes
from .learning import Clips
from .models import SCHEDULE, Animator, Sampling, clip_noise, inverted, sampled
from .scenes import DIRECTIONS, SIZE, SPEED_FRAMES, SPEEDS, Scene, draw_scene
from .world import World

TUNED_STAGE = replace(STAGES[TUNE_A_VIDEO], beta_schedule=SCHEDULE)  # the image model's, as in the paper
FIELD = 512  # pixels, both ways, of the picture that Text2Video-Zero's motion is counted in
NUM_STILLS, OTHER_SEEDS = 4, 1000  # that each clip is held against, and where their seeds begin
Method = Callable[[Scene, int, Sampling], Tensor]


def side_by_side(world: World, effort: Effort) -> Iterator[Figure]:
    base, scenes = world.image_model(), unseen_scenes(effort.seeds)
    plain = Animator(base, world.words)
    few = replace(effort.sampling, num_frames=NUM_STILLS)  # without motion frames have nothing to do with each other
    stills = [world.pictures(plain.colours(scene, OTHER_SEEDS + n, few)) for n, scene in enumerate(scenes)]
    methods: dict[str, Method] = {
        "a still for each frame": plain.colours,
        "Text2Video-Zero": Zero(world, base).colours,
        "Tune-A-Video": tuned(world, base, effort.sampling).colours,
        "AnimateDiff": Animator(base, world.words, world.motion_module()).colours,
    }
    for title, method in methods.items():
        clips = [method(scene, seed, effort.sampling) for seed, scene in enumerate(scenes)]
        estimates = object_estimates(scenes, clips) | table_estimates(world, scenes, clips, stills)
        yield Figure(title, estimates, clips[0])


def table_estimates(
    world: World, scenes: Sequence[Scene], clips: Sequence[Tensor], stills: Sequence[Tensor]
) -> dict[str, Estimate]:
    """Table 1's columns, and the motion that they are read beside. stills: of each scene's words."""
    found = [
        evaluate(world.pictures(one), Against(scene.caption, (still,), clip=world.clip)).values
        for scene, one, still in zip(scenes, clips, stills, strict=True)
    ]
    return {name: mean([values[name] for values in found]) for name in (TEXT, DOMAIN, SMOOTH, MOTION)}


@dataclass(frozen=True)
class Zero:
    """Text2Video-Zero as the pack's node has it. Its motion goes the scene's way, at a middling pace."""

    world: World
    base: Base

    def colours(self, scene: Scene, seed: int, sampling: Sampling) -> Tensor:
        pace = sum(SPEEDS) / 2 * SPEED_FRAMES / max(SPEED_FRAMES, sampling.num_frames) * FIELD / SIZE
        motion = tuple(-pace * step for step in scene.heading)  # the node's numbers are the picture's way back
        contexts = self.world.words(scene.caption), self.world.words("")
        clip = self.world.host.text2video_zero(
            self.base, SCHEDULE, contexts, clip_noise(seed, sampling), sampling.steps, sampling.guidance, motion
        )
        return colours(clip)


@dataclass(frozen=True)
class Tuned:
    """Tune-A-Video, tuned on one clip for each direction.

    As the authors do it, its clips begin with the noise that the tuned clip comes back from (their section 4.1).
    """

    world: World
    begun: Mapping[str, tuple[TuneDenoiser, Tensor]]

    def colours(self, scene: Scene, seed: int, sampling: Sampling) -> Tensor:
        denoiser, noise = self.begun[scene.direction]
        return colours(sampled(denoiser, self.world.words, scene.caption, noise, sampling))


def tuned(world: World, base: Base, sampling: Sampling) -> Tuned:
    begun = {}
    for direction in DIRECTIONS:
        parts = TuneParts(tune_a_video=world.tuned_video(direction, base))
        denoiser, clip = TuneDenoiser(TUNED_STAGE, base, parts), tuned_clips(world, direction, sampling.num_frames)[0]
        begun[direction] = denoiser, inverted(denoiser, clip.mean, clip.context, sampling.steps)
    return Tuned(world, begun)


def tuned_clips(world: World, direction: str, num_frames: int) -> Clips:
    """The one clip, of the video domain, that Tune-A-Video is tuned on."""
    drawn = (draw_scene(8, number, num_frames) for number in count())
    scene = next(scene for scene in drawn if scene.direction == direction)
    return Clips(world.words, num_frames=num_frames, video=True, scenes=(scene,))
