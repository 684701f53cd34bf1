"""Rewrites a workflow file, and says what was replaced, what was lost on the way, and what is left to do by hand."""

import argparse
import json
import os
from pathlib import Path
import sys

from .migrate import KEPT, LOST, NEVER, REPLACED, Remark, migrate

TITLES = {
    REPLACED: "Replaced",
    LOST: "Replaced, but these settings have no equal",
    KEPT: "Not replaced",
    NEVER: "In no release of those packs: as it stands, this workflow cannot have run",
}
ALL_REPLACED, MISTAKE, SOME_LEFT = 0, 1, 2


def main(arguments: list[str]) -> int:
    """The exit code: 0 if no node of those packs is left, 2 if some are, 1 for a file that cannot be migrated."""
    parser = argparse.ArgumentParser(
        prog="python -m migration",
        description="Write a workflow of AnimateDiff-Evolved, VideoHelperSuite, Advanced-ControlNet, FizzNodes or "
        "ArtVentureX anew for this pack and stock ComfyUI.",
    )
    parser.add_argument("workflow", type=Path, help="a .json file, as the page saves it or in API form")
    parser.add_argument(
        "output", type=Path, nargs="?", help="the file to write; without it, only what would be done is shown"
    )
    options = parser.parse_args(arguments)
    sys.stdout.reconfigure(errors="backslashreplace")  # a Windows pipe takes few letters, a node's title may have any
    try:
        content = json.loads(options.workflow.read_text(encoding="utf-8-sig"))
        result, remarks = migrate(content)
        if options.output:
            write(options.output, result)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{options.workflow}: {error}\n")
        return MISTAKE
    sys.stdout.write(report(remarks))
    if options.output:
        sys.stdout.write(f"written: {options.output}\n")
    return SOME_LEFT if any(one.kind in (KEPT, NEVER) for one in remarks) else ALL_REPLACED


def write(path: Path, workflow: dict) -> None:
    """Whole or not at all: it may be the very file that was read."""
    part = path.with_name(f".{path.name}.part")
    text = json.dumps(workflow, indent=2, ensure_ascii=False)
    try:
        part.write_bytes(text.encode("utf-8", "backslashreplace"))  # for half an emoji, JSON's own way to write it
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def report(remarks: list[Remark]) -> str:
    """All remarks by kind, the ones that ask for work last."""
    if not remarks:
        return "Nothing to do: no node of those packs.\n"
    lines = []
    for kind, title in TITLES.items():
        said = [f"  {one}" for one in remarks if one.kind == kind]
        lines += [f"{title}:", *said] if said else []
    return "\n".join(lines) + "\n"
