"""Files written by Video Combine's encoder, read back by other programs' decoders."""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys

from animatic_pack.nodes.media.encode import Clip, open_writer
from animatic_pack.nodes.media.formats import FORMATS
import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageSequence
import pytest
from video_files import write_clip

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
NASTY = {
    "prompt": json.dumps(
        {"1": {"text": "a=b; #c \\ 'quotes' \"double\"\nline \u00e9\u4e2d\u6587\ud55c\uad6d \U0001f600 %d $HOME"}}
    ),
    "workflow": json.dumps({"nodes": [{"x": "=;#\\"}] * 3}),
}


def frames(count=10, height=48, width=64, channels=3):
    """Smooth frames, each of its own colour, so that any decoder's mean tells which frame it is."""
    ramp = np.linspace(0.2, 0.8, width, dtype=np.float32)[None, :, None]
    for index in range(count):
        colour = np.array([index / max(1, count), 0.5, 1 - index / max(1, count)], dtype=np.float32)
        frame = np.broadcast_to(0.7 * colour + 0.3 * ramp, (height, width, 3)).copy()
        if channels == 4:
            alpha = np.zeros((height, width, 1), np.float32)
            alpha[:, width // 2 :] = 1.0
            frame = np.concatenate([frame, alpha], axis=2)
        yield frame


def clip_of(count, height, width, rate=8.0, **options):
    return Clip(width, height, rate, seconds=count / rate, **options)


def write(folder, name, count=10, height=48, width=64, channels=3, crf=12, loop_count=0, rate=8.0, **options):
    path = folder / ("clip" if name.endswith("png") else "clip" + FORMATS[name].extension)
    clip = clip_of(count, height, width, rate, alpha=channels == 4, **options)
    write_clip(frames(count, height, width, channels), clip, FORMATS[name], path, crf, loop_count)
    return path


def decode(path, alpha=False):
    """All frames as uint8 (N, H, W, C)."""
    if path.is_dir():
        return np.stack([np.asarray(Image.open(p)) for p in sorted(path.iterdir())])
    if path.suffix in (".gif", ".webp"):
        with Image.open(path) as image:
            return np.stack([np.asarray(f.convert("RGBA" if alpha else "RGB")) for f in ImageSequence.Iterator(image)])
    reader = ["-c:v", "libvpx-vp9"] if alpha and path.suffix == ".webm" else []  # ffmpeg's own vp9 decoder drops alpha
    info = probe(path)
    pixels, channels = ("rgba", 4) if alpha else ("rgb24", 3)
    raw = subprocess.run(
        [
            FFMPEG,
            "-v",
            "error",
            *reader,
            "-i",
            str(path),
            "-f",
            "rawvideo",
            "-pix_fmt",
            pixels,
            "-fps_mode",
            "passthrough",
            "-",
        ],
        capture_output=True,
        check=True,
    )
    assert not raw.stderr, raw.stderr
    width, height = info["size"]
    return np.frombuffer(raw.stdout, np.uint8).reshape(-1, height, width, channels)


def probe(path):
    reader = imageio_ffmpeg.read_frames(str(path))
    info = next(reader)
    reader.close()
    return info


def tags(path):
    """Metadata as the container holds it, through ffmpeg's own writer."""
    text = subprocess.run(
        [FFMPEG, "-v", "error", "-i", str(path), "-f", "ffmetadata", "-"], capture_output=True, check=True
    ).stdout.decode()
    found, key, escaped, value = {}, None, False, ""
    for char in text.removeprefix(";FFMETADATA1\n"):
        if escaped:
            value, escaped = value + char, False
        elif char == "\\":
            escaped = True
        elif char == "=" and key is None:
            key, value = value, ""
        elif char == "\n":
            if key:
                found[key.lower()] = value
            key, value = None, ""
        else:
            value += char
    return found


def leftovers(folder):
    return sorted(p.name for p in folder.rglob("*"))


LOSSY = {
    "video/h264-mp4": 6,
    "video/h265-mp4": 6,
    "video/webm": 6,
    "video/h264-10bit-mp4": 6,
    "video/h265-10bit-mp4": 6,
    "video/av1-webm": 6,
    "video/ProRes": 4,
    "video/ffv1-mkv": 1.1,
    "image/gif": 16,
    "image/webp": 8,
    "image/png": 0.6,
    "image/16bit-png": 0.6,
}


@pytest.mark.parametrize("size", [(48, 64), (47, 65), (33, 17)], ids=["even", "odd", "narrow"])
@pytest.mark.parametrize("name", FORMATS)
def test_frames_come_back_in_order_and_colour(tmp_path, name, size):
    height, width = size
    path = write(tmp_path, name, height=height, width=width)
    result = decode(path).astype(float)
    even = FORMATS[name].even
    assert result.shape == (10, height + height % 2 * even, width + width % 2 * even, 3)
    for index, frame in enumerate(frames(10, height, width)):
        assert np.abs(result[index, :height, :width].mean((0, 1)) - 255 * frame.mean((0, 1))).max() < LOSSY[name], index
        assert np.abs(result[index, :height, :width] - 255 * frame).mean() < LOSSY[name], index
    assert leftovers(tmp_path)[0] == path.name and not any(".part" in n for n in leftovers(tmp_path))


@pytest.mark.parametrize("name", FORMATS)
def test_saturated_colours(tmp_path, name):
    """Red, green and blue show a wrong or missing colour matrix, which soft colours hide."""
    path = tmp_path / ("clip" if name.endswith("png") else "clip" + FORMATS[name].extension)
    colours = [np.broadcast_to(np.eye(3, dtype=np.float32)[i] * 0.9, (32, 32, 3)) for i in range(3)]
    write_clip(colours, clip_of(3, 32, 32), FORMATS[name], path, 5, 0)
    for shown, colour in zip(decode(path).astype(float), colours, strict=True):
        assert np.abs(shown[8:24, 8:24].mean((0, 1)) - 255 * colour[0, 0]).max() < 7


def decode16(path, channels):
    """The first frame as uint16 (H, W, C), by ffmpeg."""
    source = path / "frame_00001.png" if path.is_dir() else path
    pixels = {3: "rgb48le", 4: "rgba64le"}[channels]
    command = [FFMPEG, "-v", "error", "-i", str(source), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", pixels, "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint16).reshape(48, 64, channels)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("name", ["video/ffv1-mkv", "image/16bit-png"])
def test_sixteen_bits_come_back_as_they_are(tmp_path, name, channels):
    path = tmp_path / ("clip" if name.endswith("png") else "clip.mkv")
    frame = np.random.default_rng(1).random((48, 64, channels), dtype=np.float32)
    write_clip([frame], clip_of(1, 48, 64, alpha=channels == 4), FORMATS[name], path, 19, 0)
    assert np.abs(decode16(path, channels).astype(int) - frame.astype(np.float64) * 65535).max() <= 1


@pytest.mark.parametrize("name", ["video/h264-10bit-mp4", "video/h265-10bit-mp4", "video/av1-webm"])
def test_ten_bits_hold_more_than_eight(tmp_path, name):
    """A dark ramp within two steps of 8 bits, of which 10 bits tell several."""
    ramp = np.linspace(0.30, 0.30 + 2 / 255, 64, dtype=np.float32)[None, :, None]
    path = tmp_path / ("clip" + FORMATS[name].extension)
    write_clip([np.broadcast_to(ramp, (48, 64, 3)).copy()], clip_of(1, 48, 64), FORMATS[name], path, 1, 0)
    assert len(np.unique(decode16(path, 3)[24, :, 1])) > 4


@pytest.mark.parametrize("name", FORMATS)
def test_one_frame(tmp_path, name):
    assert len(decode(write(tmp_path, name, count=1))) == 1


@pytest.mark.parametrize("name", [n for n in FORMATS if FORMATS[n].alpha])
def test_transparency_is_kept(tmp_path, name):
    result = decode(write(tmp_path, name, channels=4, count=4), alpha=True)
    assert result.shape[-1] == 4
    assert (result[..., 3][:, :, :28] < 40).all() and (result[..., 3][:, :, 36:] > 215).all()


@pytest.mark.parametrize("name", [n for n in FORMATS if not FORMATS[n].alpha])
def test_transparency_is_laid_over_black_where_there_is_none(tmp_path, name):
    result = decode(write(tmp_path, name, channels=4, count=4))
    assert (result[:, :, :26] < 30).all() and result[:, :, 40:].mean() > 60


@pytest.mark.parametrize("name", [n for n in FORMATS if FORMATS[n].metadata == "tags"])
def test_metadata_survives_in_video(tmp_path, name):
    big = {**NASTY, "notes": json.dumps("x" * 1_000_000)}
    found = tags(write(tmp_path, name, metadata=big))
    assert {key: found[key] for key in big} == big


def test_metadata_survives_in_webp(tmp_path):
    exif = Image.open(write(tmp_path, "image/webp", metadata=NASTY)).getexif()
    assert exif[0x0110] == "prompt:" + NASTY["prompt"] and exif[0x010F] == "workflow:" + NASTY["workflow"]


def test_metadata_survives_in_gif(tmp_path):
    path = write(tmp_path, "image/gif", metadata=NASTY)
    assert len(decode(path)) == 10
    data = path.read_bytes()
    at, text = data.rindex(b"\x21\xfe") + 2, b""
    while data[at]:
        text, at = text + data[at + 1 : at + 1 + data[at]], at + 1 + data[at]
    assert data[at + 1 :] == b"\x3b"
    assert text.decode() == "\n".join(f"{key}:{value}" for key, value in NASTY.items())


@pytest.mark.parametrize("name", ["image/png", "image/16bit-png"])
def test_metadata_survives_in_every_png(tmp_path, name):
    for file in write(tmp_path, name, count=3, metadata=NASTY).iterdir():
        with Image.open(file) as image:
            assert {key: image.text[key] for key in NASTY} == NASTY


@pytest.mark.parametrize("rate", [8.0, 23.976, 29.97, 0.5, 60.0])
@pytest.mark.parametrize("name", ["video/h264-mp4", "video/webm", "video/ProRes"])
def test_frame_rate(tmp_path, name, rate):
    path = write(tmp_path, name, rate=rate)
    assert probe(path)["fps"] == pytest.approx(rate, rel=0.002)
    assert len(decode(path)) == 10


@pytest.mark.parametrize("name", ["image/gif", "image/webp"])
def test_loops_and_durations(tmp_path, name):
    for loop_count in (0, 1, 5):
        with Image.open(write(tmp_path, name, loop_count=loop_count)) as image:
            total = 0
            for shown in ImageSequence.Iterator(image):
                shown.load()
                total += shown.info["duration"]
            plays = image.info.get("loop", None)
            assert total == pytest.approx(1250, abs=15)
        if name == "image/webp":
            assert plays == loop_count
        else:  # a GIF counts repetitions, and says nothing when it plays once
            assert plays == {0: 0, 1: None, 5: 4}[loop_count]


@pytest.mark.parametrize("seconds", [0.4, 1.25, 3.0])
@pytest.mark.parametrize("name", [n for n in FORMATS if FORMATS[n].audio_args])
def test_sound_is_as_long_as_the_video(tmp_path, name, seconds):
    rate = 44100
    tone = np.sin(np.arange(int(rate * seconds)) * 2 * np.pi * 440 / rate).astype(np.float32)
    path = write(tmp_path, name, samples=np.stack([tone, -tone]), sample_rate=rate, metadata=NASTY)
    raw = subprocess.run(
        [FFMPEG, "-v", "error", "-i", str(path), "-f", "f32le", "-ar", "44100", "-ac", "2", "-"],
        capture_output=True,
        check=True,
    ).stdout
    sound = np.frombuffer(raw, "<f4").reshape(-1, 2)
    assert len(sound) / rate == pytest.approx(1.25, abs=0.06)
    loud = min(seconds, 1.25)
    assert np.abs(sound[: int(rate * loud * 0.9)]).max() > 0.5
    if loud < 1.2:
        assert np.abs(sound[int(rate * (loud + 0.1)) :]).max() < 0.01
    assert len(decode(path)) == 10 and tags(path)["prompt"] == NASTY["prompt"]


def test_mono_sound_and_format_without_sound(tmp_path):
    mono = np.zeros((1, 8000), np.float32)
    assert len(decode(write(tmp_path, "video/h264-mp4", samples=mono, sample_rate=16000))) == 10
    assert len(decode(write(tmp_path, "image/gif", samples=mono, sample_rate=16000))) == 10


@pytest.mark.parametrize("name", FORMATS)
def test_grey_pictures(tmp_path, name):
    path = tmp_path / ("clip" if name.endswith("png") else "clip" + FORMATS[name].extension)
    greys = [np.full((32, 32, 1), i / 4, np.float32) for i in range(4)]
    write_clip(greys, clip_of(4, 32, 32), FORMATS[name], path, 10, 0)
    assert np.abs(decode(path).astype(float).mean((1, 2, 3)) - [0, 64, 128, 191]).max() < 4


@pytest.mark.parametrize("name", FORMATS)
def test_the_smallest_frames_of_a_format_are_written_and_smaller_ones_refused(tmp_path, name):
    smallest = FORMATS[name].smallest
    assert decode(write(tmp_path, name, count=2, height=smallest, width=64)).shape[0] == 2
    for size in range(1, smallest):
        with pytest.raises(ValueError, match=f"at least {smallest} pixels wide and high, and these have {size} x 64"):
            write(tmp_path, name, count=2, height=64, width=size)


def test_not_a_number_becomes_black(tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(
        [np.full((16, 16, 3), np.nan, np.float32), np.full((16, 16, 3), 7.0, np.float32)],
        clip_of(2, 16, 16),
        FORMATS["video/h264-mp4"],
        path,
        19,
        0,
    )
    result = decode(path)
    assert result[0].max() < 5 and result[1].min() > 250


@pytest.mark.parametrize("name", FORMATS)
def test_a_failing_source_leaves_nothing(tmp_path, name):
    def interrupted():
        yield from frames(3)
        raise KeyboardInterrupt

    path = tmp_path / ("clip" + FORMATS[name].extension)
    with pytest.raises(KeyboardInterrupt):
        write_clip(interrupted(), clip_of(10, 48, 64), FORMATS[name], path, 19, 0)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", [n for n in FORMATS if not n.endswith("png")])
def test_a_killed_encoder_is_an_error_and_leaves_nothing(tmp_path, name):
    path = tmp_path / ("clip" + FORMATS[name].extension)
    with pytest.raises(RuntimeError, match="clip.* could not be written"):
        with open_writer(clip_of(400, 128, 128), FORMATS[name], path, 19, 0) as write_frame:
            for index, frame in enumerate(frames(400, 128, 128)):
                if index == 3:
                    kill_children()
                write_frame(frame)
    assert leftovers(tmp_path) == []


def kill_children():
    """Returns when they have ended; they stay to be waited for by whoever started them."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "ffmpeg"], capture_output=True, text=True)
    assert found.stdout
    for child in map(int, found.stdout.split()):
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 64 KB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = (
        sys.platform == "linux"
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True
        ).returncode
        == 0
    )
    if not mounted:
        pytest.skip("mounting a small disk needs root on Linux")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_is_an_error_and_leaves_nothing(small_disk, name):
    noise = np.random.default_rng(0)
    path = small_disk / ("clip" + FORMATS[name].extension)
    with pytest.raises(RuntimeError, match="disk is full"):
        noisy = (noise.random((128, 128, 3), dtype=np.float32) for _ in range(40))
        write_clip(noisy, clip_of(40, 128, 128), FORMATS[name], path, 1, 0)
    assert leftovers(small_disk) == []


def test_a_missing_encoder_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nothing"))
    with pytest.raises(RuntimeError, match="ffmpeg could not be started"):
        write(tmp_path, "video/h264-mp4")
    assert leftovers(tmp_path) == []


def test_three_hundred_frames_do_not_pile_up(tmp_path):
    """The encoder takes frames as they come: it never holds more of them than it has been given."""
    import tracemalloc

    tracemalloc.start()
    path = tmp_path / "clip.mp4"
    write_clip(frames(300, 128, 128), clip_of(300, 128, 128), FORMATS["video/h264-mp4"], path, 19, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(decode(path)) == 300
    assert peak < 20 * 128 * 128 * 3 * 4


def test_every_format_is_named_as_workflows_have_it():
    assert list(FORMATS) == [
        "video/h264-mp4",
        "video/h265-mp4",
        "video/h264-10bit-mp4",
        "video/h265-10bit-mp4",
        "video/av1-webm",
        "video/webm",
        "video/ProRes",
        "video/ffv1-mkv",
        "image/gif",
        "image/webp",
        "image/png",
        "image/16bit-png",
    ]
    assert Path(FFMPEG).parent.name == "binaries", "imageio-ffmpeg's own binary"
