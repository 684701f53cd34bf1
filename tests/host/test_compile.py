"""Motion under torch.compile, as the stock node TorchCompileModel applies it: counted graphs, results as without."""

from animatic_pack.motion_modules.checkpoint import read_motion_module
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.module import motion_module_from
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from comfy.ldm.modules.attention import attention_pytorch
from comfy_api.torch_helpers import set_torch_compile_wrapper
import host_models
from host_models import image_model, sample
import pytest
from reference import relative_error
from small_models import motion_state_dict
import torch

# One level and one block: a graph takes seconds, and the layers are of the same kinds.
ONE_LEVEL = {
    "channel_mult": [1],
    "num_res_blocks": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
    "transformer_depth_middle": 1,
}
SETTINGS = {
    "whole range": MotionSettings("v3"),
    "second half": MotionSettings("v3", start_percent=0.5),
    "half the effect": MotionSettings("v3", effect=0.5),
}


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setitem(host_models.UNETS, "SD1.5", {**host_models.UNETS["SD1.5"], **ONE_LEVEL})
    torch._dynamo.reset()
    model = image_model()
    # what graphics cards use; the processor's own asks for the free memory in every call, which no graph can hold
    pictures = {"optimized_attention_override": lambda func, *args, **kwargs: attention_pytorch(*args, **kwargs)}
    model.model_options["transformer_options"].update(pictures)
    yield model
    torch._dynamo.reset()


def module_of(name, **options):
    weights = motion_state_dict((host_models.WIDTH,), modules=1, **options)
    return motion_module_from(name, lambda: read_motion_module(weights), ())


@pytest.mark.parametrize("compiled_first", [True, False], ids=["compiled, then applied", "applied, then compiled"])
def test_compiled_is_as_uncompiled_with_one_graph_for_each_kind_of_call(model, compiled_first):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def compiled(model):
        model = model.clone()
        set_torch_compile_wrapper(model=model, backend=backend)
        return model

    def animated(module, settings, compile_it):
        if compile_it and compiled_first:
            return apply_motion_module(compiled(model), module, settings)
        applied = apply_motion_module(model, module, settings)
        return compiled(applied) if compile_it else applied

    def new_graphs(target, expected):
        before = len(graphs)
        assert relative_error(sample(target, steps=4, size=(8, 8)), expected) < 1e-5
        return len(graphs) - before

    plain = sample(model, steps=4, size=(8, 8))
    assert new_graphs(compiled(model), plain) == 1
    v3, v1 = module_of("v3"), module_of("v1", max_frames=24)
    for number, settings in enumerate(SETTINGS.values()):
        expected = sample(animated(v3, settings, False), steps=4, size=(8, 8))
        assert relative_error(expected, plain) > 1e-3
        assert new_graphs(animated(v3, settings, True), expected) <= 1, settings
        assert new_graphs(animated(v3, settings, True), expected) == 0, settings
        if number == 0:
            assert new_graphs(compiled(model), plain) == 0
    norms_over_frames = sample(animated(v1, MotionSettings("v1"), False), steps=4, size=(8, 8))
    assert new_graphs(animated(v1, MotionSettings("v1"), True), norms_over_frames) <= 1
