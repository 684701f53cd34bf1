"""Rewrites a workflow file, and says what was replaced, what was lost on the way, and what is left to do by hand."""

import argparse
import json
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
    try:
        content = json.loads(options.workflow.read_text(encoding="utf-8"))
        result, remarks = migrate(content)
        if options.output:
            options.output.write_text(json.dumps(result, indent=2, ensure_ascii=False), encoding="utf-8")
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{options.workflow}: {error}\n")
        return MISTAKE
    sys.stdout.write(report(remarks))
    if options.output:
        sys.stdout.write(f"written: {options.output}\n")
    return SOME_LEFT if any(one.kind in (KEPT, NEVER) for one in remarks) else ALL_REPLACED


def report(remarks: list[Remark]) -> str:
    """All remarks by kind, the ones that ask for work last."""
    if not remarks:
        return "Nothing to do: no node of those packs.\n"
    lines = []
    for kind, title in TITLES.items():
        said = [f"  {one}" for one in remarks if one.kind == kind]
        lines += [f"{title}:", *said] if said else []
    return "\n".join(lines) + "\n"
