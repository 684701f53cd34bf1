"""Hints that are prepared once in a run, and ControlNets with copies on several graphics cards."""

from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.controls import strength
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


def test_what_has_no_room_is_not_kept_and_the_rest_stays_for_the_next_step():
    kept = Kept(limit=100)
    for _ in range(2):
        for number in range(4):
            kept.put(number, {"cond_hint": torch.zeros(10)})
    assert [number for number in range(4) if kept.get(number)] == [0, 1]
    kept.put(0, [torch.zeros(1000)])
    assert not kept.get(0), "an older one of that name is no longer right"
    alone = Kept(limit=100)
    alone.put("large", [torch.zeros(1000)])
    assert alone.get("large")


def test_windows_beyond_the_room_leave_the_others_as_they_are(model, prepared, monkeypatch):
    one = 4 * 3 * 48 * 64 * 4  # bytes of a window's hints
    monkeypatch.setattr(Kept.__init__, "__defaults__", (2 * one,))
    run(set_context_options(model, ContextOptions(4, 0)), applied(controlnet(), images(12)), 12, steps=4)
    assert prepared == {4: 2 + 4}, "two windows once, the third at each step"


def test_factors_by_frame_are_made_once_in_a_run(model, monkeypatch):
    """A ControlNet gives thirteen tensors, of four sizes here and of a vector none."""
    made = []
    interpolate = torch.nn.functional.interpolate

    def counted(value, size=None, **options):
        made.extend([tuple(size)] * (value.shape[1] == 1))
        return interpolate(value, size, **options)

    monkeypatch.setattr(strength.nn.functional, "interpolate", counted)
    conds = scheduled(applied(controlnet(), images()), "0: 1, 5: 0", mask=torch.rand(6, 48, 64))
    run(set_context_options(model, ContextOptions()), conds, steps=3)
    assert sorted(made) == [(1, 1), (2, 2), (3, 4), (6, 8)]


def test_factors_are_where_the_hints_are():
    """Where several cards share a step, a worker's tensors are on its own."""
    rows = strength.RowStrength(torch.ones(6), False, (torch.rand(6, 1, 48, 64),))
    assert (torch.empty(12, 4, 6, 8, device="meta") * rows).shape == (12, 4, 6, 8)

