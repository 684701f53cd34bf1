"""Nodes that take a MODEL and give one, with what stands in them when they are added: nothing changes.

And what every node refuses before it begins.
"""

import math

from animatic_pack.nodes import registry
from animatic_pack.nodes.context import ContextOptions, WindowReference
from animatic_pack.nodes.guidance import CfgSchedule
from animatic_pack.nodes.noise import FrameNoise
from animatic_pack.nodes.registry import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from host_models import image_model, sample
import numpy
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


REFUSED = [
    ("AnimaticVideoCombine", "frame_rate", 0, "is 0, but has to be 0.1 or more"),
    ("AnimaticVideoCombine", "frame_rate", None, "got nothing by its link"),
    ("AnimaticVideoCombine", "frame_rate", "8", r"is no number \('8'\)"),
    ("AnimaticApplyAnimateAnyone", "clip_vision", None, "got nothing by its link"),
    ("AnimaticVideoCombine", "format", "video/mp4", "has no choice 'video/mp4'; there are video/h264-mp4, "),
    ("AnimaticVideoCombine", "filename_prefix", 7, r"is no text \(7\)"),
    ("AnimaticPreviewContext", "num_frames", 0, "is 0, but has to be 1 or more"),
    ("AnimaticContactSheet", "every_nth", 0, "is 0, but has to be 1 or more"),
    ("AnimaticFrameNumbers", "num_frames", 16.5, r"is no whole number \(16.5\)"),
    ("AnimaticFrameNumbers", "curve", "bent", "has no choice 'bent'; there are linear, "),
    ("AnimaticStartFromImage", "image", torch.zeros(0, 8, 8, 3), "holds no pictures"),
    ("AnimaticControlStrength", "effect_mask", torch.zeros(0, 8, 8), "holds no pictures"),
]


@pytest.mark.parametrize("node_id, name, value, words", REFUSED, ids=lambda value: str(value)[:20])
def test_what_only_a_link_can_bring_is_refused_and_named(node_id, name, value, words):
    """The host compares what is typed with an input's limits and choices, and nothing that comes by a link."""
    node, title = NODE_CLASS_MAPPINGS[node_id], NODE_DISPLAY_NAME_MAPPINGS[node_id]
    with pytest.raises(ValueError, match=f"^{title}: {name} {words}.* Look at the node that it comes from"):
        getattr(node(), node.FUNCTION)(**{name: value})


def test_video_combine_says_which_shape_images_have():
    node = NODE_CLASS_MAPPINGS["AnimaticVideoCombine"]
    with pytest.raises(ValueError, match="images of four dimensions .*, not of 3"):
        node().combine(images=torch.zeros(8, 8, 3), **defaults(node))


def test_numbers_of_other_libraries_and_beyond_the_usual_range_pass():
    problem = registry.problem_of
    assert not problem(numpy.int64(3), "INT", {"min": 1}) and not problem(numpy.float32(0.5), "FLOAT", {"min": 1.0})
    assert not problem(-2.0, "FLOAT", {"min": 0.0}) and not problem(10**6, "INT", {"min": 1, "max": 10})
