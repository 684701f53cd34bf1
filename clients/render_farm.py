#!/usr/bin/env python3
"""Render a list of jobs on many ComfyUI servers, with Ray (pip install ray).

    python clients/render_farm.py workflows/api/text_to_animation.json jobs.csv \
        --server http://render1:8188 --server http://render2:8188 --out renders

jobs.csv has a column `job` with a name for each row, and columns named `node.input` with what changes. Each job's files
come into out/<job>/, once, when all of them are there. Jobs of a server that dies go to another one. The same command
again does what is missing. Instead of --server, `--start 4 --comfyui PATH` starts servers anywhere on the Ray cluster.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterable
import csv
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
import shutil
import socket
import subprocess
import sys
import time
from typing import Any

from queue_workflow import Client, load_workflow, names_in_one_folder, parse_value, with_overrides

MOST_TRIES = 3  # a job that has lost so many servers is likely to be what ended them
START_SECONDS = 600

Files = list[tuple[str, bytes]]


@dataclass
class Schedule:
    """Which job is next, and what became of each. It knows nothing of Ray or ComfyUI."""

    waiting: deque[str]
    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)

    def take(self) -> str | None:
        return self.waiting.popleft() if self.waiting else None

    def lost(self, job: str, why: str) -> None:
        """Its server is gone: another one tries, before all jobs that have not begun."""
        self.tries[job] = self.tries.get(job, 0) + 1
        if self.tries[job] < MOST_TRIES:
            self.waiting.appendleft(job)
        else:
            self.failed[job] = f"{self.tries[job]} servers were lost while they rendered it; the last: {why}"


class Gone(Exception):
    """A server does not answer any more."""


def run(
    schedule: Schedule,
    servers: Iterable[Any],
    begin: Callable[[Any, str], Any],
    wait: Callable[[list], Any],
    result: Callable[[Any], Files],
    keep: Callable[[str, Files], None],
    say: Callable[[str], None],
) -> None:
    """Give each server one job at a time until all are done or no server is left.

    begin: starts a job on a server and returns what `wait` picks the first finished of. result: its files; raises Gone
    when the server is lost, RuntimeError when the workflow fails.
    """
    idle, busy = list(servers), {}
    while True:
        while idle and (job := schedule.take()):
            server = idle.pop()
            busy[begin(server, job)] = server, job
        if not busy:
            break
        finished = wait(list(busy))
        server, job = busy.pop(finished)
        try:
            keep(job, result(finished))
            schedule.done.append(job)
            say(f"{job}: done")
        except Gone as gone:
            schedule.lost(job, str(gone))
            say(f"{job}: {gone}; servers left: {len(idle) + len(busy)}")
            continue
        except RuntimeError as error:
            schedule.failed[job] = str(error)
            say(f"{job}: {error}")
        idle.append(server)
    for job in schedule.waiting:
        schedule.failed[job] = "no server was left"


def read_jobs(path: Path, workflow: dict) -> dict[str, dict]:
    """Each job's workflow by its name. Raises ValueError for a name that is no folder's, one twice, or a column."""
    jobs: dict[str, dict] = {}
    for row in _rows(path):
        name = (row.pop("job", None) or "").strip()
        if not name or name in jobs or PurePosixPath(name).name != name or "\\" in name or name.startswith("."):
            raise ValueError(f"{path}: each row needs a name of its own in the column 'job', without slashes: {name!r}")
        jobs[name] = with_overrides(workflow, {key: parse_value(value) for key, value in row.items() if value})
    return jobs


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            read = list(rows)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no table in UTF-8. Save it as a csv in UTF-8, with commas.") from None
    unknown = [column for column in rows.fieldnames or () if column != "job" and "." not in column]
    if unknown:
        raise ValueError(f"{path}: the column {unknown[0]!r} is no node.input, such as 7.seed")
    for number, row in enumerate(read, 1):
        if None in row:
            raise ValueError(
                f"{path}: row {number} has more entries than there are columns. Put texts with commas in quotes."
            )
    return read


def keep_files(folder: Path, job: str, files: Files) -> None:
    """All of a job's files at once: a folder that is there is complete."""
    beside = folder / f".{job}.part"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name, content in files:
        (beside / PurePosixPath(name).name).write_bytes(content)
    beside.rename(folder / job)


class Server:
    """A Ray actor: one ComfyUI that runs already, or that it starts on its machine."""

    def __init__(self, url: str | None, command: list[str] | None = None):
        self.process = None
        if url is None:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            self.process = subprocess.Popen([*command, "--port", str(port), "--disable-auto-launch"])
            url = f"http://127.0.0.1:{port}"
            self._wait_until_ready(port)
        self.client = Client(url)

    def _wait_until_ready(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.5)
        self.stop()  # of an actor that fails to start, nobody else can
        raise RuntimeError("ComfyUI did not start; its own lines say why")

    async def render(self, workflow: dict) -> tuple[str, Any]:
        """("files", them), ("gone", why) or ("error", the server's words)."""
        try:
            return "files", await self._render(workflow)
        except OSError as gone:
            return "gone", str(gone)
        except RuntimeError as error:
            return "error", str(error)

    async def _render(self, workflow: dict) -> Files:
        made = await self.client.render(workflow)
        return [(name, await self.client.fetch(one)) for one, name in zip(made, names_in_one_folder(made), strict=True)]

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()


def main(options: argparse.Namespace) -> int:
    try:
        import ray
    except ImportError:
        raise RuntimeError(
            "This needs Ray: pip install ray. One machine alone is clients/queue_workflow.py."
        ) from None
    jobs = read_jobs(options.jobs, load_workflow(options.workflow))
    missing = [name for name in jobs if not (options.out / name).is_dir()]
    print(f"{len(jobs)} jobs, {len(jobs) - len(missing)} of them done before", flush=True)
    if not missing:
        return 0
    ray.init(address=options.ray, runtime_env={"working_dir": str(Path(__file__).parent)}, log_to_driver=False)
    schedule = Schedule(deque(missing))

    def result(finished: Any) -> Files:
        try:
            kind, value = ray.get(finished)
        except ray.exceptions.RayError as lost:  # the actor's machine, or the server that it should start
            raise Gone(f"a machine of the cluster is lost: {lost}") from lost
        if kind == "gone":
            raise Gone(value)
        if kind == "error":
            raise RuntimeError(value)
        return value

    servers = start_servers(ray, options)
    try:
        run(
            schedule,
            servers,
            begin=lambda server, job: server.render.remote(jobs[job]),
            wait=lambda busy: ray.wait(busy, num_returns=1)[0][0],
            result=result,
            keep=lambda job, files: keep_files(options.out, job, files),
            say=lambda line: print(line, flush=True),
        )
    finally:
        ray.wait([server.stop.remote() for server in servers], num_returns=len(servers), timeout=30)
        ray.shutdown()
    print(f"{len(schedule.done)} done, {len(schedule.failed)} failed")
    for job, why in schedule.failed.items():
        print(f"  {job}: {why}")
    return 1 if schedule.failed else 0


def start_servers(ray: Any, options: argparse.Namespace) -> list:
    """An actor for each server. Those that start one take a card each, where the cluster has cards."""
    cards = 1 if options.start and ray.cluster_resources().get("GPU") else 0
    actor = ray.remote(num_cpus=0, num_gpus=cards)(Server)
    if options.server:
        return [actor.remote(url) for url in options.server]
    command = [options.python, str(options.comfyui / "main.py"), *options.arguments]
    return [actor.remote(None, command) for _ in range(options.start)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("workflow", type=Path, help="a .json file in API form")
    parser.add_argument("jobs", type=Path, help="a .csv file: a column 'job', and columns named node.input")
    parser.add_argument("--out", type=Path, default=Path("renders"), help="folder for the results, default renders")
    parser.add_argument("--ray", help="address of a Ray cluster, e.g. auto; default: one on this machine")
    parser.add_argument("--server", action="append", help="a running ComfyUI's address; may be repeated")
    parser.add_argument("--start", type=int, default=0, help="how many servers to start instead")
    parser.add_argument("--comfyui", type=Path, help="with --start: ComfyUI's folder, the same on every machine")
    parser.add_argument("--python", default=sys.executable, help="with --start: ComfyUI's Python")
    parser.add_argument("arguments", nargs="*", metavar="-- ...", help="with --start: arguments for ComfyUI")
    options = parser.parse_args()
    if bool(options.server) == bool(options.start) or (options.start and not options.comfyui):
        parser.error("name servers with --server, or start some with --start and --comfyui")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main(arguments()))
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(str(error))
