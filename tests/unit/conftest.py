"""The tests here do without ComfyUI, also after those of other folders have imported it."""

import sys

import in_process_host
import pytest


@pytest.fixture(autouse=True)
def _without_host(monkeypatch):
    for module in in_process_host.MODULES:
        monkeypatch.setitem(sys.modules, module, None)  # so that importing it fails
