"""python render_demo.py BASE [--models CHECKPOINT MOTION_MODULE]: render 16 frames through the served host.

BASE is a folder as dev.py makes it, and the names are of models in it; without names they are the small random ones.
"""

import argparse
from functools import partial
from pathlib import Path
import sys

from animatic_pack import dev
from api_workflows import api_workflow, set_input
from served_host import serve

NAME = "text_to_animation"
SMALL = {  # a processor needs minutes for what a graphics card does in seconds
    "ckpt_name": "small_sd15.ckpt",
    "motion_module": "small_sd15_v3.safetensors",
    "width": 128,
    "height": 128,
    "steps": 6,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("base", type=Path)
    parser.add_argument("--models", nargs=2, metavar=("CHECKPOINT", "MOTION_MODULE"))
    options = parser.parse_args()
    inputs = dict(zip(("ckpt_name", "motion_module"), options.models, strict=True)) if options.models else SMALL
    try:
        print(f"Done: {render(options.base, inputs)}")
    except KeyboardInterrupt:
        return 130  # dev.py says so
    except (RuntimeError, OSError) as failure:
        print(f"Failed: {failure}")
        return 1
    return 0


def render(base: Path, inputs: dict) -> str:
    """The path of the video."""
    workflow = api_workflow(NAME)
    for name, value in inputs.items():
        set_input(workflow, name, value)
    print("Starting ComfyUI (10 to 60 seconds)...")
    with serve(dev.find_host(), base) as served:
        print(f"Rendering workflows/api/{NAME}.json at {served.client.url} (under a minute for the small models).")
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
