"""Motion scale and effect by frame, place, block and step, on the real host."""

from contextlib import nullcontext
from functools import partial

from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.control import MotionControl
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.nodes.timeline.keyframes import Keyframes, parse_numbers
import host_models
from host_models import image_model, motion_file
import pytest
from reference import relative_error
import torch

sample = partial(host_models.sample, size=(6, 8), steps=3, frames=6)


@pytest.fixture(scope="module")
def model():
    return image_model()


def controlled(model, *controls, motion="v3.safetensors", **options):
    settings = MotionSettings("v3", controls=controls, **options)
    return apply_motion_module(model, load_motion_module(motion_file(motion)), settings)


def numbers(text):
    return parse_numbers(text, "x")


@pytest.fixture(scope="module")
def plain(model):
    return sample(controlled(model))


def test_a_number_is_that_of_apply_motion_module(model):
    expected = sample(controlled(model, motion_scale=1.3, effect=0.6))
    assert relative_error(sample(controlled(model, MotionControl(numbers("1.3"), numbers("0.6")))), expected) < 1e-5
    assert (
        relative_error(sample(controlled(model, MotionControl(numbers("1.3"), numbers("1.2")), effect=0.5)), expected)
        < 1e-5
    )
    by_frame = MotionControl(numbers("1.3, 1.3, 1.30001"), numbers("0: 0.6, 5: 0.60001"))
    assert relative_error(sample(controlled(model, by_frame)), expected) < 1e-4
    mask = torch.full((1, 48, 64), 0.6)
    assert relative_error(sample(controlled(model, MotionControl(numbers("1.3"), effect_mask=mask))), expected) < 1e-5
    halves = (
        MotionControl(numbers("1.3"), numbers("0.6"), end_percent=0.5),
        MotionControl(numbers("1.3"), numbers("0.6"), start_percent=0.5),
    )
    assert relative_error(sample(controlled(model, *halves)), expected) < 1e-5


def test_controls_at_once_multiply(model):
    both = controlled(model, MotionControl(effect=numbers("0.5")), MotionControl(effect=numbers("0: 1, 5: 0")))
    one = controlled(model, MotionControl(effect=numbers("0: 0.5, 5: 0")))
    assert relative_error(sample(both), sample(one)) < 1e-5


def test_a_black_mask_keeps_the_still(model):
    still = controlled(model, MotionControl(effect_mask=torch.zeros(1, 8, 8)))
    assert relative_error(sample(still), sample(controlled(model, MotionControl(effect=numbers("0"))))) < 1e-5
    assert torch.equal(sample(controlled(model, MotionControl(effect=numbers("0")))), sample(without_motion(model)))


def without_motion(model):
    """The plain model with the motion module's noise schedule."""
    module = load_motion_module(motion_file("v3.safetensors"))
    return apply_motion_module(model, module, MotionSettings("v3", effect=0.0), "sqrt_linear (AnimateDiff)")


@pytest.mark.parametrize("family", ["v1", "v3"])
def test_keyframes_over_the_sampling_range(model, family):
    """v1 also takes the UNet's norms over all frames, which must end with the motion."""
    motion = motion_file("v1.safetensors", max_frames=24) if family == "v1" else "v3.safetensors"
    early = sample(controlled(model, MotionControl(effect=numbers("0"), start_percent=0.4), motion=motion))
    assert relative_error(early, sample(controlled(model, end_percent=0.4, motion=motion))) < 1e-6
    assert relative_error(early, sample(controlled(model, motion=motion))) > 1e-3


def test_a_mask_acts_where_it_is_white(model):
    """The first temporal transformer: only the white half of its input changes."""
    seen = {}
    module = load_motion_module(motion_file("v3.safetensors"))
    site = module.patcher.model.sites["down_blocks.0.motion_modules.0"]
    handle = site.register_forward_hook(lambda m, args, out: seen.update(change=out - args[0]))
    mask = torch.zeros(1, 48, 64)
    mask[:, :24] = 1
    try:
        sample(apply_motion_module(model, module, MotionSettings("v3", controls=(MotionControl(effect_mask=mask),))))
    finally:
        handle.remove()
    assert seen["change"][:, :, :3].abs().amin(1).max() > 0 and seen["change"][:, :, 3:].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    mask = torch.rand(6, 12, 16)
    control = MotionControl(numbers("0: 1, 5: 1.5"), numbers("1, 0.5"), mask, mask)
    half = image_model(dtype=dtype)
    assert relative_error(sample(controlled(half, control)), sample(controlled(image_model(), control))) < 0.1


def test_blocks(model, plain):
    off = {f"{side}_blocks.{i}": 0.0 for side in ("down", "up") for i in range(4)}
    none = controlled(model, MotionControl(effect=numbers("0")))
    assert torch.equal(sample(controlled(model, MotionControl(blocks=off))), sample(none))
    one = controlled(model, MotionControl(blocks={"down_blocks.0.motion_modules.1": 0.0}))
    assert relative_error(sample(one), plain) > 1e-4
    inner = controlled(model, MotionControl(blocks={"down_blocks.0": 0.0, "down_blocks.0.motion_modules.0": 1.0}))
    assert torch.equal(sample(inner), sample(one))
    with pytest.raises(ValueError, match="no block mid_block; it has down_blocks.0"):
        controlled(model, MotionControl(blocks={"mid_block": 0.5}))


@pytest.mark.parametrize("conds", ["together", "one by one"])
def test_numbers_and_masks_go_with_their_frames_into_windows(model, conds, short_memory):
    """A clip whose motion is off in some frames: there windows must leave the plain model's picture."""
    memory = short_memory if conds == "one by one" else nullcontext
    frames, off = 19, [3, 9, 10, 18]
    effect = Keyframes(tuple(range(frames)), tuple(0.0 if i in off else 1.0 for i in range(frames)))
    mask = torch.tensor(effect.values)[:, None, None].expand(frames, 6, 8)
    still = sample(controlled(model, MotionControl(effect=numbers("0"))), frames=frames, steps=2)
    for schedule in ("static standard", "uniform standard", "uniform looped", "batched"):
        results = []
        for control in (MotionControl(effect=effect), MotionControl(effect_mask=mask)):
            cut = set_context_options(controlled(model, control), ContextOptions(8, 3, 1, schedule))
            with memory():
                results.append(sample(cut, frames=frames, steps=2))
            assert relative_error(results[-1][off], still[off]) < 1e-5
            on = [i for i in range(frames) if i not in off]
            assert (results[-1][on] - still[on]).flatten(1).abs().amax(1).min() > 1e-3
        assert relative_error(*results) < 1e-5


def test_shorter_lists_and_masks_keep_their_last(model):
    short = MotionControl(numbers("1, 0.5"), effect_mask=torch.stack([torch.ones(4, 4), torch.full((4, 4), 0.3)]))
    long = MotionControl(numbers("1, 0.5, 0.5, 0.5, 0.5, 0.5"), effect=numbers("1, 0.3"))
    assert relative_error(sample(controlled(model, short)), sample(controlled(model, long))) < 1e-5
