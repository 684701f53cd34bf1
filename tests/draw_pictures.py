"""Take the templates' pictures and the README's in ComfyUI's page.

The small world renders what is seen; templates whose models it lacks keep their pictures. The repository ships the
smaller part of its models; the others are in the folder in which `python -m evaluation.world` trained them.
"""

import argparse
from collections.abc import Iterator
import io
from pathlib import Path
import shutil

from animatic_pack import ROOT, dev
from animatic_pack.evaluation.world.characters import draw_character, draw_dance, portrait, skeletons
from animatic_pack.evaluation.world.drawing import draw
from animatic_pack.evaluation.world.files import SHIPPED, write_models
from animatic_pack.evaluation.world.scenes import Arc, Scene, draw_scene
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
    "control_net_name": "small_world_depth_control.safetensors",
    "unet_name": "small_world_denoising_unet.safetensors",
    "reference_net": "small_world_reference_unet.safetensors",
    "pose_guider": "small_world_pose_guider.safetensors",
    "vae_name": "small_world_dancers_decoder.safetensors",
    "clip_name": "small_world_clip_vision.pth",
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
TRAINED_MOVE = "my_pan_right"
ROUND = {"text": "a magenta comet moving right over night"}
DANCER = {
    2: {"motion_module": "small_world_animate_anyone_motion.safetensors"},
    9: {"image": "dancer.png"},
    13: {"cfg": 1.5, "steps": 20},
}
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
    "depth_controlnet": {4: ROUND, 5: NOTHING, 10: {"video": "depth.mp4"}, 12: {"strength": 1.0}},
    "depth_controlnet_long": {
        4: ROUND,
        5: NOTHING,
        6: {"batch_size": 24},
        10: {"video": "depth_long.mp4", "frame_load_cap": 24},
        12: {"strength": 1.0},
        15: {"num_frames": 24},
    },
    "animate_anyone": {**DANCER, 10: {"video": "pose.mp4", "frame_load_cap": 24}, 12: {"batch_size": 24}},
    "animate_anyone_long": {
        **DANCER,
        10: {"video": "pose_long.mp4", "frame_load_cap": 72},
        12: {"batch_size": 72},
        16: {"context_length": 24, "context_overlap": 6},
    },
    "train_camera_move": {
        3: {"num_frames": 8, "stride": 1, "clips_per_video": 1, "flip": False},
        4: {"move": "PanRight"},
        5: {"filename": TRAINED_MOVE, "steps": 120, "learning_rate": 1e-3, "rank": 8},
        6: GROUND,
        7: NOTHING,
    },
}
# No model of the small world can show these: it has no SDXL, and no ReferenceNet without poses.
GRAPHS = {"text_to_animation_sdxl": {}, "reference_character": {"image": "dancer.png"}}
NEEDED = {  # what a template cannot do without, of what is not shipped
    "depth_controlnet": "control_net_name",
    "depth_controlnet_long": "control_net_name",
    "animate_anyone": "reference_net",
    "animate_anyone_long": "reference_net",
}
FISH = Scene("fish", "magenta", "left", "desert", 7, start=(90.0, 64.0), speed=6.0)
RED_COMET = Scene("comet", "red", "right", "night", 3, start=(44.0, 60.0), speed=6.0)
HALF_CIRCLE = Arc("comet", "magenta", "right", "night", 5, start=(36.0, 64.0), radius=14.0, turn=0.45)
WHOLE_CIRCLE = Arc("comet", "magenta", "right", "night", 5, start=(34.0, 64.0), radius=14.0, turn=0.26)
CHARACTER, DANCE = draw_character(0, 2_000_002), draw_dance(0, 2_000_002)  # of numbers that no training draws
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python dev.py pictures", description=__doc__)
    parser.add_argument("base", type=Path, help="a folder as dev.py makes it")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of templates, or {FIRST_VIDEO} for the README's")
    parser.add_argument("--world", type=Path, default=SHIPPED.parent, help="in which the small world was trained")
    options = parser.parse_args()
    if missing := browser_page.missing():
        raise SystemExit(f"pictures need what is not on this machine: {', '.join(missing)}")
    base = options.base.resolve()
    there = {path.name for path in write_models(base / "models", options.world / SHIPPED.name)}
    write_inputs(base / "input")
    for trained in ("output/animatic_training", "models/tune_a_video"):  # or else there is nothing left to learn
        shutil.rmtree(base / trained, ignore_errors=True)
    (base / "models" / "animatediff_motion_lora" / f"{TRAINED_MOVE}.safetensors").unlink(missing_ok=True)
    with serve(dev.find_host(), base) as served:
        for setting, value in browser_page.SETTINGS.items():
            served.client.post(f"/settings/{setting}", value)
        with browser_page.chromium() as browser:
            for name in chosen(options.names, there):
                if name == FIRST_VIDEO:
                    take_first_video(browser_page.open_page(browser, served.client.url, 1250, 760))
                elif name in GRAPHS:
                    take_graph(browser_page.open_page(browser, served.client.url, 1900, 1000), name)
                else:
                    take_template(browser_page.open_page(browser, served.client.url, 1900, 1000), base, name)


def chosen(names: list[str], there: set[str]) -> Iterator[str]:
    """Those whose models are there."""
    for name in names or [*TEMPLATES, *GRAPHS, FIRST_VIDEO]:
        if name in NEEDED and WORLD[NEEDED[name]] not in there:
            print(f"{name} keeps its picture: {WORLD[NEEDED[name]]} is not there, see --world", flush=True)
        else:
            yield name


def write_inputs(folder: Path) -> None:
    """Stills and clips of the world's own drawing, and videos to learn a camera move from."""
    clips = folder / "training_videos"
    clips.mkdir(parents=True, exist_ok=True)
    save_still(folder / WORLD["image"], draw(FISH).pictures)
    save_clip(folder / WORLD["video"], draw(RED_COMET, 8).pictures)
    for name, scene, count in (("depth", HALF_CIRCLE, 8), ("depth_long", WHOLE_CIRCLE, 24)):
        save_clip(folder / f"{name}.mp4", draw(scene, count).depth[..., None].expand(-1, -1, -1, 3))
    save_still(folder / "dancer.png", portrait(CHARACTER))
    for name, count in (("pose", 24), ("pose_long", 72)):
        save_clip(folder / f"{name}.mp4", skeletons(DANCE.frames(count)))
    for number in range(20):
        ground = draw(draw_scene(6, number, bare=1.0)).pictures
        save_clip(clips / f"{number:02}.mp4", ground.expand(12, -1, -1, -1))


def save_still(path: Path, pictures: torch.Tensor) -> None:
    Image.fromarray(as_bytes(pictures)[0]).save(path)


def save_clip(path: Path, pictures: torch.Tensor) -> None:
    small_inputs.write_video(path, as_bytes(pictures), FRAME_RATE)


def as_bytes(pictures: torch.Tensor) -> np.ndarray:
    return (pictures * 255).round().byte().numpy()


def take_template(page, base: Path, name: str) -> None:
    """The graph with its finished clips, and under it frames of each clip, in the order of their names."""
    open_template(page, name)
    browser_page.set_widgets(page, WORLD, TEMPLATES[name])
    before = clips_in(base)
    browser_page.press_run(page)
    browser_page.wait_until_played(page, MINUTES)
    place = show_clip(page)
    graph = picture(page.screenshot(clip=place))
    parts = [graph, *map(frames_of, sorted(clips_in(base) - before))]
    save(stacked(parts), ROOT / "workflows" / f"{name}.jpg")
    page.close()


def open_template(page, name: str) -> None:
    page.evaluate(
        """async (name) => { const file = await fetch(`/api/workflow_templates/ComfyUI-Animatic/${name}.json`);
          await window.app.loadGraphData(await file.json()) }""",
        name,
    )
    browser_page.wait_for_template(page)


def take_graph(page, name: str) -> None:
    """The graph alone."""
    open_template(page, name)
    browser_page.set_widgets(page, GRAPHS[name])
    save(picture(page.screenshot(clip=show_clip(page))), ROOT / "workflows" / f"{name}.jpg")
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
    main()
