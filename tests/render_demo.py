"""python render_demo.py BASE [--workflow NAME] [--models CHECKPOINT MOTION_MODULE]: render 16 frames, served.

BASE is a folder as dev.py makes it, and the names are of models in it; without names they are the small random ones.
"""

import argparse
from functools import partial
from pathlib import Path
import sys

from animatic_pack import dev
from api_workflows import api_workflow, set_input
from served_host import serve

SMALL = {  # a processor needs minutes for what a graphics card does in seconds
    "text_to_animation": {"ckpt_name": "small_sd15.ckpt", "width": 128, "height": 128, "steps": 6},
    "animate_anyone": {
        "unet_name": "small_denoising_unet.safetensors",
        "vae_name": "small_vae.safetensors",
        "clip_name": "small_image_encoder.pth",
        "reference_net": "small_reference_unet.safetensors",
        "pose_guider": "small_pose_guider.safetensors",
        "width": 96,
        "height": 144,
        "steps": 5,
        "batch_size": 16,
        "frame_load_cap": 16,
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("--workflow", choices=SMALL, default="text_to_animation")
    parser.add_argument("--models", nargs=2, metavar=("CHECKPOINT", "MOTION_MODULE"))
    options = parser.parse_args()
    inputs = {"motion_module": "small_sd15_v3.safetensors", **SMALL[options.workflow]}
    if options.models:
        inputs = dict(zip(("ckpt_name", "motion_module"), options.models, strict=True))
    try:
        print(f"Done: {render(options.base, options.workflow, inputs)}")
    except KeyboardInterrupt:
        return 130  # dev.py says so
    except (RuntimeError, OSError) as failure:
        print(f"Failed: {failure}")
        return 1
    return 0


def render(base: Path, name: str, inputs: dict) -> str:
    """The path of the video."""
    workflow = api_workflow(name)
    for name, value in inputs.items():
        set_input(workflow, name, value)
    print("Starting ComfyUI (10 to 60 seconds)...")
    with serve(dev.find_host(), base) as served:
        print(f"Rendering workflows/api/{name}.json at {served.client.url} (under a minute for the small models).")
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
