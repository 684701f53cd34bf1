"""A workflow in, the same for this pack and stock ComfyUI out, and a remark for every node that was touched."""

from functools import cache
from pathlib import Path
from typing import Any

from . import api, canvas
from .controls import after_stock
from .graph import NORMAL, Graph, Node
from .old_nodes import OLD_NODES
from .rules import ADVICE, CARRIED, RULES, STOCK_APPLY
from .shape import as_dict, as_list, check_canvas
from .work import KEPT, LOST, NEVER, REPLACED, Remark, Work

PREFIXES = ("ADE_", "ACN_", "VHS_")
# names that shared workflows have and no pack had
UNKNOWN = {"AnimateDiffLoaderWithContext", "AnimateDiffModelLoader", "AnimateDiffUniformContextOptions"}
NOT_A_WORKFLOW = (
    "This is no ComfyUI workflow: neither a page's file with 'nodes' nor the API form with a class_type for each node."
)


def migrate(content: Any) -> tuple[dict, list[Remark]]:
    """The workflow rewritten, and what was done. The content itself is not changed.

    Where nothing was to do, the result is equal to what came in. Raises ValueError if it is no workflow, or damaged.
    """
    if canvas.is_canvas(content):
        return _migrate_canvas(content)
    if not api.is_api(content):
        raise ValueError(NOT_A_WORKFLOW)
    if api.is_damaged(content):
        raise ValueError("The workflow is damaged: a node's class_type is no text, or its inputs have no names.")
    graph = api.read_api(content)
    remarks = rewrite(graph)
    return (api.write_api(graph) if _any_done(remarks) else content), remarks


def _migrate_canvas(content: dict) -> tuple[dict, list[Remark]]:
    check_canvas(content)
    remarks: list[Remark] = []
    written = {}
    for where, part in canvas.parts(content):
        graph = canvas.read_part(part)
        said = rewrite(graph, where)
        remarks += said
        if _any_done(said):
            written[id(part)] = canvas.write_part(part, graph)
    remarks += _group_nodes(content)
    if not written:
        return content, remarks
    result = dict(written.get(id(content), content))
    if content.get("definitions"):
        parts = [written.get(id(one), one) for one in content["definitions"].get("subgraphs") or []]
        result["definitions"] = {**content["definitions"], "subgraphs": parts}
    return result, remarks


def _any_done(remarks: list[Remark]) -> bool:
    return any(one.kind == REPLACED for one in remarks)


def _group_nodes(content: dict) -> list[Remark]:
    """Nodes inside the page's old group nodes, which hold no numbers of their own."""
    groups = as_dict(as_dict(content.get("extra")).get("groupNodes"))
    inside = [
        (name, as_dict(node).get("type"))
        for name, group in groups.items()
        for node in as_list(as_dict(group).get("nodes"))
    ]
    return [
        Remark(KEPT, name, node_type, "stands in a group node: ungroup it on the page (right click), then migrate")
        for name, node_type in inside
        if isinstance(node_type, str) and node_type in OLD_NODES
    ]


def rewrite(graph: Graph, where: str = "") -> list[Remark]:
    """Replace what has an equal, in place. Returns what was replaced, lost and kept."""
    work = Work(graph, where)
    for node in graph.nodes.values():
        if node.type in OLD_NODES:
            work.prepare(node)
    for node in [one for one in graph.nodes.values() if one.type in STOCK_APPLY]:
        after_stock(work, node)
    for node_type, rule in RULES.items():
        for node in [one for one in graph.nodes.values() if one.type == node_type]:
            rule.run(work, node)
    _take_out_carriers(work)
    _name_what_stays(work)
    graph.sweep()
    return work.remarks


def _take_out_carriers(work: Work) -> None:
    """Carriers that nothing reads any more; each may have been the last reader of another."""
    gone = True
    while gone:
        gone = [node for node in work.graph.nodes.values() if node.type in CARRIED and not _read(work.graph, node)]
        for node in gone:
            taken = CARRIED[node.type] if node.id in work.used else ""
            text = (
                f"its settings went to {taken.replace(' ', ', ')}" if taken else "taken out: nothing takes its settings"
            )
            if node.id in work.used and node.mode == NORMAL:
                work.name_rest(node)
            if node.mode != NORMAL:
                text = "taken out: it was muted or bypassed"
            work.say(REPLACED, node, text)
            work.graph.remove(node)


def _read(graph: Graph, node: Node) -> bool:
    """Whether anything but idle ways still reads this node."""
    return any(
        not (reader.type in ("Reroute", "SetNode") and _idle(graph, reader)) for reader, _ in graph.readers(node.id)
    )


def _idle(graph: Graph, way: Node) -> bool:
    if way.type == "SetNode":
        gets = [node for node in graph.nodes.values() if node.type == "GetNode" and node.way == way.way]
        return not any(True for get in gets for _ in graph.readers(get.id)) and not any(graph.readers(way.id))
    return all(reader.type == "Reroute" and _idle(graph, reader) for reader, _ in graph.readers(way.id))


def _name_what_stays(work: Work) -> None:
    for node in work.graph.nodes.values():
        if node.type in ADVICE or (node.type in OLD_NODES and not _said_kept(work, node)):
            advice = ADVICE.get(
                node.type, "nothing that has an equal reads it; take it out, or see docs/other_packs.md"
            )
            work.say(KEPT, node, advice)
        elif (str(node.type).startswith(PREFIXES) or node.type in UNKNOWN) and not _said_kept(work, node):
            known = node.type in released()
            text = "has no equal; see docs/other_packs.md" if known else "no release has such a node: this never ran"
            work.say(KEPT if known else NEVER, node, text)


def _said_kept(work: Work, node: Node) -> bool:
    return any(one.node == node.id and one.kind == KEPT for one in work.remarks)


@cache
def released() -> frozenset[str]:
    """Every node name that AnimateDiff-Evolved, Advanced-ControlNet and VideoHelperSuite ever released."""
    return frozenset(Path(__file__).with_name("released.txt").read_text(encoding="ascii").split())


__all__ = ["KEPT", "LOST", "NEVER", "NOT_A_WORKFLOW", "REPLACED", "migrate"]
