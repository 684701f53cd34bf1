"""The pack's folders import in one direction, and its model code runs without the host."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path
import sys

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOST = {"comfy", "comfy_extras", "comfy_execution", "folder_paths", "nodes"}
PURE = {"torch", "safetensors", "einops", "numpy"}
MEDIA = {"imageio_ffmpeg", "PIL", "cv2"}
PURE_MODELS = {"motion_modules", "lora"}
ALLOWED = {  # folder -> packages that it may import beside the standard library, and other folders of the pack
    "motion_modules": (PURE, set()),
    "lora": (PURE, {"motion_modules"}),
    "nodes/timeline": (PURE, set()),
    "nodes/media": (PURE | MEDIA, set()),
    "nodes/host/core": (PURE | HOST, PURE_MODELS),
    "nodes/host/controls": (PURE | HOST, {"nodes/host/core", "nodes/timeline"} | PURE_MODELS),
    "nodes/host/motion": (PURE | HOST, {"nodes/host/core", "nodes/host/controls", "nodes/timeline"} | PURE_MODELS),
    "nodes/host/clip": (PURE | HOST, {"nodes/host/core", "nodes/host/controls", "nodes/timeline"}),
    "nodes/host/frames": (PURE | HOST, {"nodes/host/core", "nodes/media"}),
}
ALLOWED["nodes"] = PURE, {folder for folder in ALLOWED if folder != "lora"}
ALLOWED["nodes/host"] = set(), set()
SOURCES = [path for top in ("motion_modules", "lora", "nodes") for path in sorted((ROOT / top).rglob("*.py"))]
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
    allowed_packages, allowed_folders = ALLOWED[folder_of(path)]
    packages, targets = imports_of(path)
    assert packages - sys.stdlib_module_names <= allowed_packages
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


def test_root_module_only_registers():
    assert len((ROOT / "__init__.py").read_text().splitlines()) < 40
