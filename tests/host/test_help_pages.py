"""Help pages: what follows from the code stands there as it is now, and the rest is not forgotten."""

from animatic_pack.nodes.registry import NODE_CLASSES
import help_pages
import pytest

SECTIONS = ("## Typical values", "## Common mistakes")


def test_there_is_a_page_for_every_node_and_no_other():
    pages = {path.stem for path in help_pages.PAGES.iterdir()}
    assert sorted(NODE_CLASSES.keys() - pages) == [], "nodes without a help page"
    assert sorted(pages - NODE_CLASSES.keys()) == [], "help pages without a node"


@pytest.mark.parametrize("node_id", NODE_CLASSES)
def test_the_page_says_what_the_code_says(node_id):
    page = (help_pages.PAGES / f"{node_id}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {NODE_CLASSES[node_id][1]}\n")
    assert help_pages.generated(node_id) in page, "run `python dev.py pages`"
    assert help_pages.with_generated(page, node_id) == page


@pytest.mark.parametrize("node_id", NODE_CLASSES)
def test_the_page_says_what_only_people_know(node_id):
    page = (help_pages.PAGES / f"{node_id}.md").read_text(encoding="utf-8")
    words = page.split(help_pages.START)[0].splitlines()[1:]
    assert len(" ".join(words)) > 40, "what the node does stands before its table"
    for section in SECTIONS:
        assert page.count(f"\n{section}\n") == 1 and len(page.split(section)[1].split("## ")[0].strip()) > 7, section


def test_a_drawing_shows_where_links_come_from_and_go():
    assert help_pages.wiring("AnimaticLoadMotionLora")[1:-1] == [
        "Load MotionLoRA -> previous  | Load MotionLoRA |  motion_lora -> Apply Motion Module"
    ]
    lines = help_pages.wiring("AnimaticApplyMotionModule")
    assert len({line.index("|") for line in lines[1:-1]}) == 1
    assert any("Load Motion Module -> motion_module" in line for line in lines)
