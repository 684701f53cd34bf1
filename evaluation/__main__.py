"""`python -m evaluation`, from the pack's folder, with ComfyUI's Python."""

from importlib import import_module
import sys

if __name__ == "__main__":
    start = import_module("training.__main__")  # by its plain name: the pack has none yet
    sys.exit(start.command_line("evaluation").main(sys.argv[1:]))
