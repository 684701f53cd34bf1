"""What a step of training costs: its time and peak memory, for each stage, with and without recomputation.

Random weights at the full size of SD1.5 and AnimateDiff v3. On a graphics card one clip of 16 frames of 256 x 256 in
bf16; on a processor 4 frames of 64 x 64 in fp32, which takes seconds.
"""

from functools import partial
import gc
from itertools import pairwise
import statistics

from animatic_pack.motion_modules.checkpoint import read_motion_module
from animatic_pack.nodes.host.motion.module import LoadedMotionModule, motion_module_from
from animatic_pack.nodes.host.training.models import OpenedModels
from animatic_pack.training.batches import EncodedClip
from animatic_pack.training.denoiser import LowRankSize, fresh_denoiser
from animatic_pack.training.stages import DOMAIN_ADAPTER, MOTION_LORA, MOTION_MODULE, STAGES
from animatic_pack.training.trainer import PRECISIONS, Trainer, TrainingSettings
import comfy.model_management
import host_models
from measuring import HAS_GPU, now, peak_memory
from small_models import motion_state_dict
import torch

CHANNELS = (320, 640, 1280, 1280)
PRECISION, NUM_FRAMES, SIZE = ("bf16", 16, 256) if HAS_GPU else ("fp32", 4, 64)
RANKS = {DOMAIN_ADAPTER: 128, MOTION_LORA: 64}  # of the released files
STEPS = 5  # of which the first warms up


def training() -> None:
    print(f"Training, one clip of {NUM_FRAMES} frames of {SIZE} x {SIZE}, {PRECISION}\n")
    print("| stage | recompute | step | peak memory |\n|---|---|---|---|")
    for stage in (MOTION_LORA, MOTION_MODULE, DOMAIN_ADAPTER):
        for recompute in (True, False):
            with peak_memory() as peak:
                seconds = step_seconds(stage, recompute)
            gc.collect()
            comfy.model_management.soft_empty_cache()
            row = STAGES[stage].title, "on" if recompute else "off", f"{seconds:.2f} s", f"{peak['gigabytes']:.2f} GB"
            print("| " + " | ".join(row) + " |", flush=True)
    print()


def step_seconds(stage: str, recompute: bool) -> float:
    """The median step of a training of its own."""
    trainer = trainer_of(stage, recompute)
    times = [now()]
    for _ in range(STEPS):
        trainer.train_step()
        times.append(now())
    return statistics.median(end - start for start, end in pairwise(times[1:]))


def trainer_of(stage: str, recompute: bool, precision: str = PRECISION) -> Trainer:
    """On one clip of random latents, or for an adapter on as many stills; the same ones each time."""
    device = comfy.model_management.get_torch_device()
    model = host_models.image_model("SD1.5", PRECISIONS[precision], width=320)
    motion = random_motion_module() if stage == MOTION_LORA else None
    base, parts = OpenedModels(model, None, motion, PRECISIONS[precision], device).training_parts()
    denoiser = fresh_denoiser(STAGES[stage], base, parts, seed=0, low_rank=LowRankSize(RANKS.get(stage, 1)))
    frames = 1 if stage == DOMAIN_ADAPTER else NUM_FRAMES
    random = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    clip = EncodedClip(*random(2, frames, 4, SIZE // 8, SIZE // 8), random(77, 768))
    settings = TrainingSettings(steps=STEPS, batch_size=NUM_FRAMES // frames, precision=precision, recompute=recompute)
    return Trainer(denoiser, [clip], torch.zeros(77, 768), settings)


def random_motion_module() -> LoadedMotionModule:
    return motion_module_from("random", partial(read_motion_module, motion_state_dict(CHANNELS, modules=2)), ())
