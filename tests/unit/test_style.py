"""The linter, with the settings of pyproject.toml."""

import subprocess
import sys

from animatic_pack import ROOT


def test_ruff_is_clean():
    checked = subprocess.run([sys.executable, "-m", "ruff", "check", str(ROOT)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
