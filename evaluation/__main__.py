"""`python -m evaluation`, from the pack's folder, with ComfyUI's Python."""

from importlib import import_module
import sys

if __name__ == "__main__":
    import_module("training.__main__").as_package()  # by its plain name: the pack has none yet
    sys.exit(import_module("animatic_pack.evaluation.command_line").main(sys.argv[1:]))
