"""The table of a graphics card in docs/benchmarks.md, between two marks that stand there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import statistics

BEGIN, END = "<!-- graphics card: begin -->", "<!-- graphics card: end -->"
HEAD = (
    "| clip | plain, median (minimum) | with motion, median (minimum) | ratio | motion | its floor | motion / floor |",
    "|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class StepTimes:
    """Seconds of warm steps of a clip without and with motion, and the least that the motion could take.

    floor: the longer of its multiplications at the card's rate and of reading its weights once.
    """

    clip: str
    plain: Sequence[float]
    moving: Sequence[float]
    floor: float

    def row(self) -> str:
        plain, moving = statistics.median(self.plain), statistics.median(self.moving)
        cells = (
            self.clip,
            f"{milliseconds(plain)} ({milliseconds(min(self.plain))})",
            f"{milliseconds(moving)} ({milliseconds(min(self.moving))})",
            f"{moving / plain:.3f}",
            milliseconds(moving - plain),
            milliseconds(self.floor),
            f"{(moving - plain) / self.floor:.2f}",
        )
        return "| " + " | ".join(cells) + " |"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def table_of(machine: str, rows: Sequence[StepTimes]) -> str:
    return "\n".join([machine, "", *HEAD, *(times.row() for times in rows)])


def write_between_marks(path: Path, text: str) -> None:
    """Put a text in the place of what stands between the marks. Raises ValueError where they are missing."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} has no '{BEGIN}' and '{END}' to write between")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
