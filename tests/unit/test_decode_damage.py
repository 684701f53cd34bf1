"""Videos that were cut off or damaged: the frames before, and a warning in the log."""

import re

from animatic_pack.nodes.media.decode import Selection, VideoInfo
import numpy as np
from PIL import Image
import pytest
from video_files import ffmpeg, hashes, load, make, pictures, ramp, whole

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


END_OF_PNG = b"IEND\xaeB`\x82"
INDEX_FIRST = ["-c:v", "png", "-movflags", "+faststart"]


def cut_off(path, count, more=0):
    """Keep `count` frames of a file of PNG frames, and `more` bytes; where they end does not depend on its headers."""
    data = path.read_bytes()
    ends = [found.end() for found in re.finditer(re.escape(END_OF_PNG), data)]
    path.write_bytes(data[: ends[count - 1] + more])
    return path


@pytest.mark.parametrize("more", [0, 40], ids=["between two frames", "inside a frame"])
@pytest.mark.parametrize("name, options", [("a.mov", INDEX_FIRST), ("a.mkv", ["-c:v", "png"])])
def test_a_file_that_was_cut_off(tmp_path, warned, name, options, more):
    source = pictures(40)
    frames = load(cut_off(make(tmp_path / name, source, *options), 20, more))[0]
    assert hashes(frames[:20]) == hashes(source[:20]) and len(frames) - 20 <= bool(more)
    assert f"{name} is damaged or incomplete; {len(frames)} frames were read" in warned.pop()


def test_a_file_that_was_cut_off_before_its_index(tmp_path):
    path = cut_off(make(tmp_path / "a.mov", pictures(40), "-c:v", "png"), 20)
    with pytest.raises(ValueError, match="a.mov is not a video, or it is damaged or incomplete"):
        load(path)


@pytest.mark.parametrize(
    "selection",
    [{"skip": 5}, {"nth": 2}, {"cap": 30}, {"force_rate": 8}, {"force_rate": 48, "skip": 10, "nth": 3}],
    ids=repr,
)
def test_fewer_frames_than_the_file_states(tmp_path, warned, selection):
    """Cut between two frames of a mov, where ffmpeg finds nothing wrong."""
    path = cut_off(make(tmp_path / "a.mov", pictures(40), *INDEX_FIRST), 20)
    count = len(load(path, **selection)[0])
    assert f"a.mov is damaged or incomplete; {count} frames were read. It should have about" in warned.pop()
    load(path, **{**selection, "cap": min(count, 20 - selection.get("skip", 0))})
    assert not warned, "no more were asked for"


def test_what_is_clearly_fewer():
    stated = VideoInfo(24.0, 10.0, counted=True)
    assert Selection().falls_short(stated, 213) and not Selection().falls_short(stated, 214)
    assert not Selection().falls_short(VideoInfo(24.0, 0.1, counted=True), 1)
    assert not Selection().falls_short(VideoInfo(24.0, 10.0), 1)


def with_pause(*codec):
    """Eight seconds pass before the last ten frames."""
    pause = ["-vf", "setpts=if(lt(N\\,30)\\,N\\,N+192)/24/TB", "-fps_mode", "passthrough"]
    return lambda path: make(path, pictures(40, 16, 16), *codec, *pause)


def with_last_frame_held(path):
    """A gif whose last frame stands for three seconds, or a file made of it."""
    gif = path.with_name("held.gif")
    images = [Image.fromarray(frame) for frame in pictures(20, 16, 16)]
    images[0].save(gif, save_all=True, append_images=images[1:], duration=[50] * 19 + [3000])
    if path != gif:
        ffmpeg("-i", gif, "-c:v", "ffv1", "-pix_fmt", "bgr0", path)


def trimmed(path):
    """An edit list shows the last quarter of 40 frames, and eight more that last a second each."""
    slowing = ["-vf", "setpts=if(lt(N\\,40)\\,N\\,24*N-920)/24/TB", "-fps_mode", "passthrough"]
    untrimmed = make(path.with_name("whole.mov"), pictures(48, 16, 16), "-c:v", "libx264", "-g", "48", *slowing)
    ffmpeg("-ss", "1.25", "-i", untrimmed, "-c", "copy", path)


def with_longer_sound(path):
    make(path, pictures(40, 16, 16), "-c:v", "mpeg4", "-c:a", "aac", before=ramp(path.parent, 5.0))


UNEVEN = {
    "pause.mov": with_pause("-c:v", "png"),
    "pause.flv": with_pause("-c:v", "flv"),
    "held.gif": with_last_frame_held,
    "held.mkv": with_last_frame_held,
    "trimmed.mov": trimmed,
    "sound.mp4": with_longer_sound,
}


@pytest.mark.parametrize("name", UNEVEN)
def test_length_and_rate_need_not_tell_the_number_of_frames(tmp_path, warned, name):
    UNEVEN[name](tmp_path / name)
    for selection in ({}, {"skip": 2, "nth": 3}, {"force_rate": 8}, {"cap": 1000}):
        load(tmp_path / name, **selection)
        assert not warned, selection


def test_a_transport_stream_can_end_anywhere(tmp_path, warned):
    path = make(tmp_path / "a.ts", pictures(40), "-c:v", "mpeg2video", "-g", "1")
    before = whole(path, (48, 64, 3))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames = load(path)[0]
    assert 8 < len(frames) < 30 and hashes(frames[:-1]) == hashes(before[: len(frames) - 1])
    warned.clear()  # the last frame may be damaged


@pytest.mark.parametrize("kept", [30, 4000, -1])
def test_a_webp_that_was_cut_off_cannot_be_read(tmp_path, kept):
    path = make(tmp_path / "a.webp", pictures(20), "-c:v", "libwebp_anim", "-lossless", "1")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="No frame of a.webp can be read: it is damaged"):
        load(path)


def test_what_a_file_says_is_no_complaint(tmp_path):
    """ffmpeg's log repeats titles and comments between its own lines."""
    path = make(tmp_path / "a.mov", pictures(), "-c:v", "png", "-metadata", "title=[error] a film about failure")
    assert len(load(path)[0]) == 12
