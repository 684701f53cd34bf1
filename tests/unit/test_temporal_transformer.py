"""One temporal transformer against a float64 transcription of its description, and against diffusers."""

from animatic_pack.motion_modules.temporal_transformer import TemporalTransformer, sinusoid
import pytest
from reference import positions, relative_error, temporal_transformer
from small_models import temporal_transformer_state_dict
import torch
from torch import nn

CHANNELS = 64


def build(norm_over_frames=False, channels=CHANNELS, max_frames=32):
    weights = temporal_transformer_state_dict("", channels, max_frames, torch.Generator().manual_seed(1))
    module = TemporalTransformer(channels, 2, max_frames, norm_over_frames, nn)
    module.load_state_dict(weights)
    return module, weights


@pytest.mark.parametrize("norm_over_frames", [False, True])
@pytest.mark.parametrize("conds", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 8, 16, 24])
def test_agrees_with_transcription(frames, conds, norm_over_frames):
    module, weights = build(norm_over_frames)
    x = torch.randn(frames * conds, CHANNELS, 5, 7)
    expected = temporal_transformer(weights, x, frames, norm_over_frames)
    assert relative_error(module(x, frames), expected) < 1e-5


@pytest.mark.parametrize("channels", [320, 640, 1280])
def test_agrees_at_every_released_width(channels):
    module, weights = build(channels=channels)
    x = torch.randn(16, channels, 2, 3)
    assert relative_error(module(x, 16), temporal_transformer(weights, x, 16)) < 1e-5


@pytest.mark.parametrize("frames", [1, 8, 16, 24])
def test_agrees_with_diffusers_norm_over_frames(frames):
    from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D

    module, weights = build(norm_over_frames=True)
    theirs = AnimateDiffTransformer3D(
        num_attention_heads=8,
        attention_head_dim=CHANNELS // 8,
        in_channels=CHANNELS,
        norm_num_groups=32,
        num_layers=1,
        activation_fn="geglu",
        attention_bias=False,
        double_self_attention=True,
        positional_embeddings="sinusoidal",
        num_positional_embeddings=32,
    )
    names = {
        "attention_blocks.0.to": "attn1.to",
        "attention_blocks.1.to": "attn2.to",
        "norms.0.": "norm1.",
        "norms.1.": "norm2.",
        "ff_norm.": "norm3.",
    }
    converted = {}
    for key, value in weights.items():
        for ours, others in names.items():
            key = key.replace(ours, others)
        converted[key] = value
    table = converted.pop("transformer_blocks.0.attention_blocks.0.pos_encoder.pe")
    converted.pop("transformer_blocks.0.attention_blocks.1.pos_encoder.pe")
    converted["transformer_blocks.0.pos_embed.pe"] = table
    theirs.load_state_dict(converted)
    x = torch.randn(frames * 2, CHANNELS, 4, 6)
    expected = theirs(x, num_frames=frames)
    expected = expected[0] if isinstance(expected, tuple) else getattr(expected, "sample", expected)
    assert relative_error(module(x, frames), expected) < 1e-5


def test_sinusoid_is_the_trained_one():
    assert relative_error(sinusoid(32, 320)[0], positions(32, 320)) < 1e-5  # float32 angles up to 31


def test_feed_forward_in_slices_changes_nothing():
    module, _ = build()
    x = torch.randn(16, CHANNELS, 4, 4)
    rows = []
    last = module.transformer_blocks[0].ff.net[2]
    handle = last.register_forward_hook(lambda layer, args, output: rows.append(len(output)))
    whole = module(x, 16)
    sliced = module(x, 16, feed_forward_slices=3)
    handle.remove()
    assert rows == [16, 6, 6, 4]
    assert relative_error(sliced, whole) < 1e-5  # matrix products of other sizes round otherwise


def test_positions_can_be_given():
    module, _ = build()
    x = torch.randn(8, CHANNELS, 4, 4)
    own = [attention.pos_encoder.pe[0] for attention in module.transformer_blocks[0].attention_blocks]
    assert torch.equal(module(x, 8, positions=own), module(x, 8))
    later = module(x, 8, positions=[table[3:] for table in own])
    assert relative_error(later, module(x, 8)) > 1e-3
    assert torch.equal(later, module(torch.cat([x[:3], x]), 11, positions=own)[3:]) is False, "others are attended to"


def test_input_is_left_alone_and_effect_scales_what_is_added():
    module, _ = build()
    x = torch.randn(16, CHANNELS, 4, 4)
    before = x.clone()
    full, half, none = (module(x, 16, effect=effect) for effect in (1.0, 0.5, 0.0))
    assert torch.equal(x, before)
    assert torch.equal(none, x)
    assert relative_error(half - x, (full - x) / 2) < 1e-5


def test_motion_scale_multiplies_the_keys():
    module, weights = build()
    x = torch.randn(8, CHANNELS, 3, 3)
    scaled = {key: value * 1.7 if ".to_k." in key else value for key, value in weights.items()}
    assert relative_error(module(x, 8, motion_scale=1.7), temporal_transformer(scaled, x, 8)) < 1e-5


def test_conds_do_not_see_each_other():
    module, _ = build()
    x = torch.randn(16, CHANNELS, 3, 3)
    together = module(x, 8)
    assert torch.allclose(together[:8], module(x[:8], 8), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_dtype_and_the_result(dtype):
    module, weights = build()
    x = torch.randn(16, CHANNELS, 4, 4).to(dtype)
    result = module.to(dtype)(x, 16)
    assert result.dtype == dtype
    assert relative_error(result, temporal_transformer(weights, x, 16)) < (0.01 if dtype == torch.float16 else 0.06)


@pytest.mark.parametrize("conds", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (5, 7)])
def test_motion_scale_and_effect_by_frame_and_place(conds, size):
    module, weights = build()
    x = torch.randn(6 * conds, CHANNELS, 5, 7)
    scale, effect = torch.rand(6, 1, *size) + 0.5, torch.rand(6, 1, *size)
    expected = temporal_transformer(weights, x, 6, key_scale=scale[:, 0].expand(6, 5, 7))
    expected = x + effect.repeat(conds, 1, 1, 1) * (expected - x)
    assert relative_error(module(x, 6, motion_scale=scale, effect=effect), expected) < 1e-5


def test_masks_are_resized_and_numbers_are_the_same_as_even_masks():
    module, _ = build()
    x = torch.randn(4, CHANNELS, 6, 8)
    even = torch.full((4, 1, 48, 64), 0.7)
    assert relative_error(module(x, 4, even, even), module(x, 4, 0.7, 0.7)) < 1e-6
    half = torch.zeros(4, 1, 48, 64)
    half[..., 32:] = 1
    result = module(x, 4, effect=half)
    assert torch.equal(result[..., :4], x[..., :4])
    assert relative_error(result[..., 4:], module(x, 4)[..., 4:]) < 1e-6


def view(frames, shares=None):
    return torch.tensor(frames), torch.ones(len(frames)) if shares is None else torch.tensor(shares)


@pytest.mark.parametrize("conds", [1, 2])
def test_views_beside_each_other_are_clips_of_their_own(conds):
    """Also with frames out of order, and a motion_scale for each frame."""
    module, _ = build()
    x = torch.randn(conds, 10, CHANNELS, 3, 2)
    scale = torch.rand(10, 1, 1, 1) + 0.5
    parts = [[0, 2, 4, 6], [9, 8, 7, 5, 3, 1]]
    seen = module(x.flatten(0, 1), 10, scale, views=[view(part) for part in parts]).view_as(x)
    for part in parts:
        alone = module(x[:, part].flatten(0, 1), len(part), scale[part]).view_as(x[:, part])
        assert relative_error(seen[:, part], alone) < 1e-5


def test_views_of_everything_change_nothing():
    module, _ = build()
    x = torch.randn(2 * 6, CHANNELS, 3, 2)
    whole = list(range(6))
    assert relative_error(module(x, 6, views=[view(whole)]), module(x, 6)) < 1e-6
    two = [view(whole, [0.25] * 6), view(whole, [0.75] * 6)]
    assert relative_error(module(x, 6, views=two), module(x, 6)) < 1e-6


def test_a_frame_changes_the_views_that_hold_it_and_no_others():
    module, _ = build()
    x = torch.randn(9, CHANNELS, 3, 2)
    views = [view([0, 1, 2, 3], [1, 1, 1, 0.5]), view([3, 4, 5], [0.5, 1, 0.5]), view([5, 6, 7, 8], [0.5, 1, 1, 1])]
    other = x.clone()
    other[1] += torch.randn_like(other[1])
    changed = (module(other, 9, views=views) - module(x, 9, views=views)).flatten(1).norm(dim=1) > 1e-3
    assert changed.tolist() == [True] * 4 + [False] * 5
