"""python draw_pictures.py BASE [NAME ...]: take the templates' pictures and the README's in ComfyUI's page.

BASE is a folder as dev.py makes it. The small world renders what is seen; templates whose models it lacks keep their
pictures. Names: of templates, or first_video for the README's.
"""

import io
from pathlib import Path
import shutil
import sys

from animatic_pack import ROOT, dev
from animatic_pack.evaluation.world.drawing import draw
from animatic_pack.evaluation.world.files import write_models
from animatic_pack.evaluation.world.scenes import Scene
from animatic_pack.nodes.media.contact_sheet import contact_sheet
from animatic_pack.nodes.media.decode import Selection, probe, read_frames
import browser_page
import numpy as np
from PIL import Image
from served_host import serve
import small_inputs
import torch

FIRST_VIDEO = "first_video"
WORLD = {  # what the small world was trained on, in all widgets of these names
    "ckpt_name": "small_world.ckpt",
    "motion_module": "small_world.safetensors",
    "domain_adapter": "small_world_domain_adapter.safetensors",
    "lora_name": "small_world_domain_adapter.safetensors",
    "image": "scene.png",
    "video": "scene.mp4",
    "width": 128,
    "height": 128,
    "batch_size": 8,
    "frame_load_cap": 8,
    "steps": 12,
    "cfg": 3.0,
    "context_length": 8,
    "context_overlap": 2,
}
COMET, GROUND, NOTHING = {"text": "a red comet moving up over forest"}, {"text": "desert"}, {"text": ""}
TEMPLATES = {  # and in the widgets of these nodes
    "text_to_animation": {4: COMET, 5: NOTHING},
    "domain_adapter": {4: COMET, 5: NOTHING},
    "image_to_animation": {
        4: {"text": "a magenta fish moving left over desert"},
        5: NOTHING,
        11: {"image_weight": "0: 0.05, 7: 0.003"},
    },
    "video_to_video": {4: {"text": "a yellow comet moving right over dusk"}, 5: NOTHING, 7: {"denoise": 0.75}},
    "prompt_travel_loop": {
        6: {"batch_size": 24},
        11: {
            "prompts": "\n".join(
                f"{frame}: a {colour} comet moving right over {ground}"
                for frame, colour, ground in (
                    (0, "red", "night"),
                    (6, "yellow", "desert"),
                    (12, "green", "forest"),
                    (18, "magenta", "dusk"),
                )
            ),
            "negative_prompts": "",
            "prefix": "",
            "suffix": "",
            "num_frames": 24,
        },
    },
    "camera_move": {4: GROUND, 5: NOTHING, 10: {"motion_lora": "small_world_PanRight.safetensors"}},
    "two_camera_moves": {
        4: GROUND,
        5: NOTHING,
        10: {"motion_lora": "small_world_PanRight.safetensors"},
        11: {"motion_lora": "small_world_TiltDown.safetensors"},
    },
    "lora_from_frame": {
        4: COMET,
        5: NOTHING,
        6: {"batch_size": 24},
        10: {"text": "a yellow comet moving right over forest"},
        12: {"by_frame": "0: 0, 8: 0, 16: 1"},
    },
    "compare_methods": {3: COMET, 4: NOTHING, 7: {"motion_x": 0.0, "motion_y": 24.0}},
    "tune_a_video": {
        3: {"caption": "a red comet moving right over night", "num_frames": 8},
        4: {"steps": 40, "learning_rate": 3e-4},
        5: {"text": "a green comet moving right over desert"},
        6: NOTHING,
        8: {"denoise": 0.5},
    },
}
FISH = Scene("fish", "magenta", "left", "desert", 7, start=(90.0, 64.0), speed=6.0)
RED_COMET = Scene("comet", "red", "right", "night", 3, start=(44.0, 60.0), speed=6.0)
FRAME_RATE = 8
WIDTH, STRIP_FRAMES, QUALITY = 1000, 8, 82  # frames in a strip of square ones
MINUTES = 20  # for a clip, on a processor that others use too
FIT = """(margin) => {  // all nodes into the canvas, which lies under menus; where they are on the page then
  const { ds, canvas } = window.app.canvas, box = canvas.getBoundingClientRect(), nodes = window.app.graph._nodes;
  const left = Math.min(...nodes.map((n) => n.pos[0])), right = Math.max(...nodes.map((n) => n.pos[0] + n.size[0]));
  const top = Math.min(...nodes.map((n) => n.pos[1])) - 50;
  const bottom = Math.max(...nodes.map((n) => n.pos[1] + n.size[1]));
  ds.scale = Math.min((box.width - 2 * margin) / (right - left), (box.height - 2 * margin) / (bottom - top));
  ds.offset = [margin / ds.scale - left, margin / ds.scale - top];
  window.app.canvas.setDirty(true, true);
  return { x: box.left + margin - 12, y: box.top + margin, width: (right - left) * ds.scale + 24,
    height: (bottom - top) * ds.scale + 12 }; }"""
MARGIN = 120  # pixels of the page that its menus take
STOP_AT_HALF = """() => document.querySelectorAll("video").forEach((video) => {
  video.controls = false;  // as while it plays
  video.pause(); video.currentTime = video.duration / 2 })"""


def main(base: Path, names: list[str]) -> None:
    if missing := browser_page.missing():
        raise SystemExit(f"pictures need what is not on this machine: {', '.join(missing)}")
    write_models(base / "models")
    write_inputs(base / "input")
    for trained in ("output/animatic_training", "models/tune_a_video"):  # or else there is nothing left to learn
        shutil.rmtree(base / trained, ignore_errors=True)
    with serve(dev.find_host(), base) as served:
        for setting, value in browser_page.SETTINGS.items():
            served.client.post(f"/settings/{setting}", value)
        with browser_page.chromium() as browser:
            for name in names or [*TEMPLATES, FIRST_VIDEO]:
                if name == FIRST_VIDEO:
                    take_first_video(browser_page.open_page(browser, served.client.url, 1250, 760))
                else:
                    take_template(browser_page.open_page(browser, served.client.url, 1900, 1000), base, name)


def write_inputs(folder: Path) -> None:
    """A still and a clip of the world's own drawing."""
    folder.mkdir(parents=True, exist_ok=True)
    as_bytes = [(draw(scene, 8).pictures * 255).round().byte().numpy() for scene in (FISH, RED_COMET)]
    Image.fromarray(as_bytes[0][0]).save(folder / WORLD["image"])
    small_inputs.write_video(folder / WORLD["video"], as_bytes[1], FRAME_RATE)


def take_template(page, base: Path, name: str) -> None:
    """The graph with its finished clips, and under it frames of each clip, in the order of their names."""
    page.evaluate(
        """async (name) => { const file = await fetch(`/api/workflow_templates/ComfyUI-Animatic/${name}.json`);
          await window.app.loadGraphData(await file.json()) }""",
        name,
    )
    browser_page.set_widgets(page, WORLD, TEMPLATES[name])
    before = clips_in(base)
    browser_page.press_run(page)
    browser_page.wait_until_played(page, MINUTES)
    place = show_clip(page)
    graph = picture(page.screenshot(clip=place))
    parts = [graph, *map(frames_of, sorted(clips_in(base) - before))]
    save(stacked(parts), ROOT / "workflows" / f"{name}.jpg")
    page.close()


def clips_in(base: Path) -> set[Path]:
    """What Video Combine has written."""
    return set((base / "output" / "animatic").glob("*.mp4"))


def stacked(parts: list[Image.Image]) -> Image.Image:
    """Pictures of our width below each other."""
    whole = Image.new("RGB", (WIDTH, sum(part.height for part in parts)))
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


def take_first_video(page) -> None:
    """The three steps from the template list to a clip, by mouse."""
    docs = ROOT / "docs"
    line = browser_page.show_templates(page, "text_to_animation")
    page.wait_for_timeout(2000)  # until the list's pictures have come
    save(picture(page.screenshot()), docs / "first_video_1.jpg")
    line.click(timeout=browser_page.SLOW)
    browser_page.wait_for_template(page)
    page.evaluate(FIT, MARGIN)
    page.wait_for_timeout(1000)
    browser_page.choose(page, "CheckpointLoaderSimple", "ckpt_name", WORLD["ckpt_name"])
    browser_page.choose(page, "AnimaticLoadMotionModule", "motion_module", WORLD["motion_module"])
    browser_page.set_widgets(page, WORLD, TEMPLATES["text_to_animation"])
    page.mouse.move(0, 0)
    page.wait_for_timeout(2000)
    save(picture(page.screenshot()), docs / "first_video_2.jpg")
    browser_page.press_run(page)
    browser_page.wait_until_played(page, MINUTES)
    show_clip(page)
    save(picture(page.screenshot()), docs / "first_video_3.jpg")
    page.close()


def show_clip(page) -> dict:
    """The whole graph with a frame of its clip, and nothing over it; where it is on the page."""
    page.evaluate(STOP_AT_HALF)
    place = page.evaluate(FIT, MARGIN)
    page.mouse.move(place["x"], place["y"] + place["height"] + 40)  # away from what shows a tooltip
    page.wait_for_timeout(2000)  # until it is drawn
    return place


def picture(png: bytes) -> Image.Image:
    """A screenshot at the width of our pictures."""
    shot = Image.open(io.BytesIO(png)).convert("RGB")
    return shot.resize((WIDTH, round(shot.height * WIDTH / shot.width)), Image.Resampling.LANCZOS)


def go_on() -> None:
    """Nobody interrupts."""


def frames_of(path: Path) -> Image.Image:
    """Some of a clip's frames side by side, with their numbers."""
    frames: list[np.ndarray] = []
    read_frames(path, probe(path, go_on), Selection(), frames.append, go_on)
    count = max(2, round(STRIP_FRAMES * frames[0].shape[0] / frames[0].shape[1]))
    numbers = [round(number) for number in np.linspace(0, len(frames) - 1, count)]
    clip = torch.from_numpy(np.stack([frames[number] for number in numbers])).float() / 255
    sheet = contact_sheet(clip, WIDTH // count - 5, count, numbers)
    strip = Image.fromarray((sheet * 255).round().byte().numpy())
    return strip.resize((WIDTH, round(strip.height * WIDTH / strip.width)), Image.Resampling.LANCZOS)


def save(image: Image.Image, path: Path) -> None:
    image.save(path, quality=QUALITY, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
