"""ComfyUI as a process of its own on a free port of this machine, for the demo and the tests."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import importlib.util
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time

from animatic_pack import dev
from api_client import ApiClient

START_SECONDS = 600  # for a machine that is busy with other things
STOP_SECONDS = 15


@dataclass(frozen=True)
class ServedHost:
    client: ApiClient
    process: subprocess.Popen
    log_path: Path

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")


@contextmanager
def serve(host: Path, base: Path, extra: Sequence[str] = ()) -> Iterator[ServedHost]:
    """Serve the folder `base` with the ComfyUI in `host`, which ends with the context.

    SIGTERM would leave it behind, so that counts as Ctrl+C meanwhile. An error of the connection shows the log's end.
    """
    port = free_port()
    command = dev.server_command(Path(sys.executable), host, base, port, [*extra, *page_arguments(base)])
    log_path = base / "server.log"
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            command, cwd=host, env=dev.child_environment(host), stdout=log, stderr=subprocess.STDOUT
        )
    served = ServedHost(ApiClient(f"http://127.0.0.1:{port}"), process, log_path)
    try:
        wait_until_ready(served)
        yield served
    except ConnectionError as lost:
        tail = "\n".join(served.log().splitlines()[-15:])
        raise RuntimeError(f"{lost}. Its log ends:\n{tail}") from lost
    finally:
        stop(process)
        signal.signal(signal.SIGTERM, former)


def page_arguments(base: Path) -> list[str]:
    """An empty page for a machine without ComfyUI's own, which nothing here looks at."""
    if importlib.util.find_spec("comfyui_frontend_package"):
        return []
    folder = base / "page"
    folder.mkdir(exist_ok=True)
    (folder / "index.html").write_text("<html></html>")
    return ["--front-end-root", str(folder)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_ready(served: ServedHost) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and served.process.poll() is None:
        try:
            served.client.get("/system_stats")
            return
        except OSError:
            time.sleep(0.25)
    raise ConnectionError("ComfyUI did not start")


def stop(process: subprocess.Popen) -> None:
    """Ask it to end; end it by force if it takes too long, or if we are interrupted once more."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()  # nothing, once it has ended
        process.wait()
