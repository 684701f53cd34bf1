"""The pack's folders import in one direction, and its pure ones, like the tests here, run without the host."""

import ast
from graphlib import TopologicalSorter
import os
from pathlib import Path
import subprocess
import sys

from animatic_pack import ROOT
import in_process_host
import pytest

HOST = in_process_host.MODULES
PURE = {"torch", "safetensors", "einops", "numpy"}
MEDIA = {"imageio_ffmpeg", "PIL", "cv2"}
PURE_MODELS = {"motion_modules", "lora"}
HOST_PARTS = {f"nodes/host/{part}" for part in ("core", "controls", "motion")}
ALLOWED = {  # folder -> packages that it may import beside the standard library, and other folders of the pack
    "motion_modules": (PURE, set()),
    "lora": (PURE, {"motion_modules"}),
    "animate_anyone": (PURE, {"motion_modules"}),
    "training": (PURE | {"accelerate", "bitsandbytes", "tomli"}, PURE_MODELS | {"animate_anyone", "nodes/media"}),
    "evaluation": (PURE | MEDIA | {"transformers"}, {"training", "nodes/media"}),
    "evaluation/world": (PURE | MEDIA, PURE_MODELS | {"animate_anyone", "evaluation", "training", "nodes/media"}),
    "migration": (set(), set()),
    "nodes/timeline": (PURE, set()),
    "nodes/media": (PURE | MEDIA, {"animate_anyone"}),
    "nodes/host/core": (PURE | HOST, PURE_MODELS),
    "nodes/host/controls": (PURE | HOST, {"nodes/host/core", "nodes/timeline"} | PURE_MODELS),
    "nodes/host/motion": (
        PURE | HOST,
        {"nodes/host/core", "nodes/host/controls", "nodes/timeline", "training"} | PURE_MODELS,
    ),
    "nodes/host/reference": (PURE | HOST, HOST_PARTS | {"nodes/timeline", "motion_modules", "animate_anyone"}),
    "nodes/host/clip": (PURE | HOST, {"nodes/host/core", "nodes/host/controls", "nodes/timeline", "motion_modules"}),
    "nodes/host/frames": (PURE | HOST, {"nodes/host/core", "nodes/media"}),
    "nodes/host/training": (
        PURE | HOST,
        {"nodes/host/core", "nodes/host/motion", "nodes/host/reference", "nodes/host/frames", "nodes/media", "training"}
        | {"animate_anyone", "motion_modules"},
    ),
    "nodes/host/evaluation": (
        PURE | HOST,
        {"nodes/host/clip", "nodes/host/core", "nodes/host/training", "evaluation", "evaluation/world", "training"},
    ),
}
ALLOWED["nodes"] = PURE, {folder for folder in ALLOWED if folder != "lora"}
ALLOWED["nodes/host"] = set(), set()
WITHOUT_HOST = [folder for folder, (packages, _) in ALLOWED.items() if not packages & HOST]
WITHOUT_HOST.remove("nodes/host")
WITHOUT_HOST.remove("nodes")
SOURCES = [path for init in sorted(ROOT.glob("*/__init__.py")) for path in sorted(init.parent.rglob("*.py"))]
BLOCK_HOST = f"import sys; sys.modules.update(dict.fromkeys({sorted(HOST)}))\n"  # None is no module
NODE_FILES = {path.stem for path in (ROOT / "nodes").glob("*.py")} - {"__init__", "registry", "sockets", "widgets"}


def folder_of(path: Path) -> str:
    return path.parent.relative_to(ROOT).as_posix()


def imports_of(path: Path) -> tuple[set[str], set[Path]]:
    """Packages imported by name, and files and folders of the pack."""
    packages, targets = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="ascii"))):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            packages.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            whole = base.with_suffix(".py").is_file()
            targets |= {base.with_suffix(".py")} if whole else {base / f"{alias.name}.py" for alias in node.names}
    return packages, targets


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_flow_one_way(path):
    assert folder_of(path) in ALLOWED, "a new folder has its row in ALLOWED"
    allowed_packages, allowed_folders = ALLOWED[folder_of(path)]
    packages, targets = imports_of(path)
    assert packages - sys.stdlib_module_names - {"tomllib"} <= allowed_packages  # Python's own since 3.11
    for target in targets:
        assert target.is_file()
        assert folder_of(target) in allowed_folders | {folder_of(path)}, f"reaches {target}"


def test_folders_never_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        graph.setdefault(folder_of(path), set()).update(folder_of(target) for target in imports_of(path)[1])
    for folder, reached in graph.items():
        reached.discard(folder)
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index("motion_modules") < order.index("nodes/host/core") < order.index("nodes")


@pytest.mark.parametrize("theme", sorted(NODE_FILES))
def test_no_node_file_imports_another(theme):
    _, targets = imports_of(ROOT / "nodes" / f"{theme}.py")
    assert not {target.stem for target in targets if folder_of(target) == "nodes"} & NODE_FILES


def run_without_host(code: str) -> None:
    """In a fresh process, where nothing has been imported before and no host can be found."""
    environment = {**os.environ, "COMFYUI_PATH": "nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", BLOCK_HOST + code], cwd=ROOT / "tests", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", WITHOUT_HOST)
def test_pure_folder_imports_without_the_host(folder):
    names = [path.relative_to(ROOT).with_suffix("").as_posix() for path in SOURCES if folder_of(path) == folder]
    modules = [name.replace("/", ".") for name in names if not name.endswith("__")]  # neither __init__ nor __main__
    run_without_host("\n".join(f"import animatic_pack.{module}" for module in modules))


def test_the_tests_here_are_collected_without_the_host():
    here = str(Path(__file__).parent)
    run_without_host(f"import pytest; sys.exit(pytest.main(['--collect-only', '--quiet', {here!r}]))")


def test_root_module_only_registers():
    assert len((ROOT / "__init__.py").read_text().splitlines()) < 40
