"""The table of a graphics card, and where it is written."""

from animatic_pack import ROOT
from card_table import BEGIN, END, StepTimes, table_of, write_between_marks
import pytest


def test_a_row_sets_the_motion_part_against_its_floor():
    times = StepTimes("v2, 512 x 512", (0.2, 0.1, 0.3), (0.25, 0.24, 0.26), floor=0.025)
    assert times.row() == (
        "| v2, 512 x 512 | 200.0 ms (100.0 ms) | 250.0 ms (240.0 ms) | 1.250 | 50.0 ms | 25.0 ms | 2.00 |"
    )
    head, columns, row = table_of("a card", [times]).splitlines()[2:]
    assert head.count("|") == columns.count("|") == row.count("|")


def test_a_table_takes_the_place_of_the_last_one(tmp_path):
    path = tmp_path / "benchmarks.md"
    path.write_text((ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8"), encoding="utf-8")
    for text in ("first", "second"):
        write_between_marks(path, text)
    written = path.read_text(encoding="utf-8")
    assert f"{BEGIN}\n\nsecond\n\n{END}\n" in written and "first\n\n" + END not in written
    assert written.startswith("# Benchmarks\n") and written.count(BEGIN) == written.count(END) == 1
    path.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="benchmarks.md has no"):
        write_between_marks(path, "third")
