"""Videos that were cut off or damaged: the frames before, and a warning in the log."""

from animatic_pack.nodes.media.decode import DecodeError
import numpy as np
import pytest
from video_files import hashes, load, make, pictures, whole

pytestmark = pytest.mark.usefixtures("warned")  # a file in which nothing is wrong gives no warning


@pytest.fixture
def tail_of_garbage(tmp_path):
    """Ten minutes, of which all but the first 40 seconds cannot be decoded."""
    path = make(tmp_path / "long.mkv", pictures(600, 16, 16), "-c:v", "mjpeg", rate=1)
    data = bytearray(path.read_bytes())
    start = len(data) // 15
    data[start:] = np.random.default_rng(1).bytes(len(data) - start)
    path.write_bytes(data)
    return path


def test_nothing_after_the_cap_is_decoded(tail_of_garbage, warned):
    assert len(load(tail_of_garbage, cap=16)[0]) == 16
    assert len(load(tail_of_garbage, cap=5, skip=3, nth=3)[0]) == 5
    assert not warned
    assert 16 < len(load(tail_of_garbage)[0]) < 600
    assert "long.mkv is damaged or incomplete" in warned.pop()


@pytest.mark.parametrize("faststart, name", [(True, "a.mp4"), (False, "a.mp4"), (False, "a.mkv"), (False, "a.ts")])
def test_a_file_that_was_cut_off(tmp_path, warned, faststart, name):
    options = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "1", *(["-movflags", "+faststart"] if faststart else [])]
    path = make(tmp_path / name, pictures(40), *options)
    before = whole(path, (48, 64, 3))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    if name == "a.mp4" and not faststart:
        with pytest.raises(DecodeError, match="a.mp4 is not a video, or it is damaged or incomplete"):
            load(path)
        return
    frames = load(path)[0]
    assert 8 < len(frames) < 30 and hashes(frames[:-1]) == hashes(before[: len(frames) - 1])
    assert name == "a.ts" or "incomplete" in warned[-1], "a transport stream can end anywhere"
    warned.clear()


def test_a_webp_that_was_cut_off(tmp_path, warned):
    make(tmp_path / "a.webp", pictures(20), "-c:v", "libwebp_anim", "-lossless", "1")
    (tmp_path / "a.webp").write_bytes((tmp_path / "a.webp").read_bytes()[:4000])
    try:
        assert len(load(tmp_path / "a.webp")[0]) < 20 and "incomplete" in warned.pop()
    except DecodeError as error:
        assert "a.webp" in str(error) and "damaged" in str(error)


def test_what_a_file_says_is_no_complaint(tmp_path):
    """ffmpeg's log repeats titles and comments between its own lines."""
    path = make(tmp_path / "a.mov", pictures(), "-c:v", "png", "-metadata", "title=[error] a film about failure")
    assert len(load(path)[0]) == 12
