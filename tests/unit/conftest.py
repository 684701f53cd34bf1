"""What the tests here share: they do without ComfyUI, also after those of other folders have imported it."""

import logging
from pathlib import Path
import re
import sys

import in_process_host
import pytest


@pytest.fixture(autouse=True)
def _without_host(monkeypatch):
    for module in in_process_host.MODULES:
        monkeypatch.setitem(sys.modules, module, None)  # so that importing it fails


@pytest.fixture
def warned():
    """The video decoder's warnings; a test takes those that it expects, and none may be left at its end."""
    messages, handler = [], logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("animatic_pack.nodes.media.decode")
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)
    assert not messages, "said of a file in which nothing is wrong"


@pytest.fixture
def decoded(tmp_path, monkeypatch):
    """Says how many video or sound frames ffmpeg's latest run decoded, by its own report; 0 if it was killed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FFREPORT", "file=report.log:level=40")
    report = Path("report.log")
    report.touch()
    return lambda: sum(map(int, re.findall(r"(\d+) frames decoded", report.read_text())))
