"""Tests on a card: skipped, before anything of the host is imported, where they cannot run.

ComfyUI chooses its device once, while it is imported, and the other folders' tests have it on the processor. So these
need a process of their own.
"""

from pathlib import Path

import in_process_host
import pytest
import torch

HERE = Path(__file__).parent


class Skipped(pytest.Module):
    """A file of tests that is not imported."""

    reason = ""

    def collect(self):
        pytest.skip(self.reason)


def pytest_addoption(parser):
    parser.addoption("--table", type=Path, help="a copy of docs/benchmarks.md to write this card's step times into")


def pytest_pycollect_makemodule(module_path, parent):
    reason = why_not(parent.config)
    if reason:
        skipped = Skipped.from_parent(parent, path=module_path)
        skipped.reason = reason
        return skipped
    in_process_host.make_importable(cpu=False)
    return None


def why_not(config) -> str | None:
    if not torch.accelerator.is_available():
        return "torch finds no card"
    asked = [Path(config.invocation_params.dir, argument.split("::")[0]).resolve() for argument in config.args]
    if any(HERE not in (path, *path.parents) for path in asked):
        return "needs a process of its own: python dev.py test tests/gpu"
    return None


@pytest.fixture(autouse=True)
def full_float32(monkeypatch):
    """Without TensorFloat-32, which PyTorch lets convolutions use and which keeps 10 bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module", autouse=True)
def empty_card():
    """Each file of tests begins with a card on which the host has loaded nothing."""
    yield
    import comfy.model_management

    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()


@pytest.fixture(scope="session")
def card():
    from comfy.model_management import get_torch_device

    return get_torch_device()


@pytest.fixture(scope="session")
def sd15():
    """SD1.5 at full width in float16."""
    from full_size import full_model

    return full_model()
