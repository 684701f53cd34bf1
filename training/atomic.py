"""Files and folders that appear under their names only when they are whole."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
import errno
import os
from pathlib import Path
import re
import shutil
import uuid

from safetensors import SafetensorError

FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EACCES, errno.EPERM)
WINDOWS_DISK_FULL = 112  # what Windows calls ENOSPC; the same number is another error elsewhere


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a file beside `path`, then put it in place of what stands there.

    Raises OSError with a message that names the file and the remedy; what stood there stays.
    """
    part = _part_of(path)
    with _said_clearly(path, lambda: part.unlink(missing_ok=True)):
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = _mode_of_new(part)
        write(part)
        _finish(part, mode)
        os.replace(part, path)


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """The same for a folder, whose name must be new: a folder cannot be exchanged for another in one move."""
    part = _part_of(path)
    with _said_clearly(path, lambda: shutil.rmtree(part, ignore_errors=True)):
        part.mkdir(parents=True)
        mode = _mode_of_new(part / ".mode")
        write(part)
        for file in part.iterdir():
            _finish(file, mode)
        os.rename(part, path)


def _part_of(path: Path) -> Path:
    """A name of its own; not from tempfile, whose files nobody else may read afterwards."""
    return path.with_name(f".{path.name}-{uuid.uuid4().hex}.tmp")


@contextmanager
def _said_clearly(path: Path, clear: Callable[[], None]) -> Iterator[None]:
    """clear: takes away what is unfinished; only then has a full disk room again."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        number = _system_error(error, path.parent)
        if number is None:
            raise
        raise OSError(number, _message(path, number, error)) from error
    finally:
        with suppress(OSError):  # where nothing could be made, nothing is to be taken away
            clear()


def _system_error(error: Exception, folder: Path) -> int | None:
    """The system's number for what went wrong, None if it was not the writing.

    safetensors has it in the text of its own exception; torch only says that its file is not as long as it should be.
    """
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    if "No space left" in str(error) or _is_full(folder):
        return errno.ENOSPC
    if found := re.search(r"\(os error (\d+)\)", str(error)):
        number = int(found[1])
        return errno.ENOSPC if os.name == "nt" and number == WINDOWS_DISK_FULL else number
    return errno.EIO if "inline_container" in str(error) else None  # torch's writer


def _message(path: Path, number: int, error: Exception) -> str:
    if number in FULL:
        return (
            f"The disk is full, so {path} could not be written; what stood there is intact. "
            "Make room, or choose another folder."
        )
    advice = "Choose another folder or name."
    if number in DENIED:
        advice = (
            "It is write-protected, or in use (Windows replaces no file that is loaded). Choose another name, or "
            "restart ComfyUI before saving over it."
        )
    elif number == errno.EFBIG:
        advice = "The disk takes no file of that size. Choose a folder on another disk."
    return f"{path} could not be written: {getattr(error, 'strerror', None) or error}. {advice}"


def _is_full(folder: Path) -> bool:
    return folder.is_dir() and shutil.disk_usage(folder).free < 2**20


def _mode_of_new(path: Path) -> int:
    """What others may do with a file that is made there now."""
    path.touch()
    mode = path.stat().st_mode
    path.unlink()
    return mode


def _finish(path: Path, mode: int) -> None:
    """Onto the disk, so that the name never comes to stand for less than the whole after a power cut.

    mode: what others may do with the file; safetensors lets its writer alone read it.
    """
    os.chmod(path, mode)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
