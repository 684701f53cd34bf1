"""The parts of dev.py that touch a user's files, links and network settings."""

import socket
import threading

from animatic_pack import dev
import pytest


def test_a_users_model_is_linked_and_never_removed(tmp_path):
    own = tmp_path / "downloads" / "mine.safetensors"
    own.parent.mkdir()
    own.write_text("weights")
    for _ in range(2):
        assert dev.use_model(own, tmp_path, "checkpoints", "default") == "mine.safetensors"
    linked = tmp_path / "models" / "checkpoints" / "mine.safetensors"
    assert linked.read_text() == own.read_text() == "weights"
    assert dev.use_model(linked, tmp_path, "checkpoints", "default") == "mine.safetensors"
    assert own.read_text() == "weights"


def test_a_model_that_lies_in_the_folder_already_is_used_there(tmp_path):
    own = tmp_path / "models" / "checkpoints" / "mine.safetensors"
    own.parent.mkdir(parents=True)
    own.write_text("weights")
    assert dev.use_model(own, tmp_path, "checkpoints", "default") == "mine.safetensors"
    assert own.read_text() == "weights" and not own.is_symlink()
    other = tmp_path / "mine.safetensors"
    other.write_text("other")
    with pytest.raises(RuntimeError, match="another file of that name"):
        dev.use_model(other, tmp_path, "checkpoints", "default")
    assert own.read_text() == "weights"


def test_no_model_wrong_file_and_only_one_of_two(tmp_path):
    assert dev.use_model(None, tmp_path, "checkpoints", "default") == "default"
    with pytest.raises(RuntimeError, match="there is no file"):
        dev.use_model(tmp_path / "none.ckpt", tmp_path, "checkpoints", "default")
    (tmp_path / "notes.md").touch()
    with pytest.raises(RuntimeError, match="is no model file"):
        dev.use_model(tmp_path / "notes.md", tmp_path, "checkpoints", "default")


def test_a_link_that_leads_elsewhere_is_made_anew(tmp_path):
    old, new, link = tmp_path / "old", tmp_path / "new", tmp_path / "link"
    old.mkdir()
    new.mkdir()
    dev.link_folder(old, link)
    dev.link_folder(old, link)
    assert link.samefile(old)
    dev.link_folder(new, link)
    assert link.samefile(new) and old.exists()
    new.rmdir()
    dev.link_folder(old, link)
    assert link.samefile(old)


def test_the_servers_address_is_never_asked_of_a_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        client, _ = listener.accept()
        client.recv(4096)
        client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}")
        client.close()

    threading.Thread(target=answer, daemon=True).start()
    server = object.__new__(dev.Server)
    server.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert server.get("/") == {}


def test_links_between_nodes_are_not_overwritten():
    workflow = {"1": {"inputs": {"model": "a"}}, "2": {"inputs": {"model": ["1", 0]}}}
    dev.set_input(workflow, "model", "b")
    assert workflow == {"1": {"inputs": {"model": "b"}}, "2": {"inputs": {"model": ["1", 0]}}}
