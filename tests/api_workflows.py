"""The shipped workflows in the form that /prompt takes: node id -> {"class_type", "inputs"}."""

import json

from animatic_pack import ROOT

WORKFLOWS = ROOT / "workflows"


def api_workflow(name: str) -> dict:
    return json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8"))


def set_input(workflow: dict, name: str, value) -> None:
    """Wherever a node has an input of that name, unless it is linked to another node."""
    for node in workflow.values():
        if not isinstance(node["inputs"].get(name, []), list):  # a list is a link
            node["inputs"][name] = value
