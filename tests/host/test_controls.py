"""ControlNet strength by frame and step, and hints that stay or repeat, in chains of every kind."""

from functools import partial

from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from control_models import (
    FRAMES,
    KINDS,
    applied,
    controlnet,
    images,
    run,
    scheduled,
)
from host_models import conditioning, image_model, motion_file
import pytest
from reference import relative_error
import torch

import nodes


@pytest.fixture(scope="module")
def model():
    return image_model()


@pytest.fixture(scope="module")
def animated(model):
    return apply_motion_module(model, load_motion_module(motion_file("v3.safetensors")), MotionSettings("v3"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_is_that_of_apply_controlnet(animated, model, kind):
    control = KINDS[kind]()
    for target in (animated, set_context_options(model, ContextOptions())):
        expected = run(target, applied(control, images(), 0.5))
        assert relative_error(expected, run(target, applied(control, images(), 0.25))) > 1e-4
        assert relative_error(run(target, scheduled(applied(control, images(), 1.0), "0.5")), expected) < 1e-5
        assert relative_error(run(target, scheduled(applied(control, images(), 2.0), "0.5", "0.5")), expected) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_strength_goes_with_its_frame_in_chains_and_windows(model, kind):
    """Without motion frames do not meet: each is what a run with its own number would give."""
    first, second = KINDS[kind](), controlnet(7)
    follow = set_context_options(model, ContextOptions(4, 1, 1, "uniform looped"))
    hints = images(10)

    def conds(by_frame):
        return applied(second, images(10, 9), 0.7, scheduled(applied(first, hints), by_frame))

    expected = torch.stack([run(follow, conds(f"{i / 10}"), 10)[i] for i in range(10)])
    result = run(follow, conds("0: 0, 10: 1"), 10)
    assert relative_error(result, expected) < 1e-5
    assert (
        relative_error(run(set_context_options(model, ContextOptions(16)), conds("0: 0, 10: 1"), 10), expected) < 1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_one_image_serves_all_frames(animated, kind):
    control = KINDS[kind]()
    faded = {}
    for target in (animated, set_context_options(animated, ContextOptions(4, 1))):
        expected = run(target, applied(control, images(1), 0.5))
        assert relative_error(run(target, scheduled(applied(control, images(1)), "0.5")), expected) < 1e-5
        faded[target] = run(target, scheduled(applied(control, images(1)), "0: 0, 5: 1"))
        assert relative_error(faded[target], expected) > 1e-4
    for target, result in faded.items():
        every = applied(control, images(1).expand(FRAMES, -1, -1, -1))
        assert relative_error(run(target, scheduled(every, "0: 0, 5: 1")), result) < 1e-5


def test_steps_by_their_place_in_the_sampling_range(model):
    """A factor that falls evenly: at each of eight steps it is what the host's own ranges would make of it."""
    follow = set_context_options(model, ContextOptions())
    seen = []
    control = controlnet()

    def merge(self, *args, **kwargs):
        seen.append(float(self.strength.values[0]))
        return type(self).control_merge(self, *args, **kwargs)

    conds = scheduled(applied(control, images()), "1", "0: 1, 1: 0")
    scheduled_control = conds[0][0][1]["control"]
    scheduled_control.control_merge = partial(merge, scheduled_control)
    run(follow, conds, steps=8, scheduler="sgm_uniform")
    sampling = model.get_model_object("model_sampling")
    import comfy.samplers

    sigmas = comfy.samplers.calculate_sigmas(sampling, "sgm_uniform", 8)[:-1]
    expected = [float(sampling.timestep(sigma)) / 999 for sigma in sigmas]
    assert seen == pytest.approx(expected, abs=1e-5)


def test_steps(animated):
    control = controlnet()
    ended = nodes.ControlNetApplyAdvanced().apply_controlnet(
        conditioning(seed=1), conditioning(seed=2), control, images(), 1.0, 0.0, 0.4
    )
    faded = scheduled(applied(control, images()), "1", "0: 1, 0.4: 1, 0.401: 0")
    assert relative_error(run(animated, faded), run(animated, ended)) < 1e-5


def test_fewer_images(animated):
    two = images(2)
    last = torch.cat([two, two[1:].expand(FRAMES - 2, -1, -1, -1)])
    looped = two.repeat(FRAMES // 2, 1, 1, 1)
    cut = set_context_options(animated, ContextOptions(4, 1))
    for target in (animated, cut):
        stays = run(target, scheduled(applied(controlnet(), two, 10.0), last_stays=True))
        assert relative_error(stays, run(target, applied(controlnet(), last, 10.0))) < 1e-5
        repeats = run(target, applied(controlnet(), looped, 10.0))
        assert relative_error(run(target, scheduled(applied(controlnet(), two, 10.0))), repeats) < 1e-5
        assert relative_error(run(target, applied(controlnet(), two, 10.0)), repeats) < 1e-5
        assert relative_error(stays, repeats) > 3e-5  # against 1e-5 above


def test_the_schedule_is_that_of_the_control_applied_last_and_copies_nothing_else(animated):
    first = applied(controlnet(1), images())
    both = scheduled(applied(controlnet(2), images(), conds=first), "0.5")
    expected = applied(controlnet(2), images(), 0.5, conds=first)
    assert relative_error(run(animated, both), run(animated, expected)) < 1e-5
    assert both[0][0][1]["control"] is both[1][0][1]["control"]


def test_a_second_schedule_multiplies_the_first(animated):
    control, mask, grey = controlnet(), torch.rand(FRAMES, 48, 64), torch.full((1, 16, 16), 0.5)
    first = scheduled(applied(control, images(), 9.0), "0: 1, 5: 0.2", mask=mask, soft_base=0.9)
    twice = run(animated, scheduled(first, "0.8", "0: 1, 1: 0.4", mask=grey, soft_base=0.5))
    plain = applied(control, images(), 9.0)
    once = scheduled(plain, "0: 0.8, 5: 0.16", "0: 1, 1: 0.4", mask=0.5 * mask, soft_base=0.45)
    assert relative_error(twice, run(animated, once)) < 1e-5
    assert relative_error(twice, run(animated, scheduled(plain, "0"))) > 1e-4, "the control acts at all"


def test_of_two_schedules_the_last_says_whether_the_last_image_stays(animated):
    once = applied(controlnet(), images(2), 9.0)
    stays = run(animated, scheduled(once, last_stays=True))
    assert torch.equal(run(animated, scheduled(scheduled(once), last_stays=True)), stays)
    assert not torch.equal(run(animated, scheduled(scheduled(once, last_stays=True))), stays)


def test_one_mask_without_a_row_for_it(animated):
    """As some nodes give it."""
    mask = torch.rand(8, 12, generator=torch.Generator().manual_seed(4))
    plain, one = (scheduled(applied(controlnet(), images()), mask=given) for given in (mask, mask[None]))
    assert torch.equal(run(animated, plain), run(animated, one))


def test_motion_without_effect_leaves_the_frames_their_hints(model):
    """The usual comparison: the same graph without motion."""
    module = load_motion_module(motion_file("v3.safetensors"))
    still = apply_motion_module(model, module, MotionSettings("v3", effect=0))
    conds = scheduled(applied(controlnet(), images(), 0.7), "0: 1, 5: 0")
    assert torch.equal(run(still, conds), run(set_context_options(model, ContextOptions()), conds))


def test_without_a_controlnet_or_a_model_of_ours_it_says_so(model):
    with pytest.raises(ValueError, match="no ControlNet"):
        scheduled((conditioning(seed=1), conditioning(seed=2)))
    with pytest.raises(ValueError, match="Apply Motion Module or Context Options"):
        run(model, scheduled(applied(controlnet(), images())))


def test_lengths_that_do_not_fit_are_said_once(animated, caplog):
    rows = [[torch.randn(4, 8, 768), {}]]
    run(animated, applied(controlnet(), images(2), conds=(rows, conditioning(seed=2))))
    said = [record.message for record in caplog.records if "frames" in record.message]
    assert (
        len(said) == 2 and "prompts are for 4 frames, the clip has 6" in said[0] and "2 images for 6 frames" in said[1]
    )
    caplog.clear()
    rows = [[torch.randn(FRAMES, 8, 768), {}]]
    run(animated, applied(controlnet(), images(8), conds=(rows, conditioning(seed=2))))
    run(animated, scheduled(applied(controlnet(), images(2)), last_stays=True))
    assert not caplog.records
