"""Animate Anyone under training: what its two stages train, see and write, and where their clips come from."""

from dataclasses import replace

from animatic_pack.animate_anyone.pose_guider import layout_of, paper_layout, released_layout
from animatic_pack.training.animate_anyone import (
    AnimateDenoiser,
    AnimateParts,
    fresh_animate_denoiser,
    fresh_pose_guider,
    self_attention_paths,
)
from animatic_pack.training.base import weights_digest
from animatic_pack.training.batches import draw_batch
from animatic_pack.training.engine import ONE_DEVICE
from animatic_pack.training.files import write_trained
from animatic_pack.training.noise import alphas_cumprod, q_sample, velocity
from animatic_pack.training.run import Run
from animatic_pack.training.sampling import sample_clip
from animatic_pack.training.stages import ANIMATE_ANYONE, ANIMATE_ANYONE_MOTION, STAGES
from animatic_pack.training.trainer import Trainer, TrainingSettings
import pytest
from safetensors.torch import load_file
import torch
from training_models import CHANNELS, CONTEXT, one_thread, posed_clip, small_base  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

EMPTY = torch.zeros(1, CONTEXT)
STAGE_NAMES = (ANIMATE_ANYONE, ANIMATE_ANYONE_MOTION)


def acting_guider(layout=None, seed: int = 4):
    guider = fresh_pose_guider(layout or released_layout((4, 8, 8, 8), CHANNELS), seed)
    torch.nn.init.normal_(guider.conv_out.weight, std=0.3, generator=torch.Generator().manual_seed(seed))
    return guider


def denoiser_of(stage: str = ANIMATE_ANYONE, guider=None, base=None, **options) -> AnimateDenoiser:
    base = base or small_base()
    frozen = AnimateParts(pose_guider=guider or acting_guider(), file_names={"out.2.bias": "conv_out.bias"})
    if stage == ANIMATE_ANYONE_MOTION:
        frozen = replace(frozen, reference_unet=small_base(dtype=base.dtype).unet)
    return fresh_animate_denoiser(STAGES[stage], base, frozen, 0, **options)


def trainer_of(stage: str, steps: int = 3, denoiser=None, **options) -> Trainer:
    clips = [posed_clip(seed, pairs=stage == ANIMATE_ANYONE) for seed in range(2)]
    settings = {"steps": steps, "batch_size": 2, "learning_rate": 1e-2, "precision": "fp32", **options}
    return Trainer(denoiser or denoiser_of(stage), clips, EMPTY, TrainingSettings(**settings))


def inputs(clips: int = 2, num_frames: int = 3) -> dict:
    generator = torch.Generator().manual_seed(7)
    return {
        "x": torch.randn(clips, num_frames, 4, 6, 6, generator=generator),
        "t": torch.tensor([40, 300])[:clips],
        "context": torch.randn(clips, 1, CONTEXT, generator=generator),
        "reference": torch.randn(clips, 4, 6, 6, generator=generator),
        "poses": torch.randint(256, (clips, num_frames, 3, 48, 48), dtype=torch.uint8, generator=generator),
    }


def predicted(denoiser: AnimateDenoiser, **given) -> torch.Tensor:
    with torch.no_grad(), denoiser.running(given["x"].shape[1]):
        return denoiser(**given)


def test_the_stages_are_those_that_released_weights_are_sampled_with():
    for name in STAGE_NAMES:
        assert STAGES[name].v_prediction and STAGES[name].zero_snr and STAGES[name].beta_schedule == "sqrt_linear"
        plain = STAGES[name].predicting_noise()
        assert not plain.v_prediction and not plain.zero_snr
    alphas, plain = alphas_cumprod("sqrt_linear", zero_snr=True), alphas_cumprod("sqrt_linear")
    assert alphas[-1] == 0 and alphas[0] == plain[0] and (alphas.diff() < 0).all()


def test_v_and_the_noisy_latents_give_both_back():
    latents, noise, alpha = torch.randn(3, 2, 4, 6, 6), torch.randn(3, 2, 4, 6, 6), torch.tensor([0.0, 0.4, 1.0])
    noisy, v = q_sample(latents, noise, alpha), velocity(latents, noise, alpha)
    root, rest = alpha.sqrt()[:, None, None, None, None], (1 - alpha).sqrt()[:, None, None, None, None]
    assert torch.allclose(root * noisy - rest * v, latents, atol=1e-6)
    assert torch.allclose(root * v + rest * noisy, noise, atol=1e-6)


def test_a_clip_sees_its_own_reference_and_an_unconditional_one_only_itself():
    denoiser, given = denoiser_of(), inputs()
    together = predicted(denoiser, **given)
    alone = [predicted(denoiser, **{name: value[i : i + 1] for name, value in given.items()}) for i in range(2)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    other = predicted(denoiser, **{**given, "reference": given["reference"].flip(0)})
    assert (together - other).abs().amax(dim=(1, 2, 3, 4)).min() > 1e-3
    context = torch.cat((torch.zeros(1, 1, CONTEXT), given["context"][1:]))
    dropped = predicted(denoiser, **{**given, "context": context})
    without = predicted(denoiser, **{**given, "context": context, "reference": None})
    assert torch.allclose(dropped[0], without[0], atol=1e-5), "double keys are single ones"
    assert torch.allclose(dropped[1], together[1], atol=1e-5) and not torch.allclose(dropped, without, atol=1e-3)


@pytest.mark.parametrize("layout", [released_layout((4, 8, 8, 8), CHANNELS), paper_layout((4, 8, 8, 8))])
def test_every_frame_gets_its_own_pose(layout):
    denoiser, given = denoiser_of(guider=acting_guider(layout)), inputs()
    first = predicted(denoiser, **given)
    given["poses"][1, 2] = 255 - given["poses"][1, 2]
    changed = (predicted(denoiser, **given) - first).abs().amax(dim=(2, 3, 4)) > 1e-4
    assert changed.tolist() == [[False] * 3, [False, False, True]]


def test_a_new_pose_guider_adds_nothing_and_is_of_the_released_layout():
    denoiser = fresh_animate_denoiser(STAGES[ANIMATE_ANYONE], small_base(), AnimateParts(), 0)
    given = inputs()
    assert torch.equal(predicted(denoiser, **given), predicted(denoiser, **{**given, "poses": None}))
    assert layout_of(denoiser.networks.pose_guider.state_dict()) == released_layout(out_channels=CHANNELS)
    assert weights_digest(denoiser.networks.reference_unet) == weights_digest(denoiser.base.unet)
    assert denoiser.networks.reference_unet is not denoiser.base.unet


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_gradients_reach_exactly_the_stage(stage):
    trainer = trainer_of(stage)
    denoiser = trainer.denoiser
    frozen = [] if stage == ANIMATE_ANYONE else [denoiser.base.unet, *vars(denoiser.networks).values()]
    frozen = [module for module in frozen if isinstance(module, torch.nn.Module) and module is not denoiser.trained]
    before = [weights_digest(module) for module in frozen]
    for _ in range(3):  # what is behind a zero projection follows it
        trainer.train_step()
    names = {parameter: name for name, parameter in denoiser.named_parameters()}
    learning = {name for parameter, name in names.items() if parameter.requires_grad}
    assert {name for parameter, name in names.items() if parameter.grad is not None} == learning
    # of one token, CLIP Vision's, a cross-attention has nothing to choose
    choosing = ("attn2.to_q.weight", "attn2.to_k.weight", "norm2.weight", "norm2.bias")
    assert all(p.grad.any() for p, name in names.items() if name in learning and not name.endswith(choosing))
    assert [weights_digest(module) for module in frozen] == before
    assert all(parameter.grad is None for module in frozen for parameter in module.parameters())
    if stage == ANIMATE_ANYONE:
        still = {name.removeprefix("trained.reference_unet.") for name in names.values()} - {
            name.removeprefix("trained.reference_unet.") for name in learning
        }
        assert all(name.startswith(("out.", "output_blocks.1.1.transformer_blocks.0.")) for name in still)
        assert "output_blocks.1.1.transformer_blocks.0.norm1.weight" not in still and len(still) == 4 + 12
    assert not any("forward" in module.__dict__ for module in denoiser.base.unet.modules())


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_recomputed_blocks_give_the_same_gradients(stage):
    gradients = []
    for recompute in (False, True):
        trainer = trainer_of(stage, recompute=recompute, text_dropout=0.5)
        for _ in range(2):
            trainer.train_step()
        gradients.append([p.grad.clone() for p in trainer.denoiser.parameters() if p.requires_grad])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.allclose(plain, recomputed, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_ten_and_ten_steps_are_twenty_bit_for_bit(stage, tmp_path):
    clips = [posed_clip(5)]
    whole, first, second = (
        Run(trainer_of(stage, 4), tmp_path / name, {"stage": stage}, validation_clips=clips)
        for name in ("whole", "halves", "halves")
    )
    list(whole.steps())
    for report in first.steps():
        if report.step == 2:
            break
    first.save()
    assert second.resume() == 2
    list(second.steps())
    for key, value in whole.trainer.denoiser.state_dict().items():
        assert torch.equal(value, second.trainer.denoiser.state_dict()[key])
    assert second.validation == whole.validation and len(whole.validation) == 2


def test_a_half_base_trains_motion_in_full():
    denoiser = denoiser_of(ANIMATE_ANYONE_MOTION, base=small_base(dtype=torch.bfloat16), max_frames=40)
    trainer = trainer_of(ANIMATE_ANYONE_MOTION, denoiser=denoiser, precision="bf16")
    trainer.train_step()
    assert denoiser.trained.config.max_frames == 40
    assert {p.dtype for p in denoiser.parameters()} == {torch.float32}
    assert {p.dtype for p in denoiser.networks.reference_unet.parameters()} == {torch.bfloat16}


def test_a_step_draws_a_reference_and_another_frame_with_its_pose():
    clip = posed_clip(1)
    clip = replace(clip, deviation=torch.zeros_like(clip.mean))
    settings = TrainingSettings(batch_size=64, text_dropout=0.25)
    batch = draw_batch([clip], EMPTY, settings, 0, ONE_DEVICE)
    assert batch.latents.shape == (64, 1, 4, 6, 6) and batch.beside["poses"].shape == (64, 1, 3, 48, 48)
    seen = set()
    for number in range(64):
        reference = next(i for i in range(4) if torch.equal(clip.mean[i], batch.beside["reference"][number]))
        target = next(i for i in range(4) if torch.equal(clip.mean[i], batch.latents[number, 0]))
        assert torch.equal(batch.beside["poses"][number], clip.poses.at([target]))
        assert torch.equal(batch.context[number, 0], clip.context[reference]) or not batch.context[number].any()
        seen.add((reference, target))
    assert seen == {(a, b) for a in range(4) for b in range(4) if a != b}
    assert 6 < sum(not context.any() for context in batch.context) < 28
    whole = draw_batch([replace(clip, pairs=False)], EMPTY, settings, 0, ONE_DEVICE)
    assert torch.equal(whole.latents[3, :], clip.mean) and whole.beside["poses"].shape[1] == 4


def test_the_first_stage_writes_three_files_and_the_second_one(tmp_path):
    denoiser = denoiser_of()
    elsewhere = {"denoising_unet": tmp_path / "unets" / "me.safetensors"}
    write_trained(tmp_path / "me.safetensors", denoiser, {}, elsewhere=elsewhere)
    assert load_file(tmp_path / "me_reference_unet.safetensors").keys() == {"conv_out.bias"}
    guider = load_file(tmp_path / "me_pose_guider.safetensors")
    assert all(torch.equal(guider[key], value) for key, value in denoiser.networks.pose_guider.state_dict().items())
    unet = load_file(tmp_path / "unets" / "me.safetensors")
    assert all(torch.equal(unet[key], value) for key, value in denoiser.base.unet.state_dict().items())
    write_trained(tmp_path / "motion.safetensors", denoiser_of(ANIMATE_ANYONE_MOTION), {})
    motion = denoiser_of(ANIMATE_ANYONE_MOTION).trained
    assert load_file(tmp_path / "motion.safetensors").keys() == motion.state_dict().keys()
    with pytest.raises(ValueError, match="choose both"):
        fresh_animate_denoiser(STAGES[ANIMATE_ANYONE_MOTION], small_base(), AnimateParts(), 0)


class Knowing(AnimateDenoiser):
    """Predicts a given clip's v exactly, for the positive cond alone."""

    def forward(self, x, t, context, reference=None, poses=None):
        alpha = alphas_cumprod("sqrt_linear", zero_snr=True)[t][:, None, None, None, None]
        noise = (x - alpha.sqrt() * self.clip) / (1 - alpha).sqrt()
        assert reference.shape == (2, 4, 6, 6) and poses.shape[:2] == (2, 4)
        return velocity(self.clip.expand_as(x), noise, alpha.flatten())


def test_a_preview_of_v_ends_at_the_clip():
    denoiser, clip = denoiser_of(), posed_clip(3)
    denoiser.__class__, denoiser.clip = Knowing, clip.mean
    batch = clip.fixed(torch.randn_like(clip.mean), 0)
    beside = {name: value[0] for name, value in batch.beside.items()}
    sampled = sample_clip(denoiser, batch.noise[0], batch.context[0], EMPTY, steps=25, guidance=3.5, beside=beside)
    assert torch.allclose(sampled, clip.mean, atol=0.15)  # a last bit of noise stays


def test_self_attentions_are_found_in_the_order_of_the_unet():
    blocks = ("input_blocks.1", "middle_block", "output_blocks.0", "output_blocks.1")
    wanted = [f"{block}.1.transformer_blocks.0.attn1" for block in blocks]
    assert self_attention_paths(small_base()) == wanted
