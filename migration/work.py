"""What a rule works with: the graph, the old node's values, new nodes in its place, and the list of what is said."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from . import api, canvas
from .graph import BYPASSED, MUTED, Graph, Input, Node, NodeId, Out, Output, Values
from .old_nodes import OLD_NODES, default_of, usual_name
from .old_values import fits, of_their_kinds, read_values
from .targets import target

REPLACED, LOST, KEPT, NEVER = "replaced", "lost", "kept", "never existed"


# settings that only print, show, or say what stock does by itself
UNIMPORTANT = {
    "print_output",
    "print_adjustment",
    "print_keyframes",
    "preview",
    "videopreview",
    "control_after_generate",
    "per_batch",
    "unlimited_area_hack",
    "pix_fmt",
    "end_frame",
    "has_alpha",
    "latent_size",
    "filter",
    "deprecation_warning",
    "t2i_adapter_weights",
    "input_color_depth",
    "bitrate",
    "megabit",
    "dither",
    "index",
    "options",
}


@dataclass(frozen=True)
class Remark:
    """kind: replaced, lost (a setting that has no equal), kept (no equal at all), or never existed in any release."""

    kind: str
    node: NodeId
    type: str
    text: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.where}node {self.node}, {self.type}: {self.text}"


@dataclass
class Work:
    """One graph while it is rewritten."""

    graph: Graph
    where: str = ""
    remarks: list[Remark] = field(default_factory=list)
    used: set[NodeId] = field(default_factory=set)  # old nodes that only carry settings, once their settings are taken
    made: dict[NodeId, int] = field(default_factory=dict)  # old node -> how many new ones stand for it

    def say(self, kind: str, node: Node, text: str) -> None:
        remark = Remark(kind, node.id, node.type, text, self.where)
        if remark not in self.remarks:
            self.remarks.append(remark)

    def lost(self, node: Node, text: str) -> None:
        self.say(LOST, node, text)

    # What the old node holds

    def prepare(self, node: Node) -> None:
        """Name a known old node's values and inputs as its newest release does, and say what no release had."""
        old = OLD_NODES[node.type]
        for one in node.inputs:
            one.name = usual_name(node.type, one.name)
        if self.graph.names_outputs:
            node.values, odd = read_values(node.type, node.raw.get("widgets_values"))
            for text in odd:
                self.lost(node, f"{text}; set them by hand")
            odd = []
        else:
            given = {usual_name(node.type, name): value for name, value in node.values.items()}
            odd = [f"has an input '{name}', which no release had" for name in given if not old.knows(name)]
            node.values = {**old.widgets, **given}
        node.values, wrong = of_their_kinds(node.type, node.values)
        linked = {one.name for one in node.inputs if one.source}
        for name, text in wrong.items():
            if name not in linked:
                self.lost(node, text)
        node.values = Values(node.values)
        unknown = [one.name for one in node.inputs if one.source and not old.knows(one.name)]
        odd += [f"has an input '{name}', which no release had" for name in unknown if "warning" not in name]
        for text in odd:
            self.say(NEVER, node, f"{text}; it is left out")

    def carrier(self, node: Node, *names: str) -> Node | None:
        """The old node that an input takes its settings from; None for none, or if it is muted."""
        one = node.input(*names)
        seen = set()
        while one and one.source:
            found = self.graph.node_behind(one.source)
            if found is None or found.id in seen:
                self.lost(node, f"what comes into {one.name} cannot be followed to its node; set it by hand")
                return None
            seen.add(found.id)
            if found.mode != BYPASSED:
                self.used.add(found.id)
                return None if found.mode == MUTED else found
            self.used.add(found.id)
            one = next((other for other in found.inputs if other.source and other.name.startswith("prev")), None)
        return None

    def chain(self, node: Node, *names: str) -> list[Node]:
        """Carriers that follow each other by an input of the same kind, the earliest first."""
        found = []
        carrier = self.carrier(node, *names)
        while carrier and carrier not in found:
            found.insert(0, carrier)
            previous = [one.name for one in carrier.inputs if one.name.startswith("prev")]
            carrier = self.carrier(carrier, *previous) if previous else None
        return found

    def value(self, node: Node, name: str) -> Any:
        """A widget's value, or what a Primitive puts in its place; None if a link brings anything else."""
        source, kept = self._linked(node, name), node.values.get(name)
        if source is None:
            return kept
        found = self.graph.constant(source)
        return found if fits(found, default_of(node.type, name)) else None

    def setting(self, node: Node, name: str) -> Any:
        """A widget's value, or the output linked in its place, for an input that takes the same."""
        source, kept = self._linked(node, name), node.values.get(name)
        return kept if source is None else source

    def _linked(self, node: Node, name: str) -> Out | None:
        """What comes by a link; None also where it leads to a Reroute that nothing feeds: then the widget counts."""
        return self.graph.origin(node.source(name))

    def only(self, node: Node, usual: dict[str, Any], advice: str = "") -> None:
        """Name every setting that is other than usual, for those that have no equal."""
        for name, expected in usual.items():
            value = self.value(node, name)
            if value != expected and not (value in (None, "") and node.input(name) is None):
                shown = "a link" if value is None else repr(value)
                self.lost(node, f"{name} {shown} has no equal{'; ' + advice if advice else ''}")

    def unlinked(self, node: Node, advice: dict[str, str]) -> None:
        """Name every linked input that has no equal, with what to do instead."""
        for name, text in advice.items():
            if node.input(name):
                found = self.graph.node_behind(node.source(name))
                if found:
                    self.used.add(found.id)
                self.lost(node, f"{name} has no equal: {text}")

    # What stands in its place

    def add(self, node_type: str, old: Node, primary: bool = False, **given: Any) -> Out:
        """A new node for an old one; primary: the one that takes its number. given: values, or outputs to link to.

        The old node must be taken out by `finish`. Returns the new node's first output.
        """
        kind = target(node_type)
        self.made[old.id] = self.made.get(old.id, 0) + 1
        new = Node(("new", old.id) if primary else self.graph.new_id(), node_type, old.mode)
        for one in kind.inputs:
            value = given.pop(one.name, None)
            if isinstance(value, Out):
                raw = {"widget": {"name": one.name}} if one.is_widget else {}
                new.inputs.append(Input(one.name, one.kind, value, raw))
            elif not one.is_widget:
                new.inputs.append(Input(one.name, one.kind))
            elif value is not None:
                new.values[one.name] = value
        if given:
            raise ValueError(f"{node_type} has no input {sorted(given)}")
        new.outputs = [Output(name, socket) for name, socket in kind.outputs]
        if self.graph.names_outputs:
            canvas.finish(new, old, 0 if primary else self.made[old.id])
        else:
            new.inputs = [one for one in new.inputs if one.source]
            api.finish(new, old, primary)
        self.graph.nodes[new.id] = new
        return Out(new.id, 0)

    def name_rest(self, old: Node) -> None:
        """Name the settings of an old node that no rule looked at: never a loss without a word."""
        usual = OLD_NODES[old.type].widgets
        for name in usual:
            value = dict.get(old.values, name)
            if name not in old.values.asked and name not in UNIMPORTANT and value not in (usual[name], None, ""):
                self.lost(old, f"{name} {value!r} has no equal")
        for one in old.inputs:
            if one.source and one.name not in old.asked and one.name not in UNIMPORTANT:
                self.lost(old, f"what comes into {one.name} has no equal")

    def finish(self, old: Node, outputs: dict[int, Out | None], names: Iterable[str] = ()) -> None:
        """Let readers of the old node's outputs read the new ones, and give its number to the primary new node."""
        self.name_rest(old)
        for slot in {one.source.slot for _, one in self.graph.readers(old.id)}:
            if outputs.get(slot) is None:
                readers = ", ".join(f"{node.id} ({node.type})" for node, _ in self.graph.readers(old.id, slot))
                self.lost(old, f"output {slot} has no equal; connect anew what read it: {readers}")
            self.graph.redirect(Out(old.id, slot), outputs.get(slot))
        self.graph.remove(old)
        primary = self.graph.nodes.get(("new", old.id))
        new_types = list(names)
        if primary:
            self._take_number(primary, old.id)
            new_types = [primary.type, *new_types]
        self.say(REPLACED, old, " + ".join(new_types) if new_types else "not needed any more")

    def _take_number(self, primary: Node, number: NodeId) -> None:
        for _, one in self.graph.readers(primary.id):
            one.source = Out(number, one.source.slot)
        del self.graph.nodes[primary.id]
        primary.id = number
        self.graph.nodes[number] = primary
