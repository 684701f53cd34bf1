"""Reads and writes the form that the page saves: nodes with positions and sockets, links by number, subgraphs."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from .graph import REROUTES, Graph, Input, Node, NodeId, Out, Output
from .shape import LINK_NAMES, as_dict, as_list, as_number
from .targets import Target, target

SUBGRAPH_INPUT, SUBGRAPH_OUTPUT = -10, -20  # the node numbers of a subgraph's own sockets in its links
EDGES = (SUBGRAPH_INPUT, SUBGRAPH_OUTPUT)
ROW = 40  # pixels between the titles of folded nodes


def is_canvas(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("nodes"), list)


def parts(content: dict) -> Iterator[tuple[str, dict]]:
    """The workflow itself and every subgraph, each with the name that messages give it."""
    yield "", content
    for one in (content.get("definitions") or {}).get("subgraphs") or []:
        yield f"subgraph '{one.get('name', one.get('id'))}', ", one


def read_part(part: dict) -> Graph:
    """part: one that `check_canvas` let pass."""
    sources = {number: Out(origin, slot) for number, origin, slot, *_ in _links(part)}
    nodes = [_node(raw, sources) for raw in part["nodes"]]
    nodes += _edges(part, sources)
    graph = Graph(nodes)
    read = {source.node for source in sources.values()}
    for node in nodes:
        node.was_linked = node.id in read or any(one.source for one in node.inputs)
    given = (part.get("last_node_id"), as_dict(part.get("state")).get("lastNodeId"))
    graph.highest = max(graph.highest, *map(as_number, given))
    return graph


def _links(part: dict) -> list[tuple[int, NodeId, int, NodeId, int, str]]:
    """All links that go anywhere; the page, too, drops those without a slot."""
    found = map(_link, filter(None, part.get("links") or []))
    return [link for link in found if None not in link[:5] and link[2] >= 0]


def _link(raw: list | dict) -> tuple[int, NodeId, int, NodeId, int, str]:
    """Number, origin and its slot, target and its slot, type: a list in the older schema, names in the newer."""
    values = raw if isinstance(raw, list) else [raw.get(name) for name in LINK_NAMES]
    number, origin, slot, goal, goal_slot, kind = values[: len(LINK_NAMES)]
    return number, origin, slot, goal, goal_slot, kind


def _node(raw: dict, sources: dict[int, Out]) -> Node:
    inputs = [
        Input(one.get("name") or "", str(one.get("type")), sources.get(one.get("link")), one)
        for one in raw.get("inputs") or []
    ]
    outputs = [Output(one.get("name", ""), str(one.get("type")), one) for one in raw.get("outputs") or []]
    return Node(raw["id"], raw.get("type", ""), raw.get("mode", 0), inputs, outputs, raw=raw)


def _edges(part: dict, sources: dict[int, Out]) -> list[Node]:
    """A subgraph's own inputs and outputs, as two nodes."""
    if "inputNode" not in part:
        return []
    into = {slot: number for number, _, _, goal, slot, _ in _links(part) if goal == SUBGRAPH_OUTPUT}
    given = part.get("inputs") or []
    first = Node(SUBGRAPH_INPUT, "", outputs=[Output(one["name"], str(one.get("type")), one) for one in given])
    last = Node(SUBGRAPH_OUTPUT, "")
    for slot, one in enumerate(part.get("outputs") or []):
        number = into.get(slot)
        last.inputs.append(Input(one["name"], str(one.get("type")), sources.get(number), {"link": number}))
    return [first, last]


def write_part(part: dict, graph: Graph) -> dict:
    """The part with the graph's nodes and links in place of its own; untouched nodes stay as they are."""
    part = deepcopy(part)
    old = {_link(raw)[0]: raw for raw in filter(None, part.get("links") or []) if _link(raw)[0] is not None}
    given = (part.get("last_link_id"), as_dict(part.get("state")).get("lastLinkId"))
    links, highest = {}, max([0, *old, *map(as_number, given)])
    for node in graph.nodes.values():
        for place, one in enumerate(node.inputs):
            if one.source is None:
                one.raw = {**one.raw, "link": None}
                continue
            if one.raw.get("link") is None:
                highest += 1
                one.raw = {**one.raw, "link": highest}
            number = one.raw["link"]
            links[number] = (number, *one.source, node.id, place, _kind(graph, one))
    named = "inputNode" in part or any(isinstance(raw, dict) for raw in old.values())
    part["links"] = [_written_link(old.get(number), link, named) for number, link in sorted(links.items())]
    part["nodes"] = [_written_node(node, links, graph) for node in graph.nodes.values() if node.id not in EDGES]
    _write_edges(part, links)
    _write_counts(part, graph.highest, highest)
    _drop_way_points(part, links)
    return part


def _kind(graph: Graph, one: Input) -> str:
    """The type of a link: that of the output it comes from in truth, or else of the input that it goes to."""
    source = graph.origin(one.source) or one.source
    node = graph.nodes.get(source.node)
    outputs = node.outputs if node else []
    return outputs[source.slot].kind if source.slot < len(outputs) else one.kind


def _written_link(old: list | dict | None, link: tuple, named: bool) -> list | dict:
    if not named:
        return list(link)
    return {**as_dict(old), **dict(zip(LINK_NAMES, link, strict=True))}


def _written_node(node: Node, links: dict[int, tuple], graph: Graph) -> dict:
    if node.type in (*REROUTES, "SetNode", "GetNode"):
        _pass_kind_on(node, graph)
    outputs = []
    for slot, one in enumerate(node.outputs):
        readers = [number for number, link in links.items() if (link[1], link[2]) == (node.id, slot)]
        before = one.raw.get("links")
        readers = _in_place(readers, before or [])
        outputs.append({**one.raw, "name": one.name, "type": one.kind, "links": readers or before and []})
    raw = {**node.raw, "id": node.id, "type": node.type, "mode": node.mode}
    if node.inputs or "inputs" in raw:
        raw["inputs"] = [{**one.raw, "name": one.name, "type": one.kind} for one in node.inputs]
    if outputs or "outputs" in raw:
        raw["outputs"] = outputs
    return raw


def _in_place(now: list[int], before: list[int]) -> list[int]:
    """An output's links in their former order, new ones where the first stood that is gone.

    The page makes a Primitive's widget from its first link; where that goes to a node it lacks, the value is NaN.
    """
    gone = next((place for place, number in enumerate(before) if number not in now), len(before))
    new = [number for number in now if number not in before]
    order = [*before[:gone], *new, *before[gone:]]
    return [number for number in order if number in now]


def _pass_kind_on(node: Node, graph: Graph) -> None:
    """What a Reroute, Set or Get node hands on may have another type now."""
    for one in node.inputs:
        if one.source and node.type == "SetNode":
            one.kind = _kind(graph, one)
    source = graph.origin(Out(node.id, 0)) if node.type != "SetNode" else None
    behind = graph.nodes.get(source.node) if source else None
    if behind and node.outputs and source.slot < len(behind.outputs):
        node.outputs[0].kind = behind.outputs[source.slot].kind


def _write_edges(part: dict, links: dict[int, tuple]) -> None:
    if "inputNode" not in part:
        return
    for slot, one in enumerate(part.get("inputs") or []):
        one["linkIds"] = [n for n, link in links.items() if (link[1], link[2]) == (SUBGRAPH_INPUT, slot)]
    for slot, one in enumerate(part.get("outputs") or []):
        one["linkIds"] = [n for n, link in links.items() if (link[3], link[4]) == (SUBGRAPH_OUTPUT, slot)]


def _write_counts(part: dict, node_id: int, link_id: int) -> None:
    """The highest numbers given, under the names of either schema."""
    if "last_node_id" in part or "state" not in part:
        part["last_node_id"], part["last_link_id"] = node_id, link_id
    if "state" in part:
        part["state"] = {**as_dict(part["state"]), "lastNodeId": node_id, "lastLinkId": link_id}


def _drop_way_points(part: dict, links: dict[int, tuple]) -> None:
    """Links that are gone must not be named by the way points that newer pages draw links through."""
    numbers, extra = list(links), as_dict(part.get("extra"))
    for holder in (part, extra):
        for point in map(as_dict, as_list(holder.get("reroutes"))):
            if point.get("linkIds"):
                point["linkIds"] = [number for number in as_list(point["linkIds"]) if number in numbers]
    if extra.get("linkExtensions"):
        extensions = as_list(extra["linkExtensions"])
        extra["linkExtensions"] = [one for one in extensions if as_dict(one).get("id") in numbers]


def finish(node: Node, beside: Node, row: int) -> None:
    """Give a new node what the page wants to know: its sockets, widget values, and a place.

    row: 0 for the one that stands where the old node stood, else how far above it a folded one stands.
    """
    kind = target(node.type)
    x, y = _place(beside.raw.get("pos"))
    node.raw = {
        "pos": [x, y - ROW * row],
        "size": [330, 30 + 26 * len(kind.inputs)],
        "flags": {"collapsed": True} if row else {},
        "order": beside.raw.get("order", 0),
        "properties": {"Node name for S&R": node.type},
        "widgets_values": widget_values(kind, node.values),
    }
    if row == 0 and beside.raw.get("title"):
        node.raw["title"] = beside.raw["title"]


def _place(position: Any) -> tuple[float, float]:
    """Older pages wrote {"0": x, "1": y}."""
    if isinstance(position, dict):
        position = [position.get("0", 0), position.get("1", 0)]
    known = isinstance(position, list) and len(position) > 1 and all(isinstance(one, int | float) for one in position)
    return (position[0], position[1]) if known else (0, 0)


def widget_values(kind: Target, values: dict[str, Any]) -> list:
    """In the page's order, with what it puts behind a seed and an upload."""
    written = []
    for one in kind.inputs:
        if one.is_widget:
            written.append(values.get(one.name, one.default))
            written += ["fixed"] if one.control_after_generate else []
    return written
