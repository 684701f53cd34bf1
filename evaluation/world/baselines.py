"""The paper's Table 1 in the small world: three methods on the same image model, prompts and noise, and stills.

Text2Video-Zero (Khachatryan et al. 2023, arXiv 2303.13439) and Tune-A-Video (Wu et al. 2022, arXiv 2212.11565).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ...training.base import Base
from ...training.stages import STAGES, TUNE_A_VIDEO
from ...training.tune_a_video import TuneDenoiser, TuneParts
from ..certainty import Estimate, mean
from ..scores import DOMAIN, MOTION, SMOOTH, TEXT, Against, evaluate
from .autoencoder import colours
from .figures import Effort, Figure, object_estimates, unseen_scenes
from .models import SCHEDULE, Animator, Sampling, clip_noise, sampled
from .scenes import SIZE, SPEED_FRAMES, SPEEDS, Scene
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
        "Tune-A-Video": Tuned(world, base).colours,
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
    clip = world.clip()
    found = [
        evaluate(world.pictures(one), Against(scene.caption, (still,), clip=clip)).values
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
    """Tune-A-Video, tuned on one clip for each direction."""

    world: World
    base: Base

    def colours(self, scene: Scene, seed: int, sampling: Sampling) -> Tensor:
        parts = TuneParts(tune_a_video=self.world.tuned_video(scene.direction, self.base))
        denoiser = TuneDenoiser(TUNED_STAGE, self.base, parts)
        return colours(sampled(denoiser, self.world.words, scene.caption, seed, sampling))
