"""Motion modules changed as a whole: positions, weights, norms."""

import math

from animatic_pack.motion_modules.adjust import Adjustment, Stretch, adjusted, parse_stretch, stretched
from animatic_pack.motion_modules.checkpoint import read_motion_module
from animatic_pack.motion_modules.motion_module import MotionModule
import pytest
from small_models import motion_state_dict
import torch
from torch import nn

CHANNELS = (32, 64, 96, 96)


@pytest.mark.parametrize(
    ("text", "stretch"),
    [
        ("", None),
        ("  ", None),
        ("16 -> 18", Stretch(0, 16, 18)),
        ("->40", Stretch(0, None, 40)),
        ("4..20 -> 18", Stretch(4, 20, 18)),
    ],
)
def test_stretches_as_they_are_written(text, stretch):
    assert parse_stretch(text) == stretch


@pytest.mark.parametrize("text", ["16", "16 -> 0", "a -> 3", "16 -> 18 -> 20", "-4 -> 18", "16->18.5", "4.. -> 18"])
def test_other_texts_are_named(text):
    with pytest.raises(ValueError, match="stretch_positions"):
        parse_stretch(text)


def read_at(table, place):
    """A row between two, the ends staying."""
    place = min(max(place, 0), len(table) - 1)
    low = math.floor(place)
    high = min(low + 1, len(table) - 1)
    return table[low] * (1 - (place - low)) + table[high] * (place - low)


@pytest.mark.parametrize("stretch", [Stretch(0, 16, 18), Stretch(0, None, 40), Stretch(4, 20, 18), Stretch(0, 32, 16)])
def test_rows_are_read_between_those_of_the_table(stretch):
    table = torch.randn(1, 32, 8)
    part = table[0, stretch.start : stretch.end]
    wanted = [read_at(part, (i + 0.5) * len(part) / stretch.length - 0.5) for i in range(stretch.length)]
    assert torch.allclose(stretched(table, stretch)[0], torch.stack(wanted), atol=1e-5)


@pytest.mark.parametrize("stretch", [Stretch(0, 33, 40), Stretch(8, 8, 4), Stretch(20, 10, 4)])
def test_positions_that_there_are_not(stretch):
    with pytest.raises(ValueError, match="positions 0 to 32"):
        stretched(torch.randn(1, 32, 8), stretch)


def module(**options):
    return read_motion_module(motion_state_dict(CHANNELS, modules=2, **options))


def test_a_stretched_module_knows_as_many_frames():
    config, weights = adjusted(*module(), Adjustment(Stretch(0, 16, 18)))
    MotionModule(config, nn, device="meta").load_state_dict(weights, strict=True, assign=True)
    assert config.max_frames == 18 and config.custom_positions


def test_a_factor_multiplies_every_weight_in_its_own_precision():
    config, weights = module()
    weights = {k: w if k.endswith(".pe") else w.to(torch.bfloat16) for k, w in weights.items()}
    _, multiplied = adjusted(config, weights, Adjustment(factor=1.01))
    for key, weight in weights.items():
        assert multiplied[key].dtype == weight.dtype
        assert torch.equal(multiplied[key], (weight.double() * 1.01).to(weight.dtype)) or torch.allclose(
            multiplied[key].float(), weight.float() * 1.01, rtol=0.01
        )
        assert not torch.equal(multiplied[key], weight) or not weight.any()


@pytest.mark.parametrize(("mid", "over_frames"), [(True, True), (False, False)])
def test_only_v2_files_take_norms_as_v1(mid, over_frames):
    config, _ = module(mid=mid)
    changed, _ = adjusted(config, {}, Adjustment(v2_norms_as_v1=True))
    assert not config.family.unet_norm_over_frames and changed.family.unet_norm_over_frames == over_frames
    assert changed.family.name == config.family.name


def test_nothing_adjusted_is_the_module_itself():
    config, weights = module(mid=True)
    again, same = adjusted(config, weights, Adjustment())
    assert again is config and same is weights
