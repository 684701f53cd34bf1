"""python render_demo.py BASE [--workflow NAME] [--prompt TEXT] [--models CHECKPOINT MOTION_MODULE]: render, served.

BASE is a folder as dev.py makes it, and the names are of models in it; without names they are the small world's, and
for Animate Anyone small random ones.
"""

import argparse
from functools import partial
from pathlib import Path
import sys

from animatic_pack import dev
from api_workflows import api_workflow, set_input
from served_host import serve

SMALL = {  # a processor needs minutes for what a graphics card does in seconds
    "text_to_animation": {  # what the small world was trained on
        "ckpt_name": "small_world.ckpt",
        "motion_module": "small_world.safetensors",
        "width": 128,
        "height": 128,
        "batch_size": 8,
        "steps": 15,
        "cfg": 3.0,
    },
    "animate_anyone": {
        "unet_name": "small_denoising_unet.safetensors",
        "vae_name": "small_vae.safetensors",
        "clip_name": "small_image_encoder.pth",
        "reference_net": "small_reference_unet.safetensors",
        "pose_guider": "small_pose_guider.safetensors",
        "motion_module": "small_sd15_v3.safetensors",
        "width": 96,
        "height": 144,
        "steps": 5,
        "batch_size": 16,
        "frame_load_cap": 16,
    },
}
PROMPT, NEGATIVE = "4", "5"  # nodes of text_to_animation
SMALL_WORLD_PROMPT = "a red comet moving up over forest"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("--workflow", choices=SMALL, default="text_to_animation")
    parser.add_argument("--models", nargs=2, metavar=("CHECKPOINT", "MOTION_MODULE"))
    parser.add_argument("--prompt")
    options = parser.parse_args()
    workflow = demo_workflow(options.workflow, options.models, options.prompt)
    try:
        print(f"Done: {render(options.base, options.workflow, workflow)}")
    except KeyboardInterrupt:
        return 130  # dev.py says so
    except (RuntimeError, OSError) as failure:
        print(f"Failed: {failure}")
        return 1
    return 0


def demo_workflow(name: str, models: list[str] | None, prompt: str | None) -> dict:
    """A shipped workflow with a user's own models, or with small ones at their size and in their words."""
    workflow = api_workflow(name)
    inputs = dict(zip(("ckpt_name", "motion_module"), models, strict=True)) if models else SMALL[name]
    for key, value in inputs.items():
        set_input(workflow, key, value)
    if name == "text_to_animation" and not models:
        prompt = prompt or SMALL_WORLD_PROMPT
        workflow[NEGATIVE]["inputs"]["text"] = ""
    if prompt:
        workflow[PROMPT]["inputs"]["text"] = prompt
    return workflow


def render(base: Path, name: str, workflow: dict) -> str:
    """The path of the video."""
    print("Starting ComfyUI (10 to 60 seconds)...")
    with serve(dev.find_host(), base) as served:
        print(f"Rendering workflows/api/{name}.json at {served.client.url} (about a minute for small models).")
        history = served.client.render(workflow, partial(draw_progress, workflow))
    files = [item["fullpath"] for node in history["outputs"].values() for item in node.get("gifs", [])]
    if not files:
        raise RuntimeError(f"the workflow ended without a video; see {served.log_path}")
    return files[0]


def draw_progress(workflow: dict, message: dict) -> None:
    """A line of the terminal that grows with a node's steps."""
    if message["type"] != "progress":
        return
    node, value, maximum = (message["data"].get(key) for key in ("node", "value", "max"))
    title = workflow[node]["class_type"] if node in workflow else ""
    filled = 30 * value // max(1, maximum)
    end = "\n" if value >= maximum else ""
    print(f"\r  {title:<24} [{'#' * filled}{'.' * (30 - filled)}] {value}/{maximum}", end=end, flush=True)


if __name__ == "__main__":
    sys.exit(main())
