"""The table of other packs' nodes says for each what stands in its place."""

from animatic_pack import ROOT


def test_no_row_is_empty_or_stands_there_twice():
    lines = (ROOT / "docs" / "other_packs.md").read_text(encoding="ascii").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]
    assert len(rows) == len({name for name, *_ in rows}) == 57
    assert all(len(row) == 3 and all(row) for row in rows)
