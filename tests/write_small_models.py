"""python write_small_models.py MODELS_FOLDER [--sdxl]: write what the demo and the tests render with."""

from pathlib import Path
import sys

import in_process_host
import small_models

in_process_host.make_importable()
folder = Path(sys.argv[1])
small_models.write_demo_models(folder)
if "--sdxl" in sys.argv:
    small_models.write_sdxl_models(folder)
