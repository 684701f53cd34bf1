"""Lets the tests import the pack as `animatic_pack` and, on demand, the real ComfyUI in this process.

The pack's root module is not run: it registers nodes with a host. Neither nodes/ nor lora/ may stand on sys.path,
where they would hide modules of the host.
"""

import importlib.util
import os
from pathlib import Path
import sys
import types

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent

pack = types.ModuleType("animatic_pack")
pack.__path__ = [str(ROOT)]
sys.modules["animatic_pack"] = pack
sys.path.insert(0, str(Path(__file__).parent))  # small_models, reference

spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
dev = importlib.util.module_from_spec(spec)
sys.modules["dev"] = dev
spec.loader.exec_module(dev)

HOST = dev.find_host()
os.environ["COMFYUI_PATH"] = str(HOST)
sys.path.insert(0, str(HOST))

import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True  # the host in this process; the served one decides for itself

torch.set_grad_enabled(False)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    yield
