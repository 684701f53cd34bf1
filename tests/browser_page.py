"""ComfyUI's page in headless Chromium, used as a person uses it: by the browser tests, and for the pictures we ship."""

from collections.abc import Iterator
from contextlib import contextmanager
import importlib.util
import re
import shutil

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MINUTE = 60_000  # milliseconds
SLOW = 3 * MINUTE  # for what is drawn by a processor that has other things to do
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "99.0.0",  # no news of releases over the page
    "Comfy.Workflow.ShowMissingModelsWarning": False,  # small ones stand in for them
    "Comfy.Minimap.Visible": False,
}
PLAYERS = """() => [...document.querySelectorAll("video")].map((v) => ({
  src: v.currentSrc || v.src, paused: v.paused, muted: v.muted, loop: v.loop, time: v.currentTime}))"""
MIDDLE_OF_WIDGET = """([type, name]) => {
  const { ds, canvas } = window.app.canvas, box = canvas.getBoundingClientRect();
  const node = window.app.graph._nodes.find((node) => node.type === type);
  const widget = node.widgets.find((widget) => widget.name === name);
  const place = [node.pos[0] + 0.6 * node.size[0], node.pos[1] + (widget.y ?? widget.last_y) + 10];
  return [box.left + (place[0] + ds.offset[0]) * ds.scale, box.top + (place[1] + ds.offset[1]) * ds.scale]; }"""
WATCH = """() => { window.outcome = "";
  for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
    window.app.api.addEventListener(kind, ({ detail }) => { window.outcome = detail.exception_message ?? kind }) }"""
SET_WIDGETS = """([everywhere, byNode]) => {
  for (const node of window.app.graph._nodes) {
    const values = { ...everywhere, ...byNode[node.id] };
    for (const widget of node.widgets ?? []) {
      if (!(widget.name in values)) continue;
      widget.value = values[widget.name];
      widget.callback?.(widget.value, window.app.canvas, node); } }
  window.app.canvas.setDirty(true, true); }"""


def missing() -> list[str]:
    """What this machine lacks for it."""
    wanted = {
        "Chromium (apt install chromium)": CHROMIUM,
        "playwright": importlib.util.find_spec("playwright"),
        "ComfyUI's page (comfyui_frontend_package)": importlib.util.find_spec("comfyui_frontend_package"),
    }
    return [what for what, there in wanted.items() if not there]


@contextmanager
def chromium() -> Iterator:
    """While it is open, nothing else in this thread can run an event loop."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


def open_page(browser, url: str, width: int = 1600, height: int = 900):
    """The page, ready; `page.errors` is what its console called an error."""
    page = browser.new_page(viewport={"width": width, "height": height})
    page.errors = []
    page.on("console", lambda message: message.type == "error" and page.errors.append(message.text))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")  # of ComfyUI 0.3.75's page
    page.goto(url)
    page.wait_for_function("window.app?.graph && document.querySelector('canvas')", timeout=2 * MINUTE)
    page.wait_for_function("window.app.extensionManager?.spinner !== true", timeout=MINUTE)
    return page


def show_templates(page, name: str):
    """Open the template list and look for a template; the line of it to click."""
    page.evaluate("() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text("ComfyUI-Animatic", exact=True).first.click(timeout=SLOW)  # newer pages keep packs' apart
    page.get_by_placeholder("Search").last.fill(name, timeout=SLOW)
    found = page.get_by_text(re.compile(f"{name.replace('_', '.')}$", re.I)).first
    found.wait_for(timeout=SLOW)
    return found


def wait_for_template(page) -> None:
    page.wait_for_function("window.app.graph._nodes.some((n) => n.type === 'AnimaticVideoCombine')", timeout=MINUTE)


def choose(page, node_type: str, widget: str, value: str) -> None:
    """By mouse, from the widget's menu."""
    page.mouse.click(*page.evaluate(MIDDLE_OF_WIDGET, [node_type, widget]))
    page.locator(".litecontextmenu .litemenu-entry", has_text=value).first.click(timeout=MINUTE)


def set_widgets(page, everywhere: dict, by_node: dict[int, dict] | None = None) -> None:
    """Widgets of these names, in every node or in the node of a number."""
    page.evaluate(SET_WIDGETS, [everywhere, by_node or {}])


def press_run(page) -> None:
    page.evaluate(WATCH)
    for message in page.locator(".p-toast-close-button").all():  # of other things; it lies over the button
        message.click()
    page.get_by_role("button", name=re.compile("^(Run|Queue)$")).first.click(timeout=MINUTE)


def wait_until_played(page, minutes: float) -> None:
    """Until what Run began has ended, and a clip of it plays."""
    page.wait_for_function("window.outcome", timeout=minutes * MINUTE)
    outcome = page.evaluate("window.outcome")
    if outcome != "execution_success":
        raise RuntimeError(f"the page says {outcome}")
    page.wait_for_function(f"({PLAYERS})().some((v) => v.time > 0)", timeout=MINUTE)
