"""Peak memory of the card, as PyTorch counts it."""

from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from full_size import animated
from host_models import sample
import pytest
import torch


def peak(model, own: bool = False, **options) -> int:
    """The most bytes while a clip is sampled, its models loaded before; own: beyond those that were there before."""
    sample(model, frames=16, size=(8, 8), steps=1)
    counted = torch.get_device_module()
    counted.synchronize()
    before = counted.memory_allocated()
    counted.reset_peak_memory_stats()
    sample(model, **options)
    return counted.max_memory_allocated() - own * before


@pytest.mark.parametrize("name", ["v1", "v2", "v3"])
def test_a_step_with_motion_needs_no_more_than_one_without(sd15, name):
    size = {"frames": 16, "size": (64, 64), "steps": 2, "own": True}
    assert peak(animated(sd15, name), **size) <= 1.02 * peak(sd15, **size)


def test_a_thousand_frames_in_windows_need_little_more_than_one_window(sd15):
    moving = animated(sd15, "v2")
    windowed = set_context_options(moving, ContextOptions(context_length=16))
    size = {"size": (64, 96), "steps": 1}  # 768 x 512 pixels
    assert peak(windowed, frames=1000, **size) <= 1.1 * peak(moving, frames=16, **size)
