"""ComfyUI's own page in headless Chromium, on a served host with small models under the names that templates use."""

import json
import os
from pathlib import Path

from animatic_pack import dev
from api_workflows import WORKFLOWS
import browser_page
import in_process_host
import pytest
from rendering_host import RenderingHost
from served_host import serve
import small_models

in_process_host.make_importable()


def pytest_collection_modifyitems(items):
    missing = browser_page.missing()
    if missing:
        for item in items:
            if item.path.parent.name == "browser":
                item.add_marker(pytest.mark.skip(reason=f"not on this machine: {', '.join(missing)}"))


@pytest.fixture(scope="session")
def host():
    base = dev.base_directory(f"browser{os.environ.get('PYTEST_XDIST_WORKER', '')}")
    small_models.write_demo_models(base / "models")
    (base / "input" / "training_videos").mkdir(parents=True, exist_ok=True)
    put_named_files(base)
    with serve(dev.find_host(), base) as served:
        for name, value in browser_page.SETTINGS.items():
            served.client.post(f"/settings/{name}", value)
        yield RenderingHost(served, base)


def put_named_files(base: Path) -> None:
    """Empty files under all names that the templates' menus show: a page marks what it cannot find."""
    for template in WORKFLOWS.glob("*.json"):
        for node in json.loads(template.read_text(encoding="utf-8"))["nodes"]:
            for name in filter(lambda value: isinstance(value, str), node.get("widgets_values", [])):
                if name.endswith(dev.MODEL_SUFFIXES):
                    folders = [folder for folder in (base / "models").iterdir() if folder.is_dir()]
                elif name.endswith((".mp4", ".png", ".jpg")):
                    folders = [base / "input"]
                else:
                    continue
                for folder in folders:
                    (folder / name).touch()


@pytest.fixture(scope="module")  # while it is open, nothing else in this process can run an event loop
def chromium():
    with browser_page.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def opened_page(host, chromium):
    page = browser_page.open_page(chromium, host.client.url)
    yield page
    page.close()


@pytest.fixture
def page(opened_page):
    """ComfyUI's page, ready, with an empty canvas; `page.errors` is what the console called an error."""
    opened_page.evaluate("() => window.app.graph.clear()")
    opened_page.errors.clear()
    return opened_page
