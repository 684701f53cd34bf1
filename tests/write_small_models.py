"""python write_small_models.py MODELS_FOLDER [--sdxl]: write what the demo and the tests render with."""

import os
from pathlib import Path
import sys

folder, sdxl = Path(sys.argv[1]), "--sdxl" in sys.argv
sys.argv = [sys.argv[0], "--cpu"]  # what the host's own argument parser shall see
sys.path[:0] = [os.environ["COMFYUI_PATH"], str(Path(__file__).parent)]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import small_models  # noqa: E402

small_models.write_demo_models(folder)
if sdxl:
    small_models.write_sdxl_models(folder)
