"""The video decoder against ffmpeg's own whole decode: every pixel, and every selection of frames."""

import itertools
import math
import random

from animatic_pack.nodes.media.decode import Selection
import numpy as np
import pytest
from video_files import RATE, ffmpeg, hashes, load, lossless, make, pictures, whole

pytestmark = pytest.mark.usefixtures("warned")  # a file in which nothing is wrong gives no warning


FILES = {
    "h264.mp4": ["-c:v", "libx264", "-pix_fmt", "yuv420p"],
    "h264_b_frames.mov": ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", "3", "-g", "6"],
    "h265_10bit.mp4": ["-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=error"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p"],
    "mpeg4.avi": ["-c:v", "mpeg4", "-q:v", "3"],
    "mpeg2.ts": ["-c:v", "mpeg2video", "-q:v", "3"],
    "prores.mov": ["-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"],
    "moving.gif": ["-c:v", "gif"],
    "moving.apng": ["-f", "apng"],
}


@pytest.mark.parametrize("name", FILES)
def test_frames_are_those_of_ffmpegs_own_decode(tmp_path, name):
    source = pictures()
    path = make(tmp_path / name, source, *FILES[name], rate=25)
    frames, times, rate, info = load(path)
    reference = whole(path, (48, 64, 3))
    assert len(reference) == 12 and hashes(frames) == hashes(reference)
    assert np.abs(frames.mean((1, 2, 3)) - source.mean((1, 2, 3))).max() < 6, "in order"
    assert rate == pytest.approx(25, rel=0.01) and not info.sound
    assert np.diff(times) == pytest.approx(1 / 25, abs=0.011)
    assert Selection().expected(info) in ((11, 12, 13) if info.seconds else (0,))


@pytest.mark.parametrize("size", [(35, 51), (1, 1), (48, 64)])
def test_lossless_files_give_the_very_pixels(tmp_path, size):
    source = pictures(5, *size)
    assert hashes(load(lossless(tmp_path / "odd.mkv", source))[0]) == hashes(source)


def test_odd_size_in_mp4(tmp_path):
    path = make(tmp_path / "odd.mp4", pictures(5, 35, 51), "-c:v", "libx264", "-pix_fmt", "yuv444p")
    assert hashes(load(path)[0]) == hashes(whole(path, (35, 51, 3)))


def test_a_phone_held_upright(tmp_path):
    flat = make(tmp_path / "flat.mp4", pictures(4), "-c:v", "libx264", "-pix_fmt", "yuv444p")
    ffmpeg("-display_rotation", "90", "-i", flat, "-c", "copy", tmp_path / "turned.mp4")
    turned = load(tmp_path / "turned.mp4")[0]
    assert turned.shape == (4, 64, 48, 3)
    assert np.abs(turned.astype(int) - np.rot90(load(flat)[0], 1, (1, 2))).max() <= 2


@pytest.mark.parametrize("rate", ["24000/1001", "30000/1001", "60000/1001", "12.5", "1/3", "8", "240"])
@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_the_frame_rate_is_exact(tmp_path, rate, extension):
    path = make(tmp_path / f"rate.{extension}", pictures(4), "-c:v", "mpeg4", "-bf", "0", rate=rate)
    top, _, bottom = rate.partition("/")
    assert load(path)[2] == pytest.approx(
        float(top) / float(bottom or 1),
        rel=1e-5 if extension == "mp4" else 2e-3,
        abs=0 if extension == "mp4" else 0.005,
    )


def forced(count, rate):
    """Which frame of a steady video each frame at `rate` shows: the latest that is not rounded to a later one."""
    starts = [math.floor(index * rate / RATE + 0.5) for index in range(count + 1)]
    return [max(i for i in range(count) if starts[i] <= shown) for shown in range(starts[-1])]


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    """Without loss, and with exact times, which Matroska would round to milliseconds."""
    source = pictures(30, 16, 16)
    return make(tmp_path_factory.mktemp("steady") / "steady.mov", source, "-c:v", "png"), source


def check_selection(steady, force_rate, skip, nth, cap):
    path, source = steady
    shown = forced(len(source), force_rate) if force_rate else list(range(len(source)))
    wanted = shown[skip::nth][: cap or None]
    if not wanted:
        with pytest.raises(ValueError, match="lower skip_first_frames"):
            load(path, force_rate=force_rate, skip=skip, nth=nth, cap=cap)
        return
    frames, times, rate, info = load(path, force_rate=force_rate, skip=skip, nth=nth, cap=cap)
    assert hashes(frames) == hashes(source[wanted])
    own = force_rate or RATE
    assert rate == pytest.approx(own / nth)
    assert times == pytest.approx([(skip + nth * index) / own for index in range(len(wanted))], abs=0.0011)
    assert abs(Selection(force_rate, skip, nth, cap).expected(info) - len(wanted)) <= 1


@pytest.mark.parametrize("force_rate", [0, 8, 12, 48, 10, 29.97])
def test_force_rate_repeats_and_drops(steady, force_rate):
    check_selection(steady, force_rate, 0, 1, 0)


@pytest.mark.parametrize("skip, nth, cap", itertools.product([0, 7], [1, 3], [0, 1, 4, 1000]))
def test_skip_then_every_nth_then_cap(steady, skip, nth, cap):
    check_selection(steady, 0, skip, nth, cap)


@pytest.mark.parametrize("seed", range(25))
def test_any_selection_is_a_slice_of_the_whole(steady, seed):
    draw = random.Random(seed)
    check_selection(
        steady, draw.choice([0, 8, 12, 16, 25, 60]), draw.randrange(40), draw.randrange(1, 9), draw.randrange(12)
    )
