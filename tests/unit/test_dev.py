"""The parts of dev.py that touch a user's files and links."""

from animatic_pack import dev
import pytest


def test_a_users_model_is_linked_and_never_removed(tmp_path):
    own = tmp_path / "downloads" / "mine.safetensors"
    own.parent.mkdir()
    own.write_text("weights")
    for _ in range(2):
        assert dev.use_model(own, tmp_path, "checkpoints") == "mine.safetensors"
    linked = tmp_path / "models" / "checkpoints" / "mine.safetensors"
    assert linked.read_text() == own.read_text() == "weights"
    assert dev.use_model(linked, tmp_path, "checkpoints") == "mine.safetensors"
    assert own.read_text() == "weights"


def test_where_links_are_refused_a_model_is_copied_once(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("a privilege is missing")

    monkeypatch.setattr(dev.Path, "symlink_to", refuse)
    own, copy = tmp_path / "mine.safetensors", tmp_path / "models" / "checkpoints" / "mine.safetensors"
    own.write_text("weights")
    for _ in range(2):
        assert dev.use_model(own, tmp_path, "checkpoints") == "mine.safetensors"
        assert copy.read_text() == "weights" and not copy.is_symlink() and len(list(copy.parent.iterdir())) == 1
    own.write_text("other weights")
    with pytest.raises(RuntimeError, match="another file of that name"):
        dev.use_model(own, tmp_path, "checkpoints")
    assert copy.read_text() == "weights"


def test_a_model_that_lies_in_the_folder_already_is_used_there(tmp_path):
    own = tmp_path / "models" / "checkpoints" / "mine.safetensors"
    own.parent.mkdir(parents=True)
    own.write_text("weights")
    assert dev.use_model(own, tmp_path, "checkpoints") == "mine.safetensors"
    assert own.read_text() == "weights" and not own.is_symlink()
    other = tmp_path / "mine.safetensors"
    other.write_text("other")
    with pytest.raises(RuntimeError, match="another file of that name"):
        dev.use_model(other, tmp_path, "checkpoints")
    assert own.read_text() == "weights"


def test_a_file_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="there is no file"):
        dev.use_model(tmp_path / "none.ckpt", tmp_path, "checkpoints")
    (tmp_path / "notes.md").touch()
    with pytest.raises(RuntimeError, match="is no model file"):
        dev.use_model(tmp_path / "notes.md", tmp_path, "checkpoints")


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


def test_paths_among_the_arguments_say_which_tests_run():
    for named in (["tests/gpu"], ["-x", "tests/unit/test_dev.py::test_a_file"], [str(dev.ROOT / "tests" / "host")]):
        assert dev.with_tests(named) == named
    for others in ([], ["-k", "nodes"], ["-x"], ["tests/none"]):
        assert dev.with_tests(others) == ["tests", "-n", "2", "--dist", "loadfile", *others]
