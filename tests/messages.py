"""python messages.py: every text that the pack raises, with its place, for whoever reads them all."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import sys

from animatic_pack import ROOT

FOLDERS = ("animate_anyone", "evaluation", "lora", "motion_modules", "nodes", "training")
UNKNOWN = "{...}"  # what only a run can tell


@dataclass(frozen=True)
class Message:
    """text: as a reader sees it, with the expressions of f-strings in braces; "" for an exception without one."""

    place: str
    exception: str
    text: str


def messages() -> Iterator[Message]:
    """Of every `raise` and every exception that is made to be raised elsewhere; not of one that is raised again."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from messages_of(path)


def messages_of(path: Path) -> Iterator[Message]:
    place = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="ascii"))):
        if isinstance(node, ast.Raise | ast.Return):
            made = node.exc if isinstance(node, ast.Raise) else node.value
            if isinstance(made, ast.Call) and isinstance(made.func, ast.Name):
                if isinstance(node, ast.Raise) or made.func.id.endswith("Error"):
                    text = text_of(made.args[0]) if made.args else ""
                    yield Message(f"{place}:{node.lineno}", made.func.id, text)
            elif isinstance(node, ast.Raise) and isinstance(made, ast.Name):
                yield Message(f"{place}:{node.lineno}", made.id, UNKNOWN)


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    if isinstance(node, ast.FormattedValue):
        return "{" + ast.unparse(node.value) + "}"
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return UNKNOWN


if __name__ == "__main__":
    for message in messages():
        sys.stdout.write(f"{message.place} {message.exception}: {message.text}\n")
