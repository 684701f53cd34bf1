"""`python -m training config.toml`: gives the pack's folder, which is on no module path, a package name, and starts."""

from importlib import import_module
from pathlib import Path
import sys
import types

if __name__ == "__main__":
    pack = types.ModuleType("animatic_pack")  # the pack's own __init__ registers nodes with a running host
    pack.__path__ = [str(Path(__file__).resolve().parent.parent)]
    sys.modules["animatic_pack"] = pack
    # `python -m` puts the pack's folder first, where `nodes` would hide the host's module of that name
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(pack.__path__[0])]
    sys.exit(import_module("animatic_pack.training.command_line").main(sys.argv[1:]))
