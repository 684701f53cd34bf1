"""python write_small_models.py BASE [--for WORKFLOW] [--sdxl]: write what the demo and the tests render with.

BASE is a folder as dev.py makes it; models go into its models folder, pictures into its input folder.
"""

import argparse
from pathlib import Path

import in_process_host
import small_inputs
import small_models

parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
parser.add_argument("base", type=Path)
parser.add_argument("--for", dest="workflow", default="")
parser.add_argument("--sdxl", action="store_true")
options = parser.parse_args()
in_process_host.make_importable()
models = options.base / "models"
small_models.write_demo_models(models)
if options.sdxl:
    small_models.write_sdxl_models(models)
if options.workflow == "animate_anyone":
    small_models.write_animate_anyone_models(models)
    small_inputs.write_character(options.base / "input", frames=16)
