"""The linter, with the settings of pyproject.toml."""

from pathlib import Path
import subprocess
import sys

ROOT = Path(__file__).resolve().parents[2]


def test_ruff_is_clean():
    checked = subprocess.run([sys.executable, "-m", "ruff", "check", str(ROOT)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
