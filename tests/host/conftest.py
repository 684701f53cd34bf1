"""The host in this process, and one folder of motion-module files for it."""

import in_process_host
import pytest

in_process_host.make_importable()

from host_models import use_motion_folder  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def _motion_folder(tmp_path_factory):
    use_motion_folder(tmp_path_factory.mktemp("animatediff_models"))
