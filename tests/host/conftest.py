"""One folder of motion-module files for the in-process host tests."""

from host_models import use_motion_folder
import pytest


@pytest.fixture(scope="session", autouse=True)
def _motion_folder(tmp_path_factory):
    use_motion_folder(tmp_path_factory.mktemp("animatediff_models"))
