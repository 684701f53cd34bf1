"""Files that appear whole may be read by whom other files may, whoever wrote them."""

import os

from animatic_pack.training.atomic import write_file, write_folder
import pytest
from safetensors.torch import save_file
import torch

WEIGHTS = {"weight": torch.zeros(2)}


@pytest.fixture
def mode(tmp_path):
    """Of files here."""
    before = os.umask(0o027)
    (tmp_path / "ordinary").touch()
    yield (tmp_path / "ordinary").stat().st_mode
    os.umask(before)


def test_written_weights_are_read_by_whom_other_files_are(tmp_path, mode):
    write_file(tmp_path / "lora.safetensors", lambda part: save_file(WEIGHTS, part))
    write_folder(tmp_path / "state", lambda part: save_file(WEIGHTS, part / "weights.safetensors"))
    for name in ("lora.safetensors", "state/weights.safetensors"):
        assert (tmp_path / name).stat().st_mode == mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lora.safetensors", "ordinary", "state"]
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["weights.safetensors"]


def test_what_fails_leaves_what_stood_there(tmp_path):
    path = tmp_path / "lora.safetensors"
    path.write_bytes(b"old")

    def fail(part):
        part.write_bytes(b"half")
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="lora.safetensors could not be written: Input/output error"):
        write_file(path, fail)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
