"""The clients for API users, on served hosts."""

from contextlib import ExitStack
import json
import os
import subprocess
import sys
import threading
import time

from animatic_pack import ROOT, dev
import pytest
from served_host import serve

CLIENTS = ROOT / "clients"
SLOW = 24  # pictures of a stock workflow that takes a few seconds
PICTURES = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "api/picture"}},
}


def run(script: str, *arguments, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, CLIENTS / script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture
def workflow(tmp_path):
    path = tmp_path / "pictures.json"
    path.write_text(json.dumps(PICTURES))
    return path


def test_client_queues_with_overrides_and_fetches(host, workflow, tmp_path):
    changes = ["--set", "1.batch_size=2", "--set", "SaveImage.filename_prefix=api/other"]
    done = run("queue_workflow.py", workflow, *changes, "--server", host.client.url, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    fetched = sorted((tmp_path / "out").iterdir())
    assert len(fetched) == 2 and all(path.name.startswith("other") and path.stat().st_size for path in fetched)
    assert "SaveImage" in done.stdout


@pytest.mark.parametrize(
    "change, words", [("1.width=0", "EmptyImage"), ("SaveImage.filename_prefix=../../out", "outside")]
)
def test_client_says_why_the_server_refused(host, workflow, tmp_path, change, words):
    done = run("queue_workflow.py", workflow, "--set", change, "--server", host.client.url, "--out", tmp_path)
    assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr


def test_farm_of_three_servers_one_of_which_dies(workflow, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
    jobs = tmp_path / "jobs.csv"
    slow = {"1.width": 1024, "1.height": 1024, "1.batch_size": SLOW}
    rows = [[f"job{i}", *slow.values(), i] for i in range(6)]
    header = ["job", *slow, "1.color"]
    jobs.write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n")
    with ExitStack() as stack:
        served = [stack.enter_context(serve(dev.find_host(), base(tmp_path / str(i)))) for i in range(3)]
        urls = [part for one in served for part in ("--server", one.client.url)]
        victim = served[1]
        ends = threading.Thread(target=end_at_work, args=(victim,), daemon=True)
        ends.start()
        command = ["render_farm.py", workflow, jobs, "--out", tmp_path / "renders", *urls]
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
        done = run(*command, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        ends.join()
        assert victim.process.poll() is not None and "servers left: 2" in done.stdout
        assert "6 done, 0 failed" in done.stdout
        for i in range(6):
            assert len(list((tmp_path / "renders" / f"job{i}").iterdir())) == SLOW
        again = run(*command, env=environment)
        assert "6 of them done before" in again.stdout and again.returncode == 0


def base(folder):
    for name in ("models", "input", "output", "custom_nodes"):
        (folder / name).mkdir(parents=True)
    return folder


def end_at_work(victim) -> None:
    """Kill a server as soon as it renders something."""
    while not victim.client.get("/queue")["queue_running"]:
        time.sleep(0.05)
    victim.process.kill()
