"""`python -m evaluation.world --budget MINUTES`, from the pack's folder, with ComfyUI's Python."""

from importlib import import_module
import sys

if __name__ == "__main__":
    start = import_module("training.__main__")  # by its plain name: the pack has none yet
    start.as_package()
    command_line = import_module("animatic_pack.evaluation.world.command_line")
    sys.exit(command_line.main(sys.argv[1:], lambda: start.host_module("evaluation.networks").NarrowNetworks()))
