"""The served host and its client, against a stand-in for ComfyUI."""

import os
from pathlib import Path
import signal
import subprocess
import sys

from animatic_pack import ROOT
import psutil
import pytest
from served_host import serve

HOST = Path(__file__).parent / "fake_host"
FIRST, LAST = ["executing", {"node": "1"}], ["executing", {"node": None}]


def served(base, *extra):
    return serve(HOST, base, ["--cpu", *extra])  # which spares the look for a graphics card


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with served(tmp_path_factory.mktemp("base")) as host:
        yield host.client


def test_a_rendered_prompt_returns_its_history_and_shows_its_messages(client):
    seen = []

    def watch(message):
        seen.append([message["type"], {"node": message["data"]["node"]}])
        assert client.get("/system_stats") == {}

    others = ["executing", {"node": None, "prompt_id": "another"}]
    history = client.render({"messages": [others, FIRST, LAST, FIRST]}, watch, extra_data={"note": "a"})
    assert history == {"outputs": {"note": "a"}}
    assert seen == [["executing", {"node": None}], FIRST, LAST]


def test_failures_are_told_in_the_hosts_own_words(client):
    error = ["execution_error", {"node_type": "KSampler", "exception_message": "no model\n"}]
    with pytest.raises(RuntimeError, match="^KSampler: no model$"):
        client.render({"messages": [FIRST, error]})
    with pytest.raises(RuntimeError, match="^the prompt was interrupted$"):
        client.render({"messages": [FIRST, ["execution_interrupted", {}]]})
    with pytest.raises(RuntimeError, match=r"^/prompt was refused \(400\): prompt_no_outputs$"):
        client.render({})


def test_the_server_is_never_asked_of_a_proxy(client, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where none listens
    monkeypatch.delenv("no_proxy", raising=False)
    assert client.render({"messages": [LAST]}) == {"outputs": {}}


@pytest.mark.parametrize("then", ["close", "die"])
def test_a_lost_connection_shows_the_end_of_the_log(tmp_path, then):
    with pytest.raises(RuntimeError, match="closed the connection before the workflow ended. Its log ends:") as lost:
        with served(tmp_path) as host:
            host.client.render({"messages": [FIRST], "then": then})
    assert ("out of memory" in str(lost.value)) == (then == "die")
    with pytest.raises(ConnectionError, match="no answer from http://127.0.0.1:"):
        host.client.get("/system_stats")


def test_a_host_that_does_not_start_shows_the_end_of_its_log(tmp_path):
    with pytest.raises(RuntimeError, match="did not start. Its log ends:\na package is missing"):
        with served(tmp_path, "--broken"):
            pass


SERVING = """
import time
from pathlib import Path
from served_host import serve
with serve(Path({host!r}), Path({base!r}), ["--cpu"]) as served:
    print(served.process.pid, flush=True)
    time.sleep(3600)
"""
COMMAND = """
import signal, sys
from pathlib import Path
from animatic_pack import dev
for sent in (signal.SIGTERM, signal.SIGINT):  # the second is ignored in what a shell runs in the background
    signal.signal(sent, signal.default_int_handler)
dev.run([sys.executable, "-c", {serving!r}], Path({host!r}), folder=Path.cwd())
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=lambda sent: sent.name)
def test_the_host_ends_with_the_command_that_wanted_it(tmp_path, sent):
    command = COMMAND.format(serving=SERVING.format(host=str(HOST), base=str(tmp_path)), host=str(HOST))
    started = subprocess.Popen(
        [sys.executable, "-c", command], cwd=ROOT / "tests", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with started:
        host = psutil.Process(int(started.stdout.readline()))
        started.send_signal(sent)
        started.wait(300)
    assert not host.is_running()
