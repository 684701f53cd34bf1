"""The ablation's motion module: convolution over time, with as many weights, under the same trainer."""

from animatic_pack.evaluation.world.convolution import TemporalConvolution, convolutional
from animatic_pack.motion_modules.temporal_transformer import TemporalAttention
from animatic_pack.training.motion import fresh_motion_module
import pytest
import torch
from torch import nn

SITES = {"down_blocks.0.motion_modules.0": 32, "down_blocks.0.motion_modules.1": 32} | {
    f"up_blocks.0.motion_modules.{number}": 32 for number in range(3)
}
FRAMES, PLACES = 5, 4


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("channels", (32, 320))
def test_it_has_as_many_weights_as_attention(channels):
    assert count(TemporalConvolution(channels)) == count(TemporalAttention(channels, 8, nn))


@torch.no_grad()
def test_each_frame_is_a_sum_over_its_neighbours_at_the_same_place():
    layer = TemporalConvolution(8)
    tokens = torch.randn(2 * FRAMES, PLACES, 8, generator=torch.Generator().manual_seed(0))
    got = layer(tokens, FRAMES).unflatten(0, (2, FRAMES))
    clips = tokens.unflatten(0, (2, FRAMES))
    for frame in range(FRAMES):
        mixed = sum(
            clips[:, frame + offset] @ layer.conv.weight[..., offset + 1].mT
            for offset in (-1, 0, 1)
            if 0 <= frame + offset < FRAMES
        )
        wanted = mixed @ layer.to_out[0].weight.mT + layer.to_out[0].bias
        assert torch.allclose(got[:, frame], wanted, atol=1e-6)


@torch.no_grad()
def test_a_fresh_one_changes_nothing_and_a_trained_one_does():
    motion = convolutional(fresh_motion_module(SITES, 8, 0), 0)
    assert not any("pos_encoder" in key or "to_q" in key for key in motion.state_dict())
    site = motion.sites["up_blocks.0.motion_modules.2"]
    x = torch.randn(FRAMES, 32, 2, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(site(x, FRAMES), x)
    nn.init.eye_(site.proj_out.weight)
    moved = site(x, FRAMES)
    assert not torch.allclose(moved, x)
    assert not torch.allclose(site(x.flip(0), FRAMES).flip(0), moved, atol=1e-3)  # order counts


def test_the_same_seed_draws_the_same_weights():
    first, again, other = (convolutional(fresh_motion_module(SITES, 8, 0), seed).state_dict() for seed in (3, 3, 4))
    key = next(key for key in first if key.endswith("conv.weight"))
    assert torch.equal(first[key], again[key]) and not torch.equal(first[key], other[key])
