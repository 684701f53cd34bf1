"""Animate Anyone trained on the card: what it learns from 200 figures, and that 16 bits learn as 32 do."""

from animatic_pack.training.trainer import Trainer, TrainingSettings
import pytest
from textured_figures import figure_clip, figure_denoiser, joint_error, likeness, sampled, texture
import torch
from training_models import CONTEXT

SIZE, FRAMES, FIGURES, UNSEEN = 8, 8, 200, range(1000, 1008)


def learnt(shown: bool, steps: int, precision: str = "fp32") -> Trainer:
    """200 figures, each with a texture and a motion of its own."""
    clips = [figure_clip(SIZE, FRAMES, texture(n), motion=n, shown=shown) for n in range(FIGURES)]
    settings = {"learning_rate": 2e-3, "timestep_power": 0.5, "precision": precision, "recompute": precision != "fp32"}
    denoiser = figure_denoiser(SIZE, torch.accelerator.current_accelerator())
    trainer = Trainer(
        denoiser, clips, torch.zeros(1, CONTEXT), TrainingSettings(steps=steps, batch_size=64, **settings)
    )
    for _ in range(steps):
        trainer.train_step()
    return trainer


def measured(trainer: Trainer, shown: bool) -> tuple[float, float]:
    """Mean likeness to the reference's texture, and mean error of the joints, for figures that were never seen."""
    clips = [figure_clip(SIZE, FRAMES, texture(n), motion=n, shown=shown) for n in UNSEEN]
    found = [sampled(trainer.denoiser, clip) for clip in clips]
    alike = [likeness(x, c.places, texture(n)) for x, c, n in zip(found, clips, UNSEEN, strict=True)]
    errors = [joint_error(x, c.places) for x, c in zip(found, clips, strict=True)]
    return sum(alike) / len(alike), sum(errors) / len(errors)


def test_unseen_textures_are_copied_in_unseen_motion_and_by_clip_vision_alone_they_are_not():
    alike, error = measured(learnt(shown=True, steps=3000), shown=True)
    alone, _ = measured(learnt(shown=False, steps=3000), shown=False)
    assert alike >= 0.8 and error <= 0.05
    assert alone < alike - 0.3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_learn_as_32_do(precision):
    exact, rounded = (learnt(shown=True, steps=100, precision=kind) for kind in ("fp32", precision))
    clips = [figure_clip(SIZE, FRAMES, texture(n), motion=n) for n in range(4)]
    assert rounded.validation_loss(clips) == pytest.approx(exact.validation_loss(clips), rel=0.2)
    assert all(parameter.dtype == torch.float32 for parameter in rounded.denoiser.parameters())
