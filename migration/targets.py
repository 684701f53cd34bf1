"""What the nodes look like that a migration makes: this pack's and ComfyUI's. A test holds them against the host."""

from dataclasses import dataclass
from functools import cache
import json
from pathlib import Path
from typing import Any

WIDGETS = {"INT", "FLOAT", "BOOLEAN", "STRING", "COMBO", "STRING,FLOAT", "FLOAT,INT"}
FILE = Path(__file__).with_name("targets.json")


@dataclass(frozen=True)
class TargetInput:
    """control_after_generate: the page keeps a second value behind it, which says how a seed goes on."""

    name: str
    kind: str
    default: Any = None
    control_after_generate: bool = False

    @property
    def is_widget(self) -> bool:
        return self.kind in WIDGETS


@dataclass(frozen=True)
class Target:
    inputs: tuple[TargetInput, ...]
    outputs: tuple[tuple[str, str], ...]  # name and type

    def has(self, name: str) -> bool:
        return any(one.name == name for one in self.inputs)


@cache
def targets() -> dict[str, Target]:
    rows = json.loads(FILE.read_text(encoding="ascii"))
    return {
        name: Target(
            tuple(TargetInput(*one[:3], control_after_generate=len(one) > 3) for one in row["inputs"]),
            tuple((name, kind) for name, kind in row["outputs"]),
        )
        for name, row in rows.items()
    }


def target(node_type: str) -> Target:
    return targets()[node_type]
