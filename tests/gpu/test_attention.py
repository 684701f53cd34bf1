"""Animated clips with each attention that this machine's ComfyUI can use for pictures."""

from functools import partial
import importlib.util

import comfy.ldm.modules.attention as attention
from full_size import animated
from host_models import sample
import pytest
from reference import FP16_BOUND, errors_by_frame

PACKAGES = {"pytorch": "torch", "sage": "sageattention", "flash": "flash_attn", "xformers": "xformers"}
EXACT = "split"  # the host's own matrix products
clip = partial(sample, frames=16, size=(32, 32), steps=2)


def with_attention(monkeypatch, name, model):
    with monkeypatch.context() as patched:
        patched.setattr(attention, "optimized_attention", getattr(attention, f"attention_{name}"))
        return clip(model)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_clip_changes_no_more_than_stills_do(sd15, monkeypatch, name):
    """The motion module's own attention is PyTorch's whatever the user chose; what differs comes from the pictures."""
    if not importlib.util.find_spec(PACKAGES[name]):
        pytest.skip(f"{PACKAGES[name]} is not installed")
    moving = animated(sd15, "v2")
    changed = []
    for model in (sd15, moving):
        expected = with_attention(monkeypatch, EXACT, model)
        changed.append(max(errors_by_frame(with_attention(monkeypatch, name, model), expected)))
    assert changed[1] < 2 * changed[0] + FP16_BOUND
    stills = with_attention(monkeypatch, EXACT, sd15)
    assert min(errors_by_frame(with_attention(monkeypatch, name, moving), stills)) > 2 * changed[1]
