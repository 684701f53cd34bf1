"""Files that are written whole or not at all, on disks that take no more, for all who may read files there."""

from contextlib import contextmanager
import errno
import os

from animatic_pack.training.atomic import write_file, write_folder
import pytest
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
import torch

resource = pytest.importorskip("resource")  # not on Windows
WEIGHTS = {"a": torch.ones(2**16)}
WRITERS = {
    "safetensors": lambda part: save_file(WEIGHTS, part),
    "torch": lambda part: torch.save(WEIGHTS, part),
    "text": lambda part: part.write_text("x" * 2**18),
}
# as safetensors 0.7 and torch 2.11 say it on a file system without room
FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    SafetensorError(f"Error while serializing: I/O error: Disk quota exceeded (os error {errno.EDQUOT})"),
]
SHORT = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")


@contextmanager
def files_of_at_most(size: int):
    """The system itself refuses what goes beyond, as a disk of FAT32 refuses 4 GiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_the_system_cuts_short_leaves_the_old_one(writer, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file({"old": torch.zeros(3)}, path)
    with files_of_at_most(2**16), pytest.raises(OSError) as raised:
        write_file(path, WRITERS[writer])
    assert f"{path} could not be written: " in str(raised.value) and " folder" in str(raised.value)
    assert raised.value.errno == (errno.EIO if writer == "torch" else errno.EFBIG)
    assert list(load_file(path)) == ["old"] and list(tmp_path.iterdir()) == [path]
    write_file(path, WRITERS[writer])
    assert path.stat().st_size >= 2**18


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_full_disk_is_said_with_the_file_and_the_remedy(error, tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"old")

    def write(part):
        part.write_bytes(b"half")
        raise error

    with pytest.raises(OSError, match="The disk is full, so .*mine.safetensors .* Make room, or choose another folder"):
        write_file(path, write)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write_whole", [write_file, write_folder])
def test_room_is_looked_for_while_the_unfinished_stands_there(write_whole, tmp_path, monkeypatch):
    """torch does not say why its file is short, and what takes the last room is that file."""
    path = tmp_path / "mine"

    def write(part):
        (part / "weights.pt" if part.is_dir() else part).write_bytes(b"half")
        raise SHORT

    def room(folder):
        return type("Usage", (), {"free": 0 if any(folder.iterdir()) else 2**40})

    monkeypatch.setattr("animatic_pack.training.atomic.shutil.disk_usage", room)
    with pytest.raises(OSError, match="The disk is full, so .*mine could not be written"):
        write_whole(path, write)
    assert not list(tmp_path.iterdir())


def test_what_is_not_the_disk_stays_as_it_is(tmp_path):
    def write(part):
        raise RuntimeError("CUDA error: out of memory")

    with pytest.raises(RuntimeError, match="CUDA error"):
        write_file(tmp_path / "mine", write)
    assert not list(tmp_path.iterdir())


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
