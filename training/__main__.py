"""`python -m training config.toml`: gives the pack's folder, which is on no module path, a package name, and starts."""

from importlib import import_module
import os
from pathlib import Path
import sys
import types

PACK = Path(__file__).resolve().parents[1]
WRONG_PYTHON = (
    "Run this with the Python that runs ComfyUI: it has what ComfyUI and this pack need, which the requirements.txt of "
    "both name."
)


def as_package() -> None:
    """Let the pack's own code be imported as `animatic_pack`, the same way from any `python -m` in its folder."""
    pack = types.ModuleType("animatic_pack")  # the pack's own __init__ registers nodes with a running host
    pack.__path__ = [str(PACK)]
    sys.modules["animatic_pack"] = pack
    # `python -m` puts the pack's folder first, where `nodes` would hide the host's module of that name
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != PACK]


def command_line(room: str):
    """The `command_line` of training or evaluation. Ends with a message where PyTorch or the like is missing."""
    as_package()
    try:
        return import_module(f"animatic_pack.{room}.command_line")
    except ModuleNotFoundError as error:
        sys.exit(f"{error}. {WRONG_PYTHON}")


def host_module(name: str, base_directory: str | None = None):
    """A module of nodes/host, which needs ComfyUI beside it. Raises RuntimeError without it or what it needs.

    base_directory: of models, as ComfyUI's option of that name; None: ComfyUI's own folder.
    """
    host = Path(os.environ.get("COMFYUI_PATH") or PACK.parents[1])  # the pack is in its custom_nodes
    sys.path.insert(0, str(host))
    try:
        arguments = import_module("comfy.cli_args").args
        # a host that is imported, not started, looks for a card that may not be there
        arguments.cpu = import_module("animatic_pack.training.engine").best_device().type == "cpu"
        arguments.base_directory = base_directory
        module = import_module(f"animatic_pack.nodes.host.{name}")
    except ModuleNotFoundError as error:
        if (host / "main.py").is_file():
            raise RuntimeError(f"{error}. {WRONG_PYTHON}") from error
        raise RuntimeError(
            f"Training needs ComfyUI to open a checkpoint, and there is none in {host} ({error}). Run this from the "
            "pack's folder in custom_nodes, with ComfyUI's Python, or set COMFYUI_PATH to ComfyUI's folder."
        ) from error
    if (extra := host / "extra_model_paths.yaml").is_file():
        import_module("utils.extra_config").load_extra_path_config(str(extra))
    return module


def open_models(base_directory: str | None):
    """What opens a checkpoint's UNet, VAE and text encoder as the host does; here alone a host is needed."""
    return host_module("training.animate", base_directory).open_models


if __name__ == "__main__":
    sys.exit(command_line("training").main(sys.argv[1:], open_models))
