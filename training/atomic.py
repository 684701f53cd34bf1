"""Files and folders that appear under their names only when they are whole."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import errno
import os
from pathlib import Path
import shutil
import uuid

from safetensors import SafetensorError


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a file beside `path`, then put it in place of what stands there.

    Raises OSError with a message that names the file and, for a full disk, the remedy; what stood there stays.
    """
    with _said_clearly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = _part_of(path)
        try:
            part.touch()
            mode = part.stat().st_mode
            write(part)
            _finish(part, mode)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """The same for a folder, whose name must be new: a folder cannot be exchanged for another in one move."""
    with _said_clearly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = _part_of(path)
        part.mkdir()
        try:
            mode = _mode_of_new_files(part)
            write(part)
            for file in part.iterdir():
                _finish(file, mode)
            os.rename(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _part_of(path: Path) -> Path:
    """A name of its own; not from tempfile, whose files nobody else may read afterwards."""
    return path.with_name(f".{path.name}-{uuid.uuid4().hex}.tmp")


@contextmanager
def _said_clearly(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        # safetensors and torch have exceptions of their own for what the system says
        if number == errno.ENOSPC or "No space left" in str(error) or _is_full(path.parent):
            message = f"The disk is full, so {path} could not be written; what stood there is intact. Make room."
            raise OSError(errno.ENOSPC, message) from error
        if isinstance(error, OSError):
            raise OSError(number, f"{path} could not be written: {error.strerror or error}.") from error
        raise


def _is_full(folder: Path) -> bool:
    return folder.is_dir() and shutil.disk_usage(folder).free < 2**20


def _mode_of_new_files(folder: Path) -> int:
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    return mode


def _finish(path: Path, mode: int) -> None:
    """Onto the disk, so that the name never comes to stand for less than the whole after a power cut.

    mode: what others may do with the file; safetensors lets its writer alone read it.
    """
    os.chmod(path, mode)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
