"""The pack's layers import in one direction, and its model code runs without the host."""

import ast
from pathlib import Path
import sys

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOST = {
    "comfy",
    "comfy_extras",
    "comfy_execution",
    "comfy_api",
    "folder_paths",
    "nodes",
    "server",
    "execution",
    "latent_preview",
}
PURE = {"torch", "safetensors", "einops", "numpy"}
ALLOWED = {  # folder -> packages it may import beside the standard library; and siblings it may reach
    "motion_modules": (PURE, {"motion_modules"}),
    "lora": (PURE, {"lora", "motion_modules"}),
    "nodes/media": (PURE | {"imageio_ffmpeg", "PIL", "cv2"}, {"nodes/media"}),
    "nodes/host": (PURE | HOST, {"nodes/host", "motion_modules", "lora"}),
    "nodes": (PURE, {"nodes", "nodes/host", "nodes/media", "motion_modules", "lora"}),
}


def layer(path: Path) -> str:
    name = path.relative_to(ROOT).as_posix()
    return next(folder for folder in sorted(ALLOWED, key=len, reverse=True) if name.startswith(folder + "/"))


def sources():
    return [p for folder in ("motion_modules", "lora", "nodes") for p in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_flow_one_way(path):
    packages, siblings = ALLOWED[layer(path)]
    for node in ast.walk(ast.parse(path.read_text(encoding="ascii"))):
        if isinstance(node, ast.Import):
            absolute = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            absolute = [node.module.split(".")[0]]
        else:
            absolute = []
        for name in absolute:
            assert name in sys.stdlib_module_names or name in packages, f"line {node.lineno} imports {name}"
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1]
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                target = folder.joinpath(*name.split("."))
                target = target if target.is_dir() else target.with_suffix(".py")
                assert target.exists(), f"line {node.lineno}: no {target}"
                assert layer(target / "x" if target.is_dir() else target) in siblings, (
                    f"line {node.lineno} reaches {target}"
                )


def test_root_module_only_registers():
    assert len((ROOT / "__init__.py").read_text().splitlines()) < 40
