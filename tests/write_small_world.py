"""python write_small_world.py MODELS_FOLDER: widen the repository's small world to files that ComfyUI loads."""

from pathlib import Path
import sys

from animatic_pack.evaluation.world.files import write_models

write_models(Path(sys.argv[1]))
