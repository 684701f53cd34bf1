"""The shipped workflows' files: inputs set by name, and an id for each."""

from collections import defaultdict
import json

from api_workflows import WORKFLOWS, set_input


def test_links_between_nodes_are_not_overwritten():
    workflow = {"1": {"inputs": {"model": "a"}}, "2": {"inputs": {"model": ["1", 0]}}}
    set_input(workflow, "model", "b")
    assert workflow == {"1": {"inputs": {"model": "b"}}, "2": {"inputs": {"model": ["1", 0]}}}


def test_every_template_has_an_id_of_its_own():
    """The page tells the workflows in its tabs apart by them."""
    names = defaultdict(list)
    for path in sorted(WORKFLOWS.glob("*.json")):
        names[json.loads(path.read_text(encoding="utf-8"))["id"]].append(path.name)
    assert len(names) > 10 and not [alike for alike in names.values() if len(alike) > 1]
