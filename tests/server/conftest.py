"""One served ComfyUI for all tests here, driven over /prompt and /ws as a client would."""

import os
from types import SimpleNamespace

from animatic_pack import dev
import in_process_host
import pytest
from rendering_host import RenderingHost
from served_host import serve
import small_models
from small_workflows import add_sampler, latent_workflow, small

in_process_host.make_importable()


@pytest.fixture(scope="session")
def host():
    base = dev.base_directory(f"test{os.environ.get('PYTEST_XDIST_WORKER', '')}")  # each process has its own server
    small_models.write_demo_models(base / "models")
    small_models.write_second_module(base / "models")
    with serve(dev.find_host(), base) as served:
        yield RenderingHost(served, base)


@pytest.fixture(scope="session")
def workflows():
    """How tests here make their workflows."""
    return SimpleNamespace(small=small, latents=latent_workflow, add_sampler=add_sampler)
