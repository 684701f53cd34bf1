"""The nodes of other packs by name, with the widgets and sockets that their rows say."""

from dataclasses import dataclass
import json
import re
from typing import Any

from .old_rows import ROWS


@dataclass(frozen=True)
class OldNode:
    """A node of another pack.

    widgets: name -> default, in the order of the list that old files keep. sockets: other inputs by all their names.
    """

    pack: str
    widgets: dict[str, Any]
    sockets: tuple[str, ...]

    def knows(self, name: str) -> bool:
        return name in self.widgets or name in self.sockets


ALIASES: dict[str, dict[str, str]] = {}  # node -> other name of an input -> the name used here


def _old_node(name: str, pack: str, widgets: str, sockets: str) -> OldNode:
    aliases = ALIASES.setdefault(name, {})
    values = {}
    for row in re.findall(r'(\S+?)=("[^"]*"|\S+)', widgets):
        known, *others = row[0].split("|")
        values[known] = json.loads(row[1])
        aliases.update(dict.fromkeys(others, known))
    plugs = []
    for row in sockets.split():
        known, *others = row.split("|")
        plugs.append(known)
        aliases.update(dict.fromkeys(others, known))
    return OldNode(pack, values, tuple(plugs))


OLD_NODES = {name: _old_node(name, *row) for name, row in ROWS.items()}
SAVED_AS = {"VHS_VideoCombine": {"save_image": "save_output"}}


def usual_name(node_type: str, name: str) -> str:
    return {**ALIASES.get(node_type, {}), **SAVED_AS.get(node_type, {})}.get(name, name)


def default_of(node_type: str, name: str) -> Any:
    """None for a node that is not known, too."""
    return OLD_NODES[node_type].widgets.get(name) if node_type in OLD_NODES else None
