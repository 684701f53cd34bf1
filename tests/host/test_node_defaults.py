"""Nodes that take a MODEL and give one, with what stands in them when they are added: nothing changes.

And what every node refuses before it begins.
"""

import math

from animatic_pack.nodes.context import ContextOptions, WindowReference
from animatic_pack.nodes.guidance import CfgSchedule
from animatic_pack.nodes.noise import FrameNoise
from animatic_pack.nodes.registry import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from host_models import image_model, sample
import pytest
import torch


def defaults(node) -> dict:
    declared = node.INPUT_TYPES()
    inputs = {**declared["required"], **declared.get("optional", {})}
    return {name: options["default"] for name, (_, options) in inputs.items() if "default" in options}


@pytest.mark.parametrize("node", [ContextOptions, WindowReference, CfgSchedule, FrameNoise])
def test_defaults_change_nothing(node):
    model = image_model()
    (changed,) = getattr(node(), node.FUNCTION)(model, **defaults(node))
    assert torch.equal(sample(changed, steps=2, size=(4, 6)), sample(model, steps=2, size=(4, 6)))


@pytest.mark.parametrize("node", [ContextOptions, WindowReference, CfgSchedule, FrameNoise])
def test_no_more_than_twelve_inputs(node):
    assert sum(len(inputs) for inputs in node.INPUT_TYPES().values()) <= 12


def test_workflows_from_before_have_fewer_inputs():
    old = {
        name: value
        for name, value in defaults(ContextOptions).items()
        if name in ContextOptions.INPUT_TYPES()["required"]
    }
    (changed,) = ContextOptions().set(image_model(), **old)
    (now,) = ContextOptions().set(image_model(), **defaults(ContextOptions))
    assert changed.model_options["context_handler"].schedule == now.model_options["context_handler"].schedule


@pytest.mark.parametrize("indexes", ["a", "0, -1", "1.5"])
def test_indexes_are_frames(indexes):
    with pytest.raises(ValueError, match="indexes"):
        WindowReference().set(image_model(), **{**defaults(WindowReference), "indexes": indexes})


@pytest.mark.parametrize("node_id", NODE_CLASS_MAPPINGS)
def test_numbers_that_are_none_are_refused_and_named(node_id):
    node, title = NODE_CLASS_MAPPINGS[node_id], NODE_DISPLAY_NAME_MAPPINGS[node_id]
    for group in ("required", "optional"):
        for name, declared in node.INPUT_TYPES().get(group, {}).items():
            for number in (math.nan, -math.inf) if declared[0] == "FLOAT" else ():
                with pytest.raises(ValueError, match=f"^{title}: {name} is no number"):
                    getattr(node(), node.FUNCTION)(**{name: number})
