"""Every file family to one layout, and a clear word about every other file."""

import math

from animatic_pack.motion_modules.checkpoint import read_motion_module, read_sparse_ctrl
from animatic_pack.motion_modules.families import LCM, LCM_I2V, LINEAR, LINEAR_SDXL, SQRT_LINEAR
from animatic_pack.motion_modules.motion_module import MotionModule
import pytest
from small_models import image_encoder_state_dict, motion_state_dict, pia_input
import torch
from torch import nn

SD15 = (32, 64, 96, 96)
SDXL = (32, 64, 96)


def sd15(**options):
    return motion_state_dict(SD15, modules=2, **options)


def sdxl(**options):
    return motion_state_dict(SDXL, modules=2, **options)


def hotshot():
    return {
        key.replace(".motion_modules.", ".temporal_attentions.")
        .replace(".temporal_transformer", "")
        .replace(".pe", ".positional_encoding"): value
        for key, value in sdxl(max_frames=24).items()
    }


def diffusers(weights):
    renamed = {}
    for key, value in weights.items():
        key = key.replace(".temporal_transformer.", ".")
        for ours, theirs in (
            ("attention_blocks.0.pos_encoder.pe", "pos_embed.pe"),
            ("attention_blocks.0", "attn1"),
            ("attention_blocks.1", "attn2"),
            ("norms.0", "norm1"),
            ("norms.1", "norm2"),
            ("ff_norm", "norm3"),
        ):
            key = key.replace(ours, theirs)
        if "attn2.pos_encoder" not in key:
            renamed[key] = value
    return renamed


ADAPTER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora"


def spatial(weights):
    """What a trainer saves beside the motion module."""
    return {
        "conv_in.weight": torch.zeros(32, 4, 3, 3),
        "down_blocks.0.resnets.0.norm1.weight": torch.ones(32),
        **weights,
    }


def ddp(weights):
    return {
        "epoch": 3,
        "global_step": 10,
        "state_dict": {f"module.{key}": value for key, value in spatial(weights).items()},
    }


PIA_INPUT = pia_input(32)
IMAGE_ENCODER = image_encoder_state_dict(SD15)

FAMILIES = {
    "AnimateDiff v1": (lambda: sd15(max_frames=24), SQRT_LINEAR, True, False),
    "AnimateDiff v2": (lambda: sd15(mid=True), SQRT_LINEAR, False, False),
    "AnimateDiff v3": (lambda: sd15(), SQRT_LINEAR, False, False),
    "AnimateDiff SDXL": (lambda: sdxl(), LINEAR_SDXL, False, True),
    "HotShotXL": (hotshot, LINEAR, True, False),
    "AnimateLCM": (lambda: sd15(max_frames=None, mid=True), LCM, False, False),
    "AnimateLCM-I2V": (lambda: sd15(max_frames=None, mid=True) | IMAGE_ENCODER, LCM_I2V, False, False),
    "LongAnimateDiff": (lambda: sd15(max_frames=128, mid=True), SQRT_LINEAR, False, False),
    "PIA": (lambda: sd15() | PIA_INPUT, SQRT_LINEAR, True, False),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_family_is_known_by_its_weights(family):
    make, schedule, unet_norm, motion_norm = FAMILIES[family]
    config, weights = read_motion_module(make())
    found = config.family
    assert (found.name, found.beta_schedule) == (family, schedule)
    assert (found.unet_norm_over_frames, found.motion_norm_over_frames) == (unet_norm, motion_norm)
    MotionModule(config, nn).load_state_dict(weights, strict=True)


def test_three_levels_of_single_blocks_are_a_small_sd15():
    config, _ = read_motion_module(motion_state_dict((32, 32, 32), modules=1))
    assert (config.unet, config.family.name) == ("SD1.5", "AnimateDiff v3")


@pytest.mark.parametrize(
    "wrap",
    [
        dict,
        ddp,
        diffusers,
        lambda w: {"state_dict": w},
        lambda w: {**w, "animatediff_config": {"a": 1}},
        lambda w: {f"unet.{k}": v for k, v in w.items()},
        lambda w: {f"module.{k}": v for k, v in w.items()},
        lambda w: {"model": w, "epoch": 1},
        lambda w: {"unet_state_dict": {f"unet.module.{k}": v for k, v in w.items()}, "optimizer": {"state": {}}},
        lambda w: {**w, f"{ADAPTER}.down.weight": torch.zeros(4, 32), f"{ADAPTER}.up.weight": torch.zeros(32, 4)},
    ],
    ids=[
        "flat",
        "trainer",
        "diffusers",
        "state_dict",
        "animatediff_config",
        "unet.",
        "module.",
        "nested",
        "nested deep",
        "with adapter",
    ],
)
def test_wrappings_lead_to_the_same_weights(wrap):
    original = sd15(mid=True)
    config, weights = read_motion_module(wrap(original))
    assert config.family.name == "AnimateDiff v2" and config.max_frames == 32
    assert weights.keys() == original.keys()
    for key in original:
        # the regenerated table differs from another way of computing it by float32 rounding of angles up to 31
        same = (
            torch.allclose(weights[key], original[key], atol=1e-5)
            if key.endswith(".pe")
            else torch.equal(weights[key], original[key])
        )
        assert same, key


def test_renamed_hotshot_is_known_by_its_positions():
    config, weights = read_motion_module(sdxl(max_frames=24))
    assert config.family.name == "HotShotXL"
    assert torch.equal(
        weights["up_blocks.2.motion_modules.2.temporal_transformer.proj_in.weight"],
        sdxl(max_frames=24)["up_blocks.2.motion_modules.2.temporal_transformer.proj_in.weight"],
    )


def test_lightning_and_animatelcm_in_diffusers_form_load():
    half = diffusers({k: v.half() for k, v in sd15(mid=True).items()})
    assert read_motion_module(half)[0].family.name == "AnimateDiff v2"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounded_positions_are_regenerated(dtype):
    config, weights = read_motion_module({key: value.to(dtype) for key, value in sd15().items()})
    table = weights[
        "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.pos_encoder.pe"
    ]
    assert not config.custom_positions and table.dtype == torch.float32
    assert torch.allclose(
        table,
        sd15()[
            "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.pos_encoder.pe"
        ],
        atol=1e-5,
    )


def test_positions_that_a_user_changed_are_kept():
    original = {key: value * 0.8 if key.endswith(".pe") else value for key, value in sd15().items()}
    config, weights = read_motion_module(original)
    assert config.custom_positions
    assert all(torch.equal(weights[key], original[key]) for key in original if key.endswith(".pe"))


@pytest.mark.parametrize("max_frames", [8, 48, 256])
def test_positions_of_any_length(max_frames):
    assert read_motion_module(sd15(max_frames=max_frames, mid=True))[0].max_frames == max_frames


def test_shallow_modules_load():
    config, _ = read_motion_module(motion_state_dict((32,)))
    assert (config.channels, config.modules_per_block) == ((32,), 1)


def test_missing_and_unexpected_weights_are_named():
    weights = sd15()
    removed = "up_blocks.1.motion_modules.2.temporal_transformer.proj_out.bias"
    with pytest.raises(ValueError, match=removed.replace(".", r"\.")):
        read_motion_module({key: value for key, value in weights.items() if key != removed})
    added = "up_blocks.1.motion_modules.2.temporal_transformer.extra.weight"
    with pytest.raises(ValueError, match=added.replace(".", r"\.")):
        read_motion_module({**weights, added: torch.zeros(1)})
    with pytest.raises(ValueError, match="wrong shapes.*proj_in"):
        read_motion_module(
            {**weights, "up_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight": torch.zeros(3, 3)}
        )


SITE = "down_blocks.0.motion_modules.0.temporal_transformer."
OTHERS = {
    "MotionLoRA": {
        f"{SITE}transformer_blocks.0.attention_blocks.0.processor.to_q_lora.down.weight": torch.zeros(4, 32)
    },
    "MotionLoRA of A1111": {
        "lora_unet_down_blocks_0_motion_modules_0_temporal_transformer_proj.lora_up.weight": torch.zeros(4, 4)
    },
    "domain adapter": {
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight": torch.zeros(4, 32)
    },
    "a LoRA": {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.zeros(4, 4)},
    "SparseCtrl": {**sd15(), "controlnet_cond_embedding.weight": torch.zeros(1)},
    "CameraCtrl": {
        "epoch": 1,
        "pose_encoder_state_dict": {"module.encoder_conv_in.weight": torch.zeros(1)},
        "attention_processor_state_dict": {f"module.{SITE}processor.qkv_merge.weight": torch.zeros(1)},
    },
    "a CameraCtrl": {"encoder_conv_in.weight": torch.zeros(1)},
    "ControlNet": {
        "controlnet_cond_embedding.conv_in.weight": torch.zeros(1),
        "controlnet_down_blocks.0.weight": torch.zeros(1),
    },
    "whole checkpoint": {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1),
        "first_stage_model.x": torch.zeros(1),
    },
    "a ControlNet": {"control_model.zero_convs.0.0.weight": torch.zeros(1)},
    "no motion module": {"some.weight": torch.zeros(1)},
    "empty": {},
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_kind_of_file_is_named(what):
    with pytest.raises(ValueError, match=what.split(" of ")[0]):
        read_motion_module(OTHERS[what])


def test_an_ordinary_first_convolution_is_no_image_input():
    assert read_motion_module(ddp(sd15()))[0].family.image_input is None
    assert read_motion_module(sd15() | PIA_INPUT)[0].family.name == "PIA"


def test_eight_bit_positions_are_regenerated():
    assert not read_motion_module({k: v.to(torch.float8_e4m3fn) for k, v in sd15().items()})[0].custom_positions


@pytest.mark.parametrize(
    "spoil, problem",
    [
        (lambda weight: weight.to(torch.int8), r"whole numbers \(int8\) at"),
        (lambda weight: weight.clone().fill_diagonal_(math.nan), "values that are not numbers at"),
        (lambda weight: weight.half().fill_(math.inf), "values that are not numbers at"),
        (lambda weight: weight.clone().fill_(math.nan).to(torch.float8_e4m3fn), "values that are not numbers at"),
    ],
)
def test_weights_that_would_render_black_frames_are_named(spoil, problem):
    key = "down_blocks.1.motion_modules.0.temporal_transformer.proj_in.weight"
    weights = sd15()
    with pytest.raises(ValueError, match=f"{problem} {key}"):
        read_motion_module(weights | {key: spoil(weights[key])})


def test_a_spoiled_sparse_ctrl_is_named():
    down = {key: value for key, value in sd15().items() if key.startswith("down_blocks.")}
    embedding = {"controlnet_cond_embedding.conv_in.weight": torch.zeros(1)}
    assert read_sparse_ctrl(down | embedding)[2] == embedding
    with pytest.raises(ValueError, match="not numbers at controlnet_cond_embedding.conv_in.weight"):
        read_sparse_ctrl(down | {key: value + math.nan for key, value in embedding.items()})


def test_not_even_weights():
    with pytest.raises(ValueError, match="holds a Tensor"):
        read_motion_module(torch.zeros(3))
