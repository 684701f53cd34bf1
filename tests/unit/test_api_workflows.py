"""Inputs of a workflow, set by name."""

from api_workflows import set_input


def test_links_between_nodes_are_not_overwritten():
    workflow = {"1": {"inputs": {"model": "a"}}, "2": {"inputs": {"model": ["1", 0]}}}
    set_input(workflow, "model", "b")
    assert workflow == {"1": {"inputs": {"model": "b"}}, "2": {"inputs": {"model": ["1", 0]}}}
