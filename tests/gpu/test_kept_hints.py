"""ControlNet hints, prepared once in a run and kept where the ControlNet computes."""

from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.controls.kept import Kept
from control_models import applied, controlnet, count_prepared, images, run, scheduled
from host_models import image_model
import pytest

CLIPS = {  # strength by frame, images, context length, and how often the host then resizes how many
    "windows": ("1", 12, 4, {4: 3}),
    "strength by frame": ("0: 1, 5: 0", 1, 16, {6: 1}),
}


@pytest.fixture
def kept_on(monkeypatch):
    """The devices of all hints that are kept from now on."""
    devices = []
    put = Kept.put

    def watched(self, key, value):
        if isinstance(value, dict):  # not the strengths, which find their device themselves
            devices.append(value["cond_hint"].device)
        put(self, key, value)

    monkeypatch.setattr(Kept, "put", watched)
    return devices


@pytest.mark.parametrize("name", CLIPS)
def test_hints_are_prepared_once_and_stay_on_the_card(card, monkeypatch, kept_on, name):
    strength, count, length, times = CLIPS[name]
    model = set_context_options(image_model(device=card), ContextOptions(length, 0))
    prepared = count_prepared(monkeypatch)
    conds = scheduled(applied(controlnet(device=card), images(count)), strength)
    run(model, conds, max(count, 6), steps=4)
    assert prepared == times
    assert {device.type for device in kept_on} == {card.type}
