"""Videos made for the decoder's tests, and what the decoder gives of them."""

import hashlib
import subprocess

from animatic_pack.nodes.media.decode import Selection, nothing_left, probe, read_frames
from animatic_pack.nodes.media.encode import open_writer
import imageio_ffmpeg
import numpy as np

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
    times = read_frames(path, info, chosen, frames.append, never)
    if not times:
        raise nothing_left(path, chosen)
    assert len(times) == len(frames)
    return np.stack(frames), times, chosen.rate(info, times), info


def whole(path, shape):
    """ffmpeg's own decode of every frame, by its shortest way."""
    raw = ffmpeg("-i", path, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, *shape)


def hashes(frames):
    return [hashlib.sha256(np.ascontiguousarray(frame)).hexdigest() for frame in frames]


def write_clip(frames, clip, video_format, path, crf, loop_count):
    """All frames to `path` by the pack's own encoder."""
    with open_writer(clip, video_format, path, crf, loop_count) as write:
        for frame in frames:
            write(frame)
