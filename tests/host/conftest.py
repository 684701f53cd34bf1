"""The host in this process, and one folder of motion-module files for it."""

from contextlib import contextmanager

import in_process_host
import pytest

in_process_host.make_importable()

import comfy.model_management  # noqa: E402
from host_models import use_motion_folder  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def _motion_folder(tmp_path_factory):
    use_motion_folder(tmp_path_factory.mktemp("animatediff_models"))


@pytest.fixture
def short_memory(monkeypatch):
    """A context in which the host finds no free memory, as on a small card: then it runs cond and uncond one by one."""

    @contextmanager
    def short():
        with monkeypatch.context() as patched:
            patched.setattr(
                comfy.model_management,
                "get_free_memory",
                lambda device=None, torch_free_too=False: (1, 1) if torch_free_too else 1,
            )
            yield

    return short
