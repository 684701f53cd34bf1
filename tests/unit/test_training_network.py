"""What is trained, and what must not change: parts, gradients, files."""

from animatic_pack.lora.files import read_motion_lora
from animatic_pack.lora.layers import LowRankUse
from animatic_pack.motion_modules.changed_forward import changed_forwards
from animatic_pack.motion_modules.checkpoint import read_motion_module
from animatic_pack.training.base import motion_changes, weights_digest
from animatic_pack.training.denoiser import LowRankSize, Parts, fresh_denoiser
from animatic_pack.training.files import write_trained
from animatic_pack.training.low_rank import low_rank_layers
from animatic_pack.training.motion import fresh_motion_module, motion_module_from
from animatic_pack.training.sampling import sample_clip
from animatic_pack.training.stages import DOMAIN_ADAPTER, MOTION_LORA, MOTION_MODULE, STAGES
from animatic_pack.training.trainer import Trainer, TrainingSettings
import pytest
from reference import relative_error
import torch
from training_models import ANIMATEDIFF_STAGES, CHANNELS, CONTEXT, one_thread, small_base, zoom_clip  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

EMPTY = torch.zeros(7, CONTEXT)
SETTINGS = TrainingSettings(steps=4, batch_size=2, learning_rate=1e-2, precision="fp32")


def inputs(num_frames: int = 4, clips: int = 2) -> tuple:
    x = torch.randn(clips, num_frames, 4, 6, 6)
    return x, torch.tensor([40, 900])[:clips], torch.randn(clips, 7, CONTEXT)


def moving_module(base, seed: int = 3):
    """A motion module whose output is not zero."""
    motion = fresh_motion_module(base.site_channels, 32, seed)
    for transformer in motion.sites.values():
        torch.nn.init.normal_(transformer.proj_out.weight, std=0.3)
    return motion


def denoiser_of(stage: str, base=None, **options):
    base = base or small_base()
    frozen = Parts(motion_module=moving_module(base)) if stage == MOTION_LORA else Parts()
    return fresh_denoiser(STAGES[stage], base, frozen, seed=0, **options)


@pytest.mark.parametrize("stage", ANIMATEDIFF_STAGES)
def test_a_fresh_part_changes_nothing_bit_for_bit(stage):
    base = small_base()
    denoiser = denoiser_of(stage, base)
    x, t, context = inputs()
    rows = x.flatten(0, 1), t.repeat_interleave(4), context.repeat_interleave(4, 0)
    if stage == MOTION_LORA:
        with changed_forwards(motion_changes(base, denoiser.parts.motion_module, 4, recompute=False)):
            expected = base.unet(*rows)
        assert not torch.equal(expected, base.unet(*rows))
    else:
        expected = base.unet(*rows)
    with denoiser.running(4):
        assert torch.equal(denoiser(x, t, context), expected.unflatten(0, (2, 4)))


def test_a_fresh_motion_module_is_of_the_layout_asked_for():
    base = small_base()
    v2 = fresh_denoiser(STAGES[MOTION_MODULE], base, Parts(), seed=0, mid_block=True).trained
    v3 = fresh_denoiser(STAGES[MOTION_MODULE], base, Parts(), seed=0, max_frames=40).trained
    assert v2.config.has_mid_block and v2.config.max_frames == 32
    assert not v3.config.has_mid_block and v3.config.max_frames == 40


@pytest.mark.parametrize("stage", ANIMATEDIFF_STAGES)
def test_gradients_reach_exactly_the_stage(stage):
    base = small_base()
    denoiser = denoiser_of(stage, base)
    num_frames = 1 if stage == DOMAIN_ADAPTER else 4
    before = weights_digest(base.unet)
    clips = [zoom_clip(seed, num_frames=2) for seed in range(2)] if num_frames == 1 else [zoom_clip(0, num_frames=4)]
    trainer = Trainer(denoiser, clips, EMPTY, SETTINGS)
    start = {key: value.clone() for key, value in denoiser.state_dict().items() if not key.endswith(".pe")}
    for _ in range(3):  # the second half of a low-rank change, and all behind a zero projection, follow the first
        trainer.train_step()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in denoiser.parameters())
    assert all(not torch.equal(denoiser.state_dict()[key], value) for key, value in start.items())
    frozen = [base.unet] + ([denoiser.parts.motion_module] if stage == MOTION_LORA else [])
    assert all(parameter.grad is None for module in frozen for parameter in module.parameters())
    assert weights_digest(base.unet) == before
    assert not any("forward" in module.__dict__ for module in base.unet.modules())


def test_the_adapter_is_on_both_attentions_of_every_site():
    paths = small_base().attention_layers()
    assert len(paths) == 4 * 8
    assert paths["input_blocks.1.1.transformer_blocks.0.attn1.to_q"] == (
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    )
    assert paths["middle_block.1.transformer_blocks.0.attn2.to_out.0"] == (
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0"
    )


@pytest.mark.parametrize("stage", ANIMATEDIFF_STAGES)
def test_recomputed_blocks_give_the_same_gradients(stage):
    gradients = []
    for recompute in (False, True):
        denoiser = denoiser_of(stage)
        settings = TrainingSettings(steps=2, batch_size=2, learning_rate=1e-2, precision="fp32", recompute=recompute)
        trainer = Trainer(denoiser, [zoom_clip(0, num_frames=4)], EMPTY, settings)
        for _ in range(2):
            trainer.train_step()
        gradients.append([parameter.grad.clone() for parameter in denoiser.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.allclose(plain, recomputed, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_a_half_base_trains_float32_parts(dtype):
    base = small_base(dtype=dtype)
    denoiser = denoiser_of(MOTION_LORA, base)
    settings = TrainingSettings(steps=1, batch_size=1, precision="bf16" if dtype == torch.bfloat16 else "fp16")
    report = Trainer(denoiser, [zoom_clip(0, num_frames=4)], EMPTY, settings).train_step()
    assert report.loss < 10
    exact = denoiser_of(MOTION_LORA)
    exact.load_state_dict(denoiser.state_dict())
    clip = torch.randn(4, 4, 6, 6), torch.randn(7, CONTEXT), EMPTY
    rounded, expected = (sample_clip(network, *clip, steps=2, guidance=1.0) for network in (denoiser, exact))
    assert relative_error(rounded, expected) < (0.1 if dtype == torch.bfloat16 else 0.02)
    with pytest.raises(ValueError, match="precision fp32 needs a base in float32"):
        Trainer(denoiser, [zoom_clip(0)], EMPTY, SETTINGS)
    assert {parameter.dtype for parameter in denoiser.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in denoiser.parts.motion_module.parameters()} == {dtype}
    tables = [b for name, b in denoiser.parts.motion_module.named_buffers() if name.endswith(".pe")]
    assert {table.dtype for table in tables} == {torch.float32}


def test_norms_over_frames_run_where_the_base_has_them():
    base = small_base(frame_norms=True)
    denoiser = denoiser_of(MOTION_MODULE, base)
    x, t, context = inputs()
    plain = base.unet(x.flatten(0, 1), t.repeat_interleave(4), context.repeat_interleave(4, 0))
    with denoiser.running(4):
        together = denoiser(x, t, context).flatten(0, 1)
        assert not torch.allclose(together, plain, atol=1e-3)
        assert torch.allclose(denoiser(x[:1], t[:1], context[:1]).flatten(0, 1), together[:4], atol=1e-5)


def test_a_motion_module_file_is_read_back_as_it_was(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file

    denoiser = denoiser_of(MOTION_MODULE)
    Trainer(denoiser, [zoom_clip(0, num_frames=4)], EMPTY, SETTINGS).train_step()
    write_trained(tmp_path / "mm.safetensors", denoiser, {"steps": "1"})
    config, weights = read_motion_module(load_file(tmp_path / "mm.safetensors"))
    assert config == denoiser.trained.config
    assert all(torch.equal(value, denoiser.trained.state_dict()[key]) for key, value in weights.items())
    assert any(key.endswith("attention_blocks.1.pos_encoder.pe") for key in load_file(tmp_path / "mm.safetensors"))
    with safe_open(tmp_path / "mm.safetensors", "pt") as file:
        assert file.metadata() == {"stage": MOTION_MODULE, "beta_schedule": "sqrt_linear", "steps": "1"}
    assert list(tmp_path.iterdir()) == [tmp_path / "mm.safetensors"]


def test_a_motion_lora_file_does_what_was_trained(tmp_path):
    base = small_base()
    denoiser = denoiser_of(MOTION_LORA, base, low_rank=LowRankSize(rank=4, alpha=8))
    Trainer(denoiser, [zoom_clip(0, num_frames=4)], EMPTY, SETTINGS).train_step()
    weights = denoiser.file_weights()
    assert len(weights) == 2 * 8 * 4
    key = "up_blocks.0.motion_modules.1.temporal_transformer.transformer_blocks.0.attention_blocks.1.processor."
    assert weights[f"{key}to_out_lora.down.weight"].shape == (4, CHANNELS)
    lora = read_motion_lora(weights)
    assert {change.alpha for change in lora.values()} == {None}
    layers = low_rank_layers({target.removesuffix(".weight"): change for target, change in lora.items()})
    motion = denoiser.parts.motion_module
    x, t, context = inputs()
    with denoiser.running(4):
        trained = denoiser(x, t, context).flatten(0, 1)
    changes = (*LowRankUse(motion, layers, 1.0).changes(), *motion_changes(base, motion, 4, recompute=False))
    with changed_forwards(changes):
        read_back = base.unet(x.flatten(0, 1), t.repeat_interleave(4), context.repeat_interleave(4, 0))
    assert torch.allclose(read_back, trained, atol=1e-5)


def test_an_adapter_file_has_diffusers_keys():
    base = small_base()
    denoiser = denoiser_of(DOMAIN_ADAPTER, base, low_rank=LowRankSize(rank=4, alpha=2))
    Trainer(denoiser, [zoom_clip(0, num_frames=1)], EMPTY, SETTINGS).train_step()
    weights = denoiser.file_weights()
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora"
    assert weights[f"{name}.down.weight"].shape == (4, CONTEXT)
    own = denoiser.parts.domain_adapter
    place = own.targets.index("middle_block.1.transformer_blocks.0.attn2.to_k.weight")
    assert torch.equal(weights[f"{name}.down.weight"], own.down[place].weight)
    assert torch.equal(weights[f"{name}.up.weight"], own.up[place].weight * 0.5), "no reader knows an alpha"
    assert len(weights) == 2 * len(own.targets)


def test_a_frozen_adapter_acts_while_a_motion_module_learns():
    base = small_base()
    adapter = denoiser_of(DOMAIN_ADAPTER, base).trained
    for up in adapter.up:
        torch.nn.init.normal_(up.weight, std=0.2)
    frozen = Parts(domain_adapter=adapter)
    denoiser = fresh_denoiser(STAGES[MOTION_MODULE], base, frozen, seed=0)
    x, t, context = inputs()
    rows = x.flatten(0, 1), t.repeat_interleave(4), context.repeat_interleave(4, 0)
    plain = base.unet(*rows)
    with changed_forwards(LowRankUse(base.unet, adapter, 1.0).changes()):
        adapted = base.unet(*rows)
    assert not torch.allclose(plain, adapted, atol=1e-3)
    with denoiser.running(4):
        assert torch.equal(denoiser(x, t, context).flatten(0, 1), adapted)
    before = weights_digest(adapter)
    Trainer(denoiser, [zoom_clip(0, num_frames=4)], EMPTY, SETTINGS).train_step()
    assert weights_digest(adapter) == before


def test_a_motion_module_of_a_file_is_trained_further():
    base = small_base()
    weights = moving_module(base).state_dict()
    denoiser = fresh_denoiser(STAGES[MOTION_MODULE], base, Parts(motion_module=motion_module_from(weights)), seed=0)
    assert all(torch.equal(value, weights[key]) for key, value in denoiser.trained.state_dict().items())


def test_mistakes_have_their_own_words():
    base = small_base()
    with pytest.raises(ValueError, match="choose the one that it shall be for"):
        fresh_denoiser(STAGES[MOTION_LORA], base, Parts(), seed=0)
    with pytest.raises(ValueError, match="rank 0 holds nothing"):
        fresh_denoiser(STAGES[DOMAIN_ADAPTER], base, Parts(), seed=0, low_rank=LowRankSize(rank=0))
