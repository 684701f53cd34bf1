"""Hints that are prepared once in a run, and ControlNets with copies on several graphics cards."""

from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.controls.hints import controls_of
from animatic_pack.nodes.host.controls.kept import Kept
from control_models import applied, controlnet, count_prepared, images, run, scheduled, t2i_adapter
from host_models import image_model
import pytest
from reference import relative_error
import torch


@pytest.fixture(scope="module")
def model():
    return image_model()


@pytest.fixture
def prepared(monkeypatch):
    return count_prepared(monkeypatch)


@pytest.mark.parametrize("count, times", [(6, {6: 1}), (1, {6: 1}), (9, {6: 1})])
def test_strength_by_frame_prepares_once(model, prepared, count, times):
    follow = set_context_options(model, ContextOptions())
    run(follow, scheduled(applied(controlnet(), images(count)), "0: 1, 5: 0"), steps=4)
    assert prepared == times


def test_windows_prepare_each_once(model, prepared):
    follow = set_context_options(model, ContextOptions(4, 0))
    first = run(follow, applied(controlnet(), images(12)), 12, steps=4)
    assert prepared == {4: 3}
    assert torch.equal(run(follow, applied(controlnet(), images(12)), 12, steps=4), first), "nothing stays for the next"


def test_a_t2i_adapter_runs_once(model):
    adapter = t2i_adapter()
    calls = []
    adapter.t2i_model.register_forward_hook(lambda *args: calls.append(1))
    follow = set_context_options(model, ContextOptions(4, 0))
    run(follow, scheduled(applied(adapter, images(8)), "0: 1, 7: 0.5"), 8, steps=4)
    assert len(calls) == 2, "for each window"


@pytest.mark.parametrize("frames", [4, 8], ids=["whole", "windows"])
def test_a_t2i_adapter_acts_on_batches_of_any_number_of_conds(model, frames, short_memory):
    follow = set_context_options(model, ContextOptions(4, 0))
    positive, negative = applied(t2i_adapter(), images(frames), 20.0)
    early = [-positive[0][0], {**positive[0][1], "start_percent": 0.0, "end_percent": 0.4}]
    conds = [*positive, early], negative
    together = run(follow, conds, frames)
    with short_memory():
        assert relative_error(run(follow, conds, frames), together) < 1e-5


@pytest.mark.parametrize("part_first", [True, False])
def test_parts_of_the_picture_have_hints_of_their_own_size(model, part_first, monkeypatch):
    """Conds of two sizes take turns: what was prepared for one is not taken for the other, nor another frame's hint."""
    follow = set_context_options(model, ContextOptions(4, 0))
    positive, negative = applied(controlnet(), images(8), 0.7)
    part = [positive[0][0], {**positive[0][1], "area": (4, 4, 2, 2), "strength": 1.0}]
    conds = [part, *positive] if part_first else [*positive, part]
    result = run(follow, (conds, negative), 8, steps=3)
    monkeypatch.setattr(Kept, "get", lambda self, key: None)
    assert torch.equal(run(follow, (conds, negative), 8, steps=3), result)
    assert relative_error(run(follow, (positive, negative), 8, steps=3), result) > 1e-4


def test_copies_on_other_cards_get_the_same_rows(model):
    """As the host makes them: a copy holds the whole clip and the schedule, and a worker thread asks the copy."""
    conds = scheduled(applied(controlnet(), images(8), 0.7), "0: 1, 7: 0")
    control = conds[0][0][1]["control"]
    copy = control.copy()
    control.multigpu_clones = {torch.device("cpu", 1): copy}
    assert controls_of([{"control": control}]) == [control, copy]
    seen = []

    def get_control(*args, **kwargs):
        seen.append((copy.cond_hint_original, copy.strength.values))
        assert torch.equal(copy.cond_hint_original, control.cond_hint_original)
        return type(control).get_control(control, *args, **kwargs)

    control.get_control = get_control
    run(set_context_options(model, ContextOptions(4, 0)), conds, 8, steps=1)
    hints = images(8).movedim(-1, 1)
    assert all(torch.equal(hint, hints[4 * i : 4 * i + 4]) for i, (hint, _) in enumerate(seen[:2]))
    assert [values.tolist() for _, values in seen[:2]] == [
        pytest.approx([0.7 * (1 - f / 7) for f in range(4 * i, 4 * i + 4)]) for i in range(2)
    ]
    assert copy.cond_hint_original.shape[0] == 8, "and the whole clip again afterwards"


def test_the_oldest_goes_when_there_is_too_much():
    kept = Kept(limit=100)
    for number in range(4):
        kept.put(number, {"cond_hint": torch.zeros(10)})
    assert [number for number in range(4) if kept.get(number)] == [2, 3]
    kept.put("large", [torch.zeros(1000)])
    assert kept.get("large") and not kept.get(3)

