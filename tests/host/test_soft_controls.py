"""Soft weights and effect masks of ControlNets of every kind: single features weighted, places left out, by frame."""

from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.controls.soft import soft_weights
from control_models import FRAMES, KINDS, SIZE, applied, controlnet, images, run, scheduled
from host_models import image_model
import pytest
from reference import relative_error
import torch

BASE = 0.825


@pytest.fixture(scope="module")
def follow():
    return set_context_options(image_model(), ContextOptions())


def test_the_numbers_of_a_controlnet_are_those_of_the_web_ui():
    weights = soft_weights({"output": 12, "middle": 1}, BASE, False)
    known = [0.09941396206337118, 0.12050177219802567, 0.14606275417942507, 0.17704576264172736, 0.214600924414215]
    known += [0.26012233262329093, 0.3152997971191405, 0.3821815722656249, 0.4632503906249999, 0.561515625]
    assert weights["output"] == pytest.approx([*known, 0.6806249999999999, BASE]) and weights["middle"] == [1.0]
    flipped = soft_weights({"output": 12, "middle": 1}, BASE, True)
    assert flipped["output"] == pytest.approx([1.0, *weights["output"][:0:-1]])
    assert flipped["middle"] == pytest.approx(weights["output"][:1])
    assert soft_weights({"output": 9}, 0.5, False)["output"] == [0.5**n for n in (9, 8, 7, 6, 5, 4, 3, 2, 1)]


def test_the_numbers_of_an_adapter_by_level():
    assert soft_weights({"input": 12}, 0.5, False)["input"] == [1.0] * 3 + [0.5] * 3 + [0.25] * 3 + [0.5**7] * 3
    assert soft_weights({"input": 12}, 0.5, True)["input"] == [0.5**7] * 3 + [0.25] * 3 + [0.5] * 3 + [1.0] * 3
    assert soft_weights({"input": 9, "middle": 1}, 0.5, False) == {
        "input": [1.0] * 3 + [0.5] * 3 + [0.25] * 3,
        "middle": [1.0],
    }


def given(control, conds, model, frames=FRAMES):
    """What the control model's lists are after the host's merge, in the first call."""
    calls = []
    applied_control = conds[0][0][1]["control"]
    merge = type(applied_control).control_merge

    def watch(values, *args, **kwargs):
        merged = merge(applied_control, values, *args, **kwargs)
        calls.append({part: [None if x is None else x.clone() for x in merged[part]] for part in merged})
        return merged

    applied_control.control_merge = watch
    run(model, conds, frames)
    assert applied_control.control_merge is watch  # as it was before the run
    return calls[0]


@pytest.mark.parametrize("kind", KINDS)
def test_soft_weights_multiply_single_features(follow, kind):
    control = KINDS[kind]()
    plain = given(control, scheduled(applied(control, images())), follow)
    soft = given(control, scheduled(applied(control, images()), soft_base=0.8), follow)
    assert any(plain[part] for part in plain)
    for part, entries in plain.items():
        for number, entry in enumerate(entries):
            if entry is not None:
                power = {"middle": 0, "output": len(entries) - number, "input": (0, 1, 2, 7)[number // 3]}[part]
                assert relative_error(soft[part][number], entry * 0.8**power) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_base_one_and_a_white_mask_change_nothing(follow, kind):
    control = KINDS[kind]()
    expected = run(follow, scheduled(applied(control, images()), "0.7"))
    same = scheduled(applied(control, images()), "0.7", soft_base=1.0, mask=torch.ones(1, 16, 16))
    assert torch.equal(run(follow, same), expected)
    for change in ({"soft_base": 0.5}, {"mask": torch.rand(1, 16, 16)}):
        assert relative_error(run(follow, scheduled(applied(control, images()), "0.7", **change)), expected) > 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_masks_go_with_their_frames_in_windows(kind):
    """Without motion frames do not meet: each is what a run with its own mask would give. The last mask stays."""
    control = KINDS[kind]()
    cut = set_context_options(image_model(), ContextOptions(4, 1, 1, "uniform looped, open"))
    masks = torch.rand(5, SIZE[0] * 8, SIZE[1] * 8)
    expected = torch.stack(
        [run(cut, scheduled(applied(control, images(7)), mask=masks[min(i, 4)][None]), 7)[i] for i in range(7)]
    )
    assert relative_error(run(cut, scheduled(applied(control, images(7)), mask=masks), 7), expected) < 1e-5


def test_a_mask_is_resized_to_each_feature(follow):
    control = controlnet()
    mask = torch.rand(FRAMES, SIZE[0] * 8, SIZE[1] * 8)
    plain = given(control, scheduled(applied(control, images())), follow)
    masked = given(control, scheduled(applied(control, images()), mask=mask), follow)
    for entry, other in zip(plain["output"], masked["output"], strict=True):
        resized = torch.nn.functional.interpolate(mask[:, None], entry.shape[2:], mode="bilinear")
        assert relative_error(other, entry * resized.repeat(entry.shape[0] // FRAMES, 1, 1, 1)) < 1e-5


def test_an_error_leaves_the_control_as_it_was(follow):
    conds = scheduled(applied(controlnet(), images()), soft_base=0.5)
    control = conds[0][0][1]["control"]
    control.control_model.forward = None
    with pytest.raises(TypeError):
        run(follow, conds)
    assert "control_merge" not in vars(control)
