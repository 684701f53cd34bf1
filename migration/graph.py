"""A workflow as nodes and the outputs that their inputs read, whichever form its file has."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .shape import as_list

NodeId = int | str

NORMAL, MUTED, BYPASSED = 0, 2, 4  # the frontend's numbers for a node's mode
REROUTES = ("Reroute", "Reroute (rgthree)")
PRIMITIVES = ("PrimitiveNode", "PrimitiveInt", "PrimitiveFloat", "PrimitiveString", "PrimitiveBoolean")


class Out(NamedTuple):
    """An output of a node: its number and the output's place, from 0."""

    node: NodeId
    slot: int


@dataclass
class Input:
    """A socket, or a widget that a link has taken the place of. raw: what else the file says of it."""

    name: str
    kind: str
    source: Out | None = None
    raw: dict = field(default_factory=dict)


@dataclass
class Output:
    name: str
    kind: str
    raw: dict = field(default_factory=dict)


class Values(dict):
    """Widget values that know which of them were looked at, so that none is dropped without a word."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)


@dataclass
class Node:
    """One node. values: of its widgets by name, where they are known. raw: its entry in the file, as it was.

    was_linked: whether anything went in or out when the file was read. asked: inputs that were looked at by name.
    """

    id: NodeId
    type: str
    mode: int = NORMAL
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    raw: dict = field(default_factory=dict)
    was_linked: bool = False
    asked: set[str] = field(default_factory=set)

    @property
    def way(self) -> Any:
        """The name by which a Set node and its Get nodes know each other; one without a name knows no other."""
        return (as_list(self.raw.get("widgets_values")) or [object()])[0]

    def input(self, *names: str) -> Input | None:
        """The first linked input of one of these names, which an input had in different releases."""
        self.asked.update(names)
        return next((one for one in self.inputs if one.name in names and one.source), None)

    def source(self, *names: str) -> Out | None:
        found = self.input(*names)
        return found.source if found else None


class Graph:
    """The nodes of a workflow or of one subgraph."""

    def __init__(self, nodes: list[Node], names_outputs: bool = True):
        """names_outputs: whether the file says how outputs are called, as the canvas form does."""
        self.nodes = {node.id: node for node in nodes}
        self.names_outputs = names_outputs
        self.highest = max((int(node.id) for node in nodes if str(node.id).lstrip("-").isdecimal()), default=0)

    def new_id(self) -> NodeId:
        self.highest += 1
        return self.highest if self.names_outputs else str(self.highest)  # the API form's numbers are text

    def readers(self, node_id: NodeId, slot: int | None = None) -> Iterator[tuple[Node, Input]]:
        for node in list(self.nodes.values()):
            for one in node.inputs:
                if one.source and one.source.node == node_id and slot in (None, one.source.slot):
                    yield node, one

    def redirect(self, old: Out, new: Out | None) -> None:
        """Let everything that reads one output read another, or nothing."""
        for _, one in self.readers(*old):
            one.source = new

    def origin(self, source: Out | None) -> Out | None:
        """The output that a link comes from in truth: behind Reroutes and pairs of Set and Get nodes."""
        seen = set()
        while source and source not in seen:
            seen.add(source)
            node = self.nodes.get(source.node)
            if node and node.type in REROUTES:
                source = node.inputs[0].source if node.inputs else None
            elif node and node.type == "GetNode":
                source = self._set_source(node)
            else:
                return source
        return None

    def _set_source(self, get: Node) -> Out | None:
        for node in self.nodes.values():
            if node.type == "SetNode" and node.way == get.way and node.inputs:
                return node.inputs[0].source
        return None

    def node_behind(self, source: Out | None) -> Node | None:
        found = self.origin(source)
        return self.nodes.get(found.node) if found else None

    def constant(self, source: Out | None) -> Any:
        """The value that a Primitive hands over by this link; None if it comes from anything else."""
        node = self.node_behind(source)
        if node is None or node.type not in PRIMITIVES or any(one.source for one in node.inputs):
            return None
        values = as_list(node.raw.get("widgets_values")) or list(node.values.values())
        return values[0] if values else None

    def remove(self, node: Node) -> None:
        """Take a node out; nothing reads it from then on."""
        del self.nodes[node.id]
        for _, one in self.readers(node.id):
            one.source = None

    def sweep(self) -> None:
        """Take out Reroutes, Set and Get nodes that nothing goes into any more, and Primitives nobody reads."""
        gone = True
        while gone:
            gone = [node for node in self.nodes.values() if self._idle(node)]
            for node in gone:
                self.remove(node)

    def _idle(self, node: Node) -> bool:
        """Whether a node that only passes on is left over. One that was idle in the file is not touched."""
        if not node.was_linked:
            return False
        if node.type in (*REROUTES, "SetNode"):
            return not any(one.source for one in node.inputs)
        if node.type == "GetNode":
            return self._set_source(node) is None
        return node.type == "PrimitiveNode" and not any(self.readers(node.id))
