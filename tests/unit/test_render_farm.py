"""The render farm's schedule with servers that are no servers, and overrides of workflows."""

from collections import deque
import importlib
import json
import subprocess
import sys

from animatic_pack import ROOT
import pytest


@pytest.fixture
def farm(monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.syspath_prepend(str(ROOT / "clients"))
    return importlib.import_module("render_farm")


@pytest.fixture
def client(farm):
    return importlib.import_module("queue_workflow")


class Machines:
    """Servers a, b, c: each job takes its turn; `ends` says which server dies at which job."""

    def __init__(self, farm, ends=(), fails=()):
        self.farm, self.ends, self.fails = farm, set(ends), set(fails)
        self.rendered, self.begun = [], []

    def begin(self, server, job):
        self.begun.append((server, job))
        return server, job

    def result(self, started):
        server, job = started
        if (server, job) in self.ends or (server, "any") in self.ends:
            raise self.farm.Gone(f"{server} does not answer")
        if job in self.fails:
            raise RuntimeError("no such model")
        self.rendered.append(started)
        return [(f"{job}.mp4", server.encode())]

    def go(self, schedule, servers, kept):
        self.farm.run(schedule, servers, self.begin, lambda busy: busy[0], self.result, kept.append_one, lambda _: None)


class Kept(dict):
    def append_one(self, job, files):
        assert job not in self, "fetched once"
        self[job] = files


def test_every_job_once_and_those_of_a_dead_server_elsewhere(farm):
    machines, kept = Machines(farm, ends=[("b", "any")]), Kept()
    schedule = farm.Schedule(deque("12345678"))
    machines.go(schedule, "abc", kept)
    assert set(kept) == set("12345678") == set(schedule.done) and not schedule.failed
    assert {server for server, _ in machines.rendered} == {"a", "c"}
    assert sum(server == "b" for server, _ in machines.begun) == 1, "nothing more for a dead server"


def test_a_workflow_that_fails_is_not_tried_again_and_its_server_goes_on(farm):
    machines, kept = Machines(farm, fails=["2"]), Kept()
    schedule = farm.Schedule(deque("123"))
    machines.go(schedule, "a", kept)
    assert schedule.failed == {"2": "no such model"} and set(kept) == {"1", "3"}


def test_a_job_that_ends_every_server_is_given_up(farm):
    machines, kept = Machines(farm, ends=[(server, "1") for server in "abcd"]), Kept()
    schedule = farm.Schedule(deque("12"))
    machines.go(schedule, "abcd", kept)
    assert "3 servers were lost" in schedule.failed["1"] and set(kept) == {"2"}


def test_no_server_left(farm):
    schedule = farm.Schedule(deque("123"))
    Machines(farm, ends=[("a", "any")]).go(schedule, "a", Kept())
    assert set(schedule.failed) == set("123") and schedule.failed["1"] == "no server was left"


def test_files_of_a_job_come_at_once(farm, tmp_path):
    (tmp_path / ".one.part").mkdir()
    (tmp_path / ".one.part" / "half.mp4").write_bytes(b"")
    farm.keep_files(tmp_path, "one", [("../clip.mp4", b"abc")])
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["clip.mp4"]
    assert not (tmp_path / ".one.part").exists()


WORKFLOW = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "cfg": 7.0, "model": ["1", 0]}, "_meta": {"title": "First"}},
    "4": {"class_type": "SaveImage", "inputs": {"filename_prefix": "a"}},
}


def test_jobs_are_rows_of_overrides(farm, tmp_path):
    (tmp_path / "jobs.csv").write_text("job,3.seed,SaveImage.filename_prefix\none,5,x\ntwo,,\n")
    jobs = farm.read_jobs(tmp_path / "jobs.csv", WORKFLOW)
    assert jobs["one"]["3"]["inputs"]["seed"] == 5 and jobs["one"]["4"]["inputs"]["filename_prefix"] == "x"
    assert jobs["two"] == WORKFLOW


@pytest.mark.parametrize("rows", ["one\none", "../one", '""', ".one"])
def test_a_jobs_name_must_be_a_folders(farm, tmp_path, rows):
    (tmp_path / "jobs.csv").write_text(f"job\n{rows}\n")
    if rows == '""':
        (tmp_path / "jobs.csv").write_text("job,3.seed\n,5\n")
    with pytest.raises(ValueError, match="a name of its own"):
        farm.read_jobs(tmp_path / "jobs.csv", WORKFLOW)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"job,6.text\na,a cat, running\n", "row 1 has more entries than there are columns"),
        (b"job,note\na,hi\n", "the column 'note' is no node.input"),
        (b"job,6.text\na,caf\xe9\n", "jobs.csv is no table in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(farm, tmp_path, table, words):
    (tmp_path / "jobs.csv").write_bytes(table)
    with pytest.raises(ValueError, match=words):
        farm.read_jobs(tmp_path / "jobs.csv", WORKFLOW)


@pytest.mark.parametrize("content", [b"hello", b"\x89PNG"])
def test_a_file_that_is_no_json_is_named(client, tmp_path, content):
    (tmp_path / "clip.png").write_bytes(content)
    with pytest.raises(ValueError, match="clip.png is no workflow: it cannot be read as JSON"):
        client.load_workflow(tmp_path / "clip.png")


@pytest.mark.parametrize("name", ["3", "First", "KSampler"])
def test_override_names_a_node(client, name):
    changed = client.with_overrides(WORKFLOW, client.parse_overrides([f"{name}.cfg=2.5"]))
    assert changed["3"]["inputs"]["cfg"] == 2.5 and WORKFLOW["3"]["inputs"]["cfg"] == 7.0


@pytest.mark.parametrize(
    "text, words", [("3.sed=1", "it has seed, cfg"), ("9.seed=1", "0 nodes"), ("seed", "node.input=value")]
)
def test_wrong_override_says_what_there_is(client, text, words):
    with pytest.raises(ValueError, match=words):
        client.with_overrides(WORKFLOW, client.parse_overrides([text]))


def test_a_videos_preview_is_not_fetched_beside_it(client):
    preview = {"filename": "preview.webp", "subfolder": "", "type": "temp"}
    video = {"filename": "clip.mov", "subfolder": "a", "type": "output", "format": "video/ProRes"}
    outputs = {"9": {"images": [preview], "animated": [True], "gifs": [video]}, "2": {"text": ["a module"]}}
    assert client.made_files(outputs) == [video]
    assert client.made_files({"1": {"images": [preview, preview]}}) == [preview]


def test_files_of_one_name_do_not_overwrite_each_other(client):
    made = [{"filename": name, "subfolder": str(i)} for i, name in enumerate(["a_1.png", "A_1.png", "b", "a_1.png"])]
    assert client.names_in_one_folder(made) == ["a_1.png", "A_1-2.png", "b", "a_1-3.png"]


def test_a_server_that_does_not_become_ready_is_ended(farm, monkeypatch):
    server = farm.Server.__new__(farm.Server)
    monkeypatch.setattr(farm, "START_SECONDS", 0.2)
    with pytest.raises(RuntimeError, match="did not start"):
        server.__init__(None, [sys.executable, "-c", "import time; time.sleep(600)"])
    assert server.process.poll() is not None


def test_client_without_a_server_says_so(tmp_path):
    pytest.importorskip("aiohttp")
    (tmp_path / "a.json").write_text(json.dumps(WORKFLOW))
    command = [sys.executable, ROOT / "clients" / "queue_workflow.py", tmp_path / "a.json"]
    done = subprocess.run(
        [*command, "--server", "http://127.0.0.1:9", "--out", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 1 and "No answer from http://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
