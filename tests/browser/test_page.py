"""What a user sees: templates open, a clip is queued, shows itself on the way, plays, and brings its graph back."""

import base64
from itertools import combinations
import math
from pathlib import Path

from animatic_pack import ROOT
from animatic_pack.migration.migrate import migrate
from browser_page import (
    MINUTE,
    PLAYERS,
    SLOW,
    choose,
    press_run,
    set_widgets,
    show_templates,
    wait_for_template,
    wait_until_played,
)
from old_workflows import controlled_clip, text_to_clip
import pytest

WORKFLOWS = ROOT / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
LOADED = """() => window.app.graph._nodes.map((node) => ({
  type: node.type, known: node.type in LiteGraph.registered_node_types, red: Boolean(node.has_errors),
  left: node.pos[0], right: node.pos[0] + node.size[0],
  top: node.pos[1] - LiteGraph.NODE_TITLE_HEIGHT, bottom: node.pos[1] + node.size[1]}))"""


def open_canvas(page, workflow: dict) -> None:
    page.evaluate("async (workflow) => { await window.app.loadGraphData(workflow) }", workflow)


@pytest.mark.parametrize("name", NAMES)
def test_a_template_opens(page, name):
    """From the address that the template list opens, with all nodes known and nothing red."""
    listed = page.evaluate("async () => (await fetch(`/api/workflow_templates`)).json()")["ComfyUI-Animatic"]
    assert name in listed
    workflow = page.evaluate(
        "async (name) => (await fetch(`/api/workflow_templates/ComfyUI-Animatic/${name}.json`)).json()", name
    )
    open_canvas(page, workflow)
    nodes = page.evaluate(LOADED)
    assert len(nodes) == len(workflow["nodes"])
    virtual = {"MarkdownNote", "Note"}
    assert [node for node in nodes if not node["known"] and node["type"] not in virtual or node["red"]] == []
    assert sorted(node["type"] for node in nodes) == sorted(node["type"] for node in workflow["nodes"])
    assert overlapping(nodes) == []
    assert [error for error in page.errors if "Animatic" in error] == []
    picture = page.evaluate(
        "async (name) => (await fetch(`/api/workflow_templates/ComfyUI-Animatic/${name}.jpg`)).status", name
    )
    assert picture == 200


@pytest.mark.parametrize("old", [text_to_clip, controlled_clip])
def test_a_migrated_workflow_opens(page, old):
    """With all nodes known, and with every number that a Primitive hands on still a number."""
    after, _ = migrate(old())
    open_canvas(page, after)
    nodes = page.evaluate(LOADED)
    assert [node for node in nodes if not node["known"]] == [] and len(nodes) == len(after["nodes"])
    prompt = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    values = [value for node in prompt.values() for value in node["inputs"].values()]
    assert all(math.isfinite(value) for value in values if isinstance(value, float))
    assert [error for error in page.errors if "Animatic" in error] == []


def overlapping(nodes: list[dict]) -> list[tuple[str, str]]:
    return [
        (one["type"], other["type"])
        for one, other in combinations(nodes, 2)
        if max(one["left"], other["left"]) < min(one["right"], other["right"])
        and max(one["top"], other["top"]) < min(one["bottom"], other["bottom"])
    ]


def test_first_video_plays_and_brings_its_graph_back(page, host):
    """As the README shows it: template, checkpoint, motion module, Run; everything on one page, by mouse."""
    previews = []
    page.expose_function("keepPreview", lambda size: previews.append(size))
    page.evaluate(
        """() => window.app.api.addEventListener("b_preview", async ({ detail }) => {
          const picture = await createImageBitmap(detail); window.keepPreview([picture.width, picture.height]) })"""
    )
    show_templates(page, "text_to_animation").click(timeout=SLOW)
    wait_for_template(page)
    choose(page, "CheckpointLoaderSimple", "ckpt_name", "small_sd15.ckpt")
    choose(page, "AnimaticLoadMotionModule", "motion_module", "small_sd15_v3.safetensors")
    set_widgets(page, {"width": 64, "height": 64, "batch_size": 4, "steps": 4})  # for a processor
    shipped = sorted(node["type"] for node in page.evaluate(LOADED))
    press_run(page)
    wait_until_played(page, 2)
    (player,) = page.evaluate(PLAYERS)
    assert player["muted"] and player["loop"] and not player["paused"]
    assert overlapping(page.evaluate(LOADED)) == [], "nodes grow by what they show"
    page.wait_for_timeout(1500)  # the clip lasts half a second
    assert not page.evaluate(PLAYERS)[0]["paused"]
    if previews:  # off by default on some hosts
        assert all(width == height for width, height in previews)
    saved = max((host.base / "output" / "animatic").glob("clip_*.mp4"), key=lambda path: path.stat().st_mtime)
    page.evaluate("() => window.app.graph.clear()")
    drop_file(page, saved)
    page.wait_for_function("window.app.graph._nodes.length > 5", timeout=MINUTE)
    found = sorted(node["type"] for node in page.evaluate(LOADED))
    assert found == shipped
    assert [error for error in page.errors if "Animatic" in error] == []


def drop_file(page, path: Path) -> None:
    """As a user drops a file from a folder on the empty canvas."""
    page.evaluate(
        """([name, type, content]) => {
          const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], name, { type }));
          const canvas = document.querySelector("#graph-canvas") ?? document.querySelector("canvas");
          const box = canvas.getBoundingClientRect();
          const at = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 };
          for (const kind of ["dragover", "drop"])
            canvas.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true, ...at }));
        }""",
        [path.name, "video/mp4", base64.b64encode(path.read_bytes()).decode()],
    )
