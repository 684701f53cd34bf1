"""Motion under torch.compile, as the stock node TorchCompileModel applies it: counted graphs, results as without."""

from contextlib import nullcontext
from functools import partial

from animate_models import animate, pictures, reference, vae
from animatic_pack.nodes.host.core import attached
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.nodes.host.reference.load import LoadedReferenceNet
from animatic_pack.nodes.host.reference.picture_only import PictureReference, apply_reference_picture
from comfy.ldm.modules.attention import attention_pytorch
from host_models import WIDTH, motion_module_of, sample
from one_level import animated_and_compiled, compiled, one_level_model
import pytest
from reference import relative_error
import torch

SETTINGS = {
    "whole range": MotionSettings("v3"),
    "second half": MotionSettings("v3", start_percent=0.5),
    "half the effect": MotionSettings("v3", effect=0.5),
}


@pytest.fixture
def model(monkeypatch):
    torch._dynamo.reset()
    model = one_level_model(monkeypatch)
    # what graphics cards use; the processor's own asks for the free memory in every call, which no graph can hold
    pictures = {"optimized_attention_override": lambda func, *args, **kwargs: attention_pytorch(*args, **kwargs)}
    model.model_options["transformer_options"].update(pictures)
    yield model
    torch._dynamo.reset()


def test_a_python_that_hides_motion_from_compiled_models_is_refused(monkeypatch, model):
    monkeypatch.setattr(attached, "HIDES_CHANGES", True)
    v3 = motion_module_of("v3", (WIDTH,))
    for compiled_first in (True, False):
        with pytest.raises(RuntimeError, match="3.13.1 or newer"):
            sample(animated_and_compiled(model, v3, MotionSettings("v3"), "eager", compiled_first))
    sample(apply_motion_module(model, v3, MotionSettings("v3")))


@pytest.mark.skipif(attached.HIDES_CHANGES, reason="refused on Python 3.13.0")
@pytest.mark.parametrize("compiled_first", [True, False], ids=["compiled, then applied", "applied, then compiled"])
def test_compiled_is_as_uncompiled_with_one_graph_for_each_kind_of_call(model, compiled_first):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def animated(module, settings):
        return animated_and_compiled(model, module, settings, backend, compiled_first)

    def new_graphs(target, expected):
        before = len(graphs)
        assert relative_error(sample(target, steps=4, size=(8, 8)), expected) < 1e-5
        return len(graphs) - before

    plain = sample(model, steps=4, size=(8, 8))
    assert new_graphs(compiled(model, backend), plain) == 1
    v3, v1 = motion_module_of("v3", (WIDTH,)), motion_module_of("v1", (WIDTH,), max_frames=24)
    for number, settings in enumerate(SETTINGS.values()):
        expected = sample(apply_motion_module(model, v3, settings), steps=4, size=(8, 8))
        assert relative_error(expected, plain) > 1e-3
        assert new_graphs(animated(v3, settings), expected) <= 1, settings
        assert new_graphs(animated(v3, settings), expected) == 0, settings
        if number == 0:
            assert new_graphs(compiled(model, backend), plain) == 0
    norms_over_frames = sample(apply_motion_module(model, v1, MotionSettings("v1")), steps=4, size=(8, 8))
    assert new_graphs(animated(v1, MotionSettings("v1")), norms_over_frames) <= 1


def reference_net(monkeypatch) -> LoadedReferenceNet:
    return LoadedReferenceNet("reference_unet.pth", one_level_model(monkeypatch, seed=9))


@pytest.mark.skipif(attached.HIDES_CHANGES, reason="refused on Python 3.13.0")
@pytest.mark.parametrize("together", [True, False], ids=["conds together", "conds one by one"])
@pytest.mark.parametrize("kind", ["Animate Anyone", "Reference Image", "both"])
def test_a_compiled_model_shows_a_reference_to_the_conds_that_see_it(model, monkeypatch, short_memory, kind, together):
    """Which cond a call runs is in the host's options, whose guards the stock node switches off."""
    referring = model
    if kind != "Reference Image":
        referring = animate(referring, reference(reference_net(monkeypatch), vae(), pictures()))
    if kind != "Animate Anyone":
        referring = apply_reference_picture(referring, PictureReference(pictures(seed=4), vae(), fidelity=0.5))
    run = partial(sample, steps=3, size=(8, 8))
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    with nullcontext() if together else short_memory():
        expected = run(referring)
        assert relative_error(expected, run(model)) > 1e-3
        assert relative_error(run(compiled(referring, backend)), expected) < 1e-5
        seen = len(graphs)
        assert relative_error(run(compiled(referring, backend), steps=4), run(referring, steps=4)) < 1e-5
        assert len(graphs) == seen <= 4
