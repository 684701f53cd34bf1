"""The linter, with the settings of pyproject.toml, and what comfy-test's static levels refuse in any node pack."""

from itertools import chain
import re
import subprocess
import sys

from animatic_pack import ROOT

LAYERS = r"(?<![\w.])(torch\.)?nn\.(Linear|Conv[123]d|ConvTranspose[12]d|LayerNorm|GroupNorm|Embedding)\s*\("
DEVICES = r"\.cuda\s*\(|\.to\s*\(\s*(torch\.device\s*\(\s*)?[\"']cuda|torch\.(cuda\.amp\.|amp\.)?autocast\s*\("
FOLDERS = "animate_anyone", "clients", "evaluation", "lora", "migration", "motion_modules", "nodes", "tests", "training"


def test_ruff_is_clean():
    checked = subprocess.run([sys.executable, "-m", "ruff", "check", str(ROOT)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_no_spelling_that_comfy_test_refuses():
    """It reads lines, not code. Layers go by their own names where the host's operations have no part: in training."""
    refused = re.compile(f"{LAYERS}|{DEVICES}")
    files = chain(ROOT.glob("*.py"), *((ROOT / folder).rglob("*.py") for folder in FOLDERS))
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if not line.lstrip().startswith("#") and refused.search(line)
    ]
    assert not found


def test_extensions_of_the_page_have_a_name_of_their_own():
    """comfy-test wants the pack's DisplayName in small letters before the point."""
    scripts = list((ROOT / "nodes" / "web").glob("*.js"))
    names = [name for path in scripts for name in re.findall(r'^  name: "([^"]+)"', path.read_text(), re.M)]
    assert len(names) == len(scripts) and all(name.startswith("animatic.") for name in names)
