"""Motion modules with positions stretched, weights multiplied or norms over frames, sampled by the host."""

from animatic_pack.motion_modules.adjust import Adjustment, Stretch
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from host_models import image_model, motion_file, sample
import pytest
from reference import relative_error
import torch


@pytest.fixture(scope="module")
def model():
    return image_model()


def clip(model, file, adjustment=None, frames=6):
    module = load_motion_module(file, adjustment)
    return sample(apply_motion_module(model, module, MotionSettings(file)), frames=frames, steps=1)


def test_defaults_change_nothing_and_each_adjustment_something(model):
    file = motion_file("v2_adjusted.safetensors", mid=True)
    plain = clip(model, file)
    assert torch.equal(clip(model, file, Adjustment()), plain)
    assert torch.equal(clip(model, file, Adjustment(Stretch(0, None, 32))), plain)
    for change in (Adjustment(Stretch(0, 16, 18)), Adjustment(factor=1.2), Adjustment(v2_norms_as_v1=True)):
        assert relative_error(clip(model, file, change), plain) > 1e-5


def test_clips_are_as_long_as_the_stretched_table(model):
    file = motion_file("v3.safetensors")
    assert clip(model, file, Adjustment(Stretch(0, None, 40)), frames=40).shape[0] == 40
    with pytest.raises(ValueError, match="knows 18 frames, but the batch has 19"):
        clip(model, file, Adjustment(Stretch(0, 16, 18)), frames=19)
