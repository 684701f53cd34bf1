"""`python -m evaluation.world --budget MINUTES`, from the pack's folder, with ComfyUI's Python."""

from importlib import import_module
import sys

if __name__ == "__main__":
    start = import_module("training.__main__")  # by its plain name: the pack has none yet
    command_line = start.command_line("evaluation.world")
    sys.exit(command_line.main(sys.argv[1:], lambda: start.host_module("evaluation.networks").NarrowNetworks()))
