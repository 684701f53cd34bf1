"""What a user sees: templates open, a clip is queued, shows itself on the way, plays, and brings its graph back."""

import base64
import json
from pathlib import Path
import re

from animatic_pack import ROOT
import pytest

WORKFLOWS = ROOT / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
MINUTE = 60_000  # milliseconds
LOADED = """() => window.app.graph._nodes.map((node) => ({
  type: node.type, known: node.type in LiteGraph.registered_node_types, red: Boolean(node.has_errors),
  inputs: (node.inputs ?? []).map((input) => input.name)}))"""
PLAYERS = """() => [...document.querySelectorAll("video")].map((v) => ({
  src: v.currentSrc || v.src, paused: v.paused, muted: v.muted, loop: v.loop, time: v.currentTime}))"""


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
    assert [error for error in page.errors if "Animatic" in error] == []
    picture = page.evaluate(
        "async (name) => (await fetch(`/api/workflow_templates/ComfyUI-Animatic/${name}.jpg`)).status", name
    )
    assert picture == 200


def test_templates_are_in_the_list(page):
    page.evaluate("() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    search = page.get_by_placeholder("Search").last
    search.wait_for(timeout=MINUTE)
    search.fill("text_to_animation")
    page.get_by_text(re.compile("text.to.animation$", re.I)).first.click(timeout=MINUTE)
    page.wait_for_function("window.app.graph._nodes.some((n) => n.type === 'AnimaticVideoCombine')", timeout=MINUTE)
    assert [error for error in page.errors if "Animatic" in error] == []


def test_a_clip_is_queued_shows_itself_plays_and_brings_its_graph_back(page, host):
    """Everything on one page, as it happens to a user."""
    previews = []
    page.expose_function("keepPreview", lambda size: previews.append(size))
    page.evaluate(
        """() => window.app.api.addEventListener("b_preview", async ({ detail }) => {
          const picture = await createImageBitmap(detail); window.keepPreview([picture.width, picture.height]) })"""
    )
    canvas = json.loads((WORKFLOWS / "text_to_animation.json").read_text(encoding="utf-8"))
    values = {
        "CheckpointLoaderSimple": ["small_sd15.ckpt"],
        "AnimaticLoadMotionModule": ["small_sd15_v3.safetensors"],
        "EmptyLatentImage": [64, 64, 4],
    }
    for node in canvas["nodes"]:
        if node["type"] in values:
            kept = node["widgets_values"][len(values[node["type"]]) :]
            node["widgets_values"] = [*values[node["type"]], *kept]
        if node["type"] == "KSampler":
            node["widgets_values"][2] = 4
    open_canvas(page, canvas)
    page.evaluate("async () => { await window.app.queuePrompt(0, 1) }")
    page.wait_for_function(f"({PLAYERS})().some((v) => v.time > 0)", timeout=2 * MINUTE)
    (player,) = page.evaluate(PLAYERS)
    assert player["muted"] and player["loop"] and not player["paused"]
    page.wait_for_timeout(1500)  # the clip lasts half a second
    assert not page.evaluate(PLAYERS)[0]["paused"]
    if previews:  # off by default on some hosts
        assert all(width == height for width, height in previews)
    saved = max((host.base / "output" / "animatic").glob("clip_*.mp4"), key=lambda path: path.stat().st_mtime)
    page.evaluate("() => window.app.graph.clear()")
    drop_file(page, saved)
    page.wait_for_function("window.app.graph._nodes.length > 5", timeout=MINUTE)
    found = sorted(node["type"] for node in page.evaluate(LOADED))
    assert found == sorted(node["type"] for node in canvas["nodes"])
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
