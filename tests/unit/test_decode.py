"""The video decoder against ffmpeg's own whole decode, exact frames, and files made to break or mislead it."""

import hashlib
import itertools
import logging
import math
import os
from pathlib import Path
import random
import subprocess
import sys
import time

from animatic_pack.nodes.media.decode import DecodeError, Selection, VideoInfo, probe, read_frames, read_sound
import imageio_ffmpeg
import numpy as np
from PIL import Image
import pytest

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
RATE = 24


def pictures(count=12, height=48, width=64):
    """Frames with noise, each of its own brightness; no two are alike."""
    noise = np.random.default_rng(0).integers(0, 12, (count, height, width, 3), np.uint8)
    return noise + (np.arange(count) * (230 / count)).astype(np.uint8)[:, None, None, None]


def ffmpeg(*arguments, data=None):
    done = subprocess.run([FFMPEG, "-v", "error", "-y", *map(str, arguments)], input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def make(path, frames, *options, rate=RATE, before=()):
    """Encode `frames`, after inputs that are given `before`."""
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-framerate", rate, "-i", "pipe:0"]
    ffmpeg(*raw, *before, *options, path, data=frames.tobytes())
    return path


def lossless(path, frames, *options, **settings):
    return make(path, frames, *options, "-c:v", "ffv1", "-pix_fmt", "bgr0", **settings)


def ramp(folder, seconds=1.0, sample_rate=8000, channels=1):
    """Sound whose value is the time in seconds over 4, so that any sample tells when it is heard."""
    track = (np.arange(int(seconds * sample_rate), dtype="<f4") / sample_rate / 4)[:, None].repeat(channels, 1)
    (folder / "ramp.f32").write_bytes(track.tobytes())
    return ["-f", "f32le", "-ar", sample_rate, "-ac", channels, "-i", folder / "ramp.f32"]


def never():
    pass


def load(path, **selection):
    """Frames (N, H, W, 3), their times, their rate, and what the file says of itself."""
    frames, chosen = [], Selection(**selection)
    info = probe(path, never)
    times = read_frames(path, chosen, frames.append, never)
    assert len(times) == len(frames)
    return np.stack(frames), times, chosen.rate(info, times), info


def whole(path, shape):
    """ffmpeg's own decode of every frame, by its shortest way."""
    raw = ffmpeg("-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, *shape)


def hashes(frames):
    return [hashlib.sha256(np.ascontiguousarray(frame)).hexdigest() for frame in frames]


def children():
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "ffmpeg"], capture_output=True, text=True)
    return found.stdout.split()


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
        with pytest.raises(DecodeError, match="lower skip_first_frames"):
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


def test_variable_frame_rate(tmp_path):
    """Eight frames last three times as long as the eight that follow."""
    source = pictures(16, 16, 16)
    slow_then_fast = "setpts=if(lt(N\\,8)\\,3*N\\,N+16)/24/TB"
    path = make(tmp_path / "vfr.mov", source, "-c:v", "png", "-vf", slow_then_fast, "-fps_mode", "passthrough")
    frames, times, rate, _ = load(path)
    assert hashes(frames) == hashes(source) and RATE / 3 < rate < RATE
    assert times == pytest.approx([i / 8 for i in range(8)] + [1 + i / 24 for i in range(8)], abs=0.002)
    frames = load(path, force_rate=24)[0]
    assert hashes(frames) == hashes(source[[i // 3 for i in range(24)] + list(range(8, 16))])
    assert load(path, skip=9, cap=2)[1][0] == pytest.approx(1 + 1 / 24, abs=0.002)


def test_a_recording_of_a_browser_does_not_tell_its_rate(tmp_path):
    """Its rate comes from its times: no duration of a frame, none of the file, and pauses."""
    options = ["-vf", "select=not(between(n\\,10\\,25))", "-fps_mode", "passthrough", "-enc_time_base", "1/1000"]
    path = make(tmp_path / "a.webm", pictures(40), *options, "-c:v", "libvpx", "-live", "1", "-f", "webm", rate=30)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x23\xe3\x83\x84")  # DefaultDuration, 4 bytes, becomes Void of the same length
    data[at : at + 8] = b"\xec\x86" + bytes(6)
    path.write_bytes(data)
    frames, times, rate, info = load(path)
    assert len(frames) == 24 and (info.frame_rate, info.seconds) == (0, 0)
    assert rate == pytest.approx(23 / (39 / 30), rel=0.01) and rate == pytest.approx(23 / times[-1])
    assert len(load(path, force_rate=30)[0]) == 40


def test_what_is_unknown_is_measured_or_left_open():
    unknown = VideoInfo()
    assert Selection(nth=2).rate(unknown, [0.0, 0.2, 0.4]) == pytest.approx(5)
    assert Selection().rate(unknown, [0.0]) == 25 and Selection(force_rate=8, nth=2).rate(unknown, [0.0]) == 4
    assert Selection(cap=3).expected(unknown) == 3 and Selection().expected(unknown) == 0


DURATIONS = [100, 300, 200, 100]


def animation(path, **options):
    source = pictures(4, 16, 16)
    images = [Image.fromarray(frame) for frame in source]
    images[0].save(path, save_all=True, append_images=images[1:], duration=DURATIONS, loop=0, **options)
    return source


@pytest.mark.parametrize("name, options", [("a.webp", {"lossless": True}), ("a.gif", {}), ("a.png", {})])
def test_frames_of_animations_last_as_long_as_they_say(tmp_path, name, options):
    animation(tmp_path / name, **options)
    frames, times, _, _ = load(tmp_path / name)
    assert len(frames) == 4 and times == pytest.approx([0, 0.1, 0.4, 0.6])
    forced, times, rate, _ = load(tmp_path / name, force_rate=10)
    assert hashes(forced) == hashes(frames[[0, 1, 1, 1, 2, 2, 3]]) and rate == 10
    assert hashes(load(tmp_path / name, force_rate=10, skip=1, nth=2, cap=2)[0]) == hashes(frames[[1, 1]])
    assert hashes(load(tmp_path / name, skip=1, nth=2)[0]) == hashes(frames[[1, 3]])


def test_webp_pixels_rate_and_still(tmp_path):
    source = animation(tmp_path / "a.webp", lossless=True)
    assert hashes(load(tmp_path / "a.webp")[0]) == hashes(source)
    make(tmp_path / "b.webp", pictures(5), "-c:v", "libwebp_anim", "-lossless", "1", rate=8)
    frames, _, rate, _ = load(tmp_path / "b.webp", nth=2)
    assert len(frames) == 3 and rate == 4
    Image.fromarray(source[0]).save(tmp_path / "still.webp", lossless=True)
    assert hashes(load(tmp_path / "still.webp")[0]) == hashes(source[:1])
    with pytest.raises(DecodeError, match="skip_first_frames"):
        load(tmp_path / "a.webp", skip=4)


@pytest.mark.parametrize("rate", [6, 9, 10, 25])
def test_webp_is_timed_as_ffmpeg_times_it(tmp_path, rate):
    animation(tmp_path / "a.webp", lossless=True)
    animation(tmp_path / "a.png")
    assert hashes(load(tmp_path / "a.webp", force_rate=rate)[0]) == hashes(load(tmp_path / "a.png", force_rate=rate)[0])


@pytest.fixture
def tail_of_garbage(tmp_path):
    """Ten minutes, of which all but the first 40 seconds cannot be decoded."""
    path = make(tmp_path / "long.mkv", pictures(600, 16, 16), "-c:v", "mjpeg", rate=1)
    data = bytearray(path.read_bytes())
    start = len(data) // 15
    data[start:] = np.random.default_rng(1).bytes(len(data) - start)
    path.write_bytes(data)
    return path


def test_nothing_after_the_cap_is_decoded(tail_of_garbage, caplog):
    with caplog.at_level(logging.WARNING):
        assert len(load(tail_of_garbage, cap=16)[0]) == 16
        assert len(load(tail_of_garbage, cap=5, skip=3, nth=3)[0]) == 5
        assert not caplog.records
        assert 16 < len(load(tail_of_garbage)[0]) < 600
        assert "long.mkv is damaged or incomplete" in caplog.text


def test_a_long_file_with_a_cap_is_quick(tmp_path):
    path = make(tmp_path / "long.mp4", pictures(600, 64, 64).repeat(10, 0), "-c:v", "libx264", "-preset", "ultrafast")
    started = time.perf_counter()
    assert len(load(path)[0]) == 6000
    all_of_it = time.perf_counter() - started
    started = time.perf_counter()
    assert len(load(path, cap=16)[0]) == 16
    assert time.perf_counter() - started < all_of_it / 2


@pytest.mark.parametrize("faststart, name", [(True, "a.mp4"), (False, "a.mp4"), (False, "a.mkv"), (False, "a.ts")])
def test_a_file_that_was_cut_off(tmp_path, caplog, faststart, name):
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
    assert "incomplete" in caplog.text or name == "a.ts", "a transport stream can end anywhere"


def test_a_webp_that_was_cut_off(tmp_path, caplog):
    make(tmp_path / "a.webp", pictures(20), "-c:v", "libwebp_anim", "-lossless", "1")
    (tmp_path / "a.webp").write_bytes((tmp_path / "a.webp").read_bytes()[:4000])
    try:
        assert len(load(tmp_path / "a.webp")[0]) < 20 and "incomplete" in caplog.text
    except DecodeError as error:
        assert "a.webp" in str(error) and "damaged" in str(error)


NOT_VIDEOS = {
    "text.mp4": b"Dear diary, today I renamed a text file.\n" * 40,
    "empty.mp4": b"",
    "noise.webm": np.random.default_rng(2).bytes(5000),
    "riff.webp": b"RIFF\x20\x00\x00\x00WEBP" + b"\0" * 40,
    "page.mp4": b"<html><body>404</body></html>",
}


@pytest.mark.parametrize("name", NOT_VIDEOS)
def test_what_is_not_a_video_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(NOT_VIDEOS[name])
    with pytest.raises(DecodeError, match=f"{name} .*(damaged|incomplete)"):
        load(tmp_path / name)


@pytest.mark.parametrize("name", ["sound.m4a", "sound.mp4", "sound.ogg", "cover.m4a"])
def test_sound_without_picture_is_refused(tmp_path, name):
    cover = []
    if name == "cover.m4a":
        Image.fromarray(pictures(1)[0]).save(tmp_path / "cover.png")
        cover = [
            "-i",
            tmp_path / "cover.png",
            "-map",
            "0",
            "-map",
            "1",
            "-c:v",
            "png",
            "-disposition:v",
            "attached_pic",
        ]
    codec = ["-c:a", "libvorbis" if name.endswith("ogg") else "aac"]
    ffmpeg(*ramp(tmp_path), *cover, *codec, tmp_path / name)
    with pytest.raises(DecodeError, match=f"{name} has no picture, only sound"):
        load(tmp_path / name)


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile secret.mp4\n",
    "unsafe concat": "ffconcat version 1.0\nfile '{folder}/secret.mp4'\n",
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.5,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "hls absolute": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.5,\nfile:{folder}/secret.ts\n#EXT-X-ENDLIST\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT1S" '
    'type="static"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1"><BaseURL>secret.mp4</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "subtitle script": "import secret.mp4\nFFVideoSource('secret.mp4')\n",
}


@pytest.mark.parametrize("name", ["list.mp4", "list.mkv", "list.gif", "list.m3u8"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_cannot_make_it_read_other_files(tmp_path, kind, name):
    for secret in ("secret.mp4", "secret.ts"):
        make(tmp_path / secret, pictures(5), "-c:v", "libx264", "-pix_fmt", "yuv420p")
    (tmp_path / name).write_text(PLAYLISTS[kind].format(folder=tmp_path))
    if kind == "concat":
        assert len(ffmpeg("-f", "concat", "-i", tmp_path / name, "-f", "rawvideo", "-")), "it works where it may"
    with pytest.raises(DecodeError, match="is not a video"):
        load(tmp_path / name)


@pytest.mark.parametrize("name", ["100%d %03d.mp4", "-i.mp4", "a [input] 'b'; $HOME.mp4", "\u4e2d\u6587 \u00e9.mp4"])
def test_names_are_taken_as_they_are(tmp_path, name):
    make(tmp_path / "plain.mp4", pictures(3), "-c:v", "libx264", "-pix_fmt", "yuv420p")
    (tmp_path / "plain.mp4").rename(tmp_path / name)
    assert len(load(tmp_path / name)[0]) == 3


def sound_of(path, start, seconds):
    assert probe(path, never).sound
    return read_sound(path, start, seconds, never)


@pytest.mark.parametrize("start, seconds", [(0.0, 1.0), (0.5, 0.25), (0.1234, 0.4), (0.75, 0.75), (1.5, 0.5)])
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_is_cut_at_the_sample(tmp_path, start, seconds, channels):
    path = lossless(
        tmp_path / "a.mkv", pictures(24, 16, 16), "-c:a", "pcm_f32le", before=ramp(tmp_path, channels=channels)
    )
    samples, rate = sound_of(path, start, seconds)
    assert samples.dtype == np.float32 and rate == 8000 and samples.shape == (channels, round(seconds * rate))
    heard = start + np.arange(samples.shape[1]) / rate
    inside = heard < 1.0
    assert np.abs(samples[:, inside] - heard[inside] / 4).max(initial=0) < 1.1 / rate / 4
    assert not samples[:, heard > 1.001].any(), "silence after the end of the track"


def test_sound_of_a_long_file_is_decoded_no_further_than_needed(tmp_path):
    path = lossless(tmp_path / "a.mkv", pictures(2, 16, 16), "-c:a", "flac", before=ramp(tmp_path, 1200.0))
    started = time.perf_counter()
    sound_of(path, 0.0, 1200.0)
    all_of_it = time.perf_counter() - started
    started = time.perf_counter()
    assert sound_of(path, 0.5, 1.0)[0].shape == (1, 8000)
    assert time.perf_counter() - started < all_of_it / 2


def test_sound_that_begins_late_keeps_its_place(tmp_path):
    both = lossless(tmp_path / "both.mkv", pictures(48, 16, 16), "-c:a", "pcm_f32le", before=ramp(tmp_path))
    path = tmp_path / "late.mkv"
    ffmpeg("-i", both, "-itsoffset", "0.5", "-i", both, "-map", "0:v", "-map", "1:a", "-c", "copy", path)
    samples, rate = sound_of(path, 0.0, 2.0)
    heard = np.arange(16000) / rate - 0.5
    assert not samples[0, heard < -0.01].any() and not samples[0, heard > 1.01].any()
    inside = (heard > 0.01) & (heard < 0.99)
    assert np.abs(samples[0, inside] - heard[inside] / 4).max() < 0.001
    assert np.abs(sound_of(path, 1.0, 0.4)[0][0] - (0.5 + np.arange(3200) / rate) / 4).max() < 0.001


@pytest.mark.parametrize("name, codec", [("a.mp4", "aac"), ("a.webm", "libopus"), ("a.avi", "libmp3lame")])
def test_a_tone_changes_when_it_should(tmp_path, name, codec):
    """400 Hz for a second, then 1000 Hz: the loaded part begins in the first and ends in the second."""
    moments = np.arange(96000) / 48000
    tone = np.sin(2 * np.pi * np.where(moments < 1, 400, 1000) * moments).astype("<f4") / 2
    (tmp_path / "tone.f32").write_bytes(tone.tobytes())
    video = ["-c:v", "libvpx"] if name == "a.webm" else ["-c:v", "mpeg4"]
    before = ["-f", "f32le", "-ar", "48000", "-ac", "1", "-i", tmp_path / "tone.f32"]
    path = make(tmp_path / name, pictures(48, 16, 16), *video, "-c:a", codec, before=before)
    samples, rate = sound_of(path, 0.75, 0.5)
    assert samples.shape == (1, round(0.5 * rate))
    pitch = [np.fft.rfft(part).__abs__().argmax() * rate / len(part) for part in np.split(samples[0], 10)]
    assert pitch == pytest.approx([400] * 5 + [1000] * 5, abs=25)


def test_six_channels_and_sound_that_cannot_be_decoded(tmp_path, caplog):
    path = tmp_path / "a.mkv"
    lossless(path, pictures(24, 16, 16), "-c:a", "pcm_f32le", before=ramp(tmp_path, channels=6))
    assert sound_of(path, 0.0, 0.5)[0].shape == (6, 4000)
    path.write_bytes(path.read_bytes().replace(b"A_PCM/FLOAT/IEEE", b"A_NOBODY/KNOWS/IT"[:16]))
    assert load(path)[3].sound and read_sound(path, 0.0, 0.5, never) is None
    assert "sound of a.mkv could not be read" in caplog.text


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
    """A file that takes seconds to decode."""
    path = tmp_path_factory.mktemp("slow") / "slow.mkv"
    part = lossless(path.with_name("part.mkv"), np.zeros((3, 720, 1280, 3), np.uint8))
    ffmpeg("-stream_loop", "150", "-i", part, "-c", "copy", path)
    return path


def test_a_stop_is_heard_while_frames_are_skipped(slow):
    started = time.perf_counter()
    with pytest.raises(Stop):
        read_frames(slow, Selection(skip=10**6), lambda frame: None, stop_after(2))
    assert time.perf_counter() - started < 1.5 and not children()


def test_a_failing_receiver_stops_ffmpeg(slow):
    received = []

    def keep(frame):
        received.append(frame)
        if len(received) == 3:
            raise Stop

    with pytest.raises(Stop):
        read_frames(slow, Selection(), keep, never)
    assert len(received) == 3 and not children()


def test_a_stop_is_heard_by_webp(tmp_path):
    make(tmp_path / "a.webp", pictures(5), "-c:v", "libwebp_anim")
    with pytest.raises(Stop):
        read_frames(tmp_path / "a.webp", Selection(), lambda frame: None, stop_after(2))


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for ffmpeg")
def test_ffmpeg_missing_or_killed_from_outside(tmp_path, monkeypatch, steady, caplog):
    fake = tmp_path / "ffmpeg"
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(fake))
    for after, count in (("| head -c 3000", 3), ("", 30)):
        fake.write_text(f'#!/bin/sh\n"{FFMPEG}" "$@" {after}\nkill -9 $$\n')
        fake.chmod(0o755)
        caplog.clear()
        assert len(read_frames(steady[0], Selection(), lambda frame: None, never)) == count
        assert "incomplete" in caplog.text
    assert "exit code -9" in caplog.text
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nothing"))
    with pytest.raises(DecodeError, match="ffmpeg could not be started"):
        load(steady[0])


def test_the_tests_use_imageios_own_ffmpeg():
    assert Path(FFMPEG).parent.name == "binaries"
