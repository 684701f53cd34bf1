"""How far ffmpeg works, and how it ends: at the last frame, when it is stopped, and when it fails."""

import os
from pathlib import Path
import subprocess
import sys
import threading
import time

from animatic_pack.nodes.media.decode import Selection, VideoInfo, read_frames
import numpy as np
import pytest
from video_files import FFMPEG, ffmpeg, load, lossless, make, never, pictures

pytestmark = pytest.mark.usefixtures("warned")  # a file in which nothing is wrong gives no warning


def children():
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "ffmpeg"], capture_output=True, text=True)
    return found.stdout.split()


def test_a_long_file_is_decoded_no_further_than_the_cap(tmp_path, decoded):
    path = make(tmp_path / "long.mp4", pictures(600, 16, 16), "-c:v", "libx264", "-preset", "ultrafast")
    assert len(load(path)[0]) == decoded() == 600
    assert len(load(path, cap=16)[0]) == 16
    assert 16 <= decoded() < 100, "threads decode a little ahead"


class Stop(Exception):
    pass


def stop_after(calls):
    left = iter(range(calls))

    def check():
        if next(left, None) is None:
            raise Stop

    return check


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A file that takes many seconds to decode."""
    path = tmp_path_factory.mktemp("slow") / "slow.mkv"
    part = lossless(path.with_name("part.mkv"), np.zeros((3, 720, 1280, 3), np.uint8))
    ffmpeg("-stream_loop", "1000", "-i", part, "-c", "copy", path)
    return path


def test_a_stop_is_heard_while_frames_are_skipped(slow, decoded):
    with pytest.raises(Stop):
        read_frames(slow, VideoInfo(), Selection(skip=10**6), lambda frame: None, stop_after(2))
    assert decoded() == 0 and not children()


def test_a_stop_is_heard_though_a_frame_is_cut_off_by_it(slow):
    before = threading.active_count()

    def keep(frame):
        while threading.active_count() > before:  # until the one that listens has heard it
            time.sleep(0.01)
        raise ValueError("half a frame")

    with pytest.raises(Stop):
        read_frames(slow, VideoInfo(), Selection(), keep, stop_after(2))


def test_a_failing_receiver_stops_ffmpeg(slow):
    received = []

    def keep(frame):
        received.append(frame)
        if len(received) == 3:
            raise Stop

    with pytest.raises(Stop):
        read_frames(slow, VideoInfo(), Selection(), keep, never)
    assert len(received) == 3 and not children()


def test_a_stop_is_heard_by_webp(tmp_path):
    make(tmp_path / "a.webp", pictures(5), "-c:v", "libwebp_anim")
    with pytest.raises(Stop):
        read_frames(tmp_path / "a.webp", VideoInfo(), Selection(), lambda frame: None, stop_after(2))


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for ffmpeg")
def test_ffmpeg_missing_or_killed_from_outside(tmp_path, monkeypatch, warned):
    path = make(tmp_path / "a.mov", pictures(30, 16, 16), "-c:v", "png")
    fake = tmp_path / "ffmpeg"
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(fake))
    for after, count in (("| head -c 3000", 3), ("", 30)):
        fake.write_text(f'#!/bin/sh\n"{FFMPEG}" "$@" {after}\nkill -9 $$\n')
        fake.chmod(0o755)
        assert len(read_frames(path, VideoInfo(), Selection(), lambda frame: None, never)) == count
        assert "incomplete" in warned[-1]
    assert "exit code -9" in warned[-1]
    warned.clear()
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nothing"))
    with pytest.raises(RuntimeError, match="ffmpeg could not be started"):
        load(path)


def test_the_tests_use_imageios_own_ffmpeg():
    assert Path(FFMPEG).parent.name == "binaries"
