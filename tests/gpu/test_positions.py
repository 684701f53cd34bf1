"""Position tables and everything else of motion that could be copied to the card anew at every call of the UNet."""

from collections import Counter

from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from device_copies import DeviceCopies
from host_models import CHANNELS, image_model, motion_module_of, sample
import pytest
import torch

MAX_FRAMES = 31  # a size that nothing else has


@pytest.fixture(scope="module")
def models(card):
    plain = image_model(dtype=torch.float16, device=card)
    sample(plain, steps=1)  # first, or the host leaves its noise schedule behind when it loads the model for motion
    module = motion_module_of("v2", dtype=torch.float16, modules=2, mid=True, max_frames=MAX_FRAMES)
    return plain, apply_motion_module(plain, module, MotionSettings("v2"))


def copies_of_a_run(model, steps):
    sample(model, steps=1)  # what is loaded now is not copied in the run
    with DeviceCopies() as copies:
        sample(model, steps=steps)
    return copies.counts


def test_tables_are_copied_once_in_a_run(models, card):
    counts = copies_of_a_run(models[1], steps=6)
    tables = {width: counts["cpu", card.type, (MAX_FRAMES, width)] for width in set(CHANNELS["SD1.5"])}
    assert max(tables.values()) <= 1, tables


def test_motion_copies_nothing_at_each_step(models):
    """What six steps copy beyond three is what the plain model's own steps copy."""
    plain, moving = ([by_dimensions(copies_of_a_run(model, steps)) for steps in (3, 6)] for model in models)
    assert moving[1] - moving[0] == plain[1] - plain[0]


def by_dimensions(counts: Counter) -> Counter:
    """By how many dimensions, not by shapes: a run's noise levels are as many as its steps, and are read once."""
    found = Counter()
    for (source, goal, shape), count in counts.items():
        found[source, goal, len(shape)] += count
    return found
