"""Reads and writes the form that /prompt takes: node number -> class_type and inputs, a link being [number, slot]."""

from typing import Any

from .graph import Graph, Input, Node, Out
from .shape import as_dict
from .targets import target


def is_api(content: Any) -> bool:
    nodes = content.values() if isinstance(content, dict) else ()
    return bool(nodes) and all(isinstance(node, dict) and "class_type" in node for node in nodes)


def is_damaged(content: dict) -> bool:
    """Whether a node has no name for its class, or anything but inputs by name."""
    return not all(
        isinstance(node["class_type"], str | None) and isinstance(node.get("inputs") or {}, dict)
        for node in content.values()
    )


def is_link(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 2):
        return False
    number, slot = value
    return isinstance(number, str) and isinstance(slot, int) and slot >= 0


def read_api(content: dict) -> Graph:
    nodes = []
    for node_id, raw in content.items():
        given = raw.get("inputs") or {}
        inputs = [Input(name, "", Out(*value)) for name, value in given.items() if is_link(value)]
        values = {name: value for name, value in given.items() if not is_link(value)}
        nodes.append(Node(node_id, raw["class_type"], inputs=inputs, values=values, raw=raw))
    graph = Graph(nodes, names_outputs=False)
    for node in nodes:
        node.was_linked = bool(node.inputs) or any(graph.readers(node.id))
    return graph


def write_api(graph: Graph) -> dict:
    written = {}
    for node in graph.nodes.values():
        links = {one.name: list(one.source) for one in node.inputs if one.source}
        inputs = {name: value for name, value in node.values.items() if name not in links}
        written[node.id] = {**node.raw, "inputs": {**inputs, **links}, "class_type": node.type}
    return written


def finish(node: Node, beside: Node, first: bool) -> None:
    """Give a new node all values that the host asks for."""
    linked = {one.name for one in node.inputs if one.source}
    for one in target(node.type).inputs:
        if one.is_widget and one.name not in linked:
            node.values.setdefault(one.name, one.default)
    meta = as_dict(beside.raw.get("_meta"))
    node.raw = {"_meta": dict(meta)} if meta and first else {}
