"""Frames to a file, one at a time, through the ffmpeg that imageio-ffmpeg brings.

A file appears under its name only when it is whole: everything is written beside it under a temporary name.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
import os
from pathlib import Path
import shutil
import subprocess
import tempfile

import imageio_ffmpeg
import numpy as np
from PIL import Image

from .formats import VideoFormat
from .metadata import add_gif_comment, ffmetadata, finish_webp, png_text
from .png import write_png16

PIXELS = {(8, 3): "rgb24", (8, 4): "rgba", (16, 3): "rgb48le", (16, 4): "rgba64le"}


@dataclass(frozen=True)
class Clip:
    """What a file shall hold beside its frames.

    width, height: of the frames that come in. frame_rate: frames per second.
    samples: sound as float32 (channels, samples) in -1..1, or None; it is cut or padded to `seconds`.
    """

    width: int
    height: int
    frame_rate: float
    alpha: bool = False
    seconds: float = 0.0
    samples: np.ndarray | None = None
    sample_rate: int = 0
    metadata: dict[str, str] = field(default_factory=dict)


@contextmanager
def open_writer(clip: Clip, video_format: VideoFormat, path: Path, crf: int, loop_count: int) -> Iterator:
    """Yields a function that takes one frame; the file is complete, and only then there, when the context ends.

    Frames are float (H, W, C) in 0..1 with 3 or 4 channels. Raises ValueError for frames that the format cannot hold,
    RuntimeError for what hinders the writing, in ffmpeg's words where it was ffmpeg; no file is left behind.
    """
    if min(clip.width, clip.height) < video_format.smallest:
        raise ValueError(
            f"{path.name} cannot be written: frames of this format are at least {video_format.smallest} pixels wide "
            f"and high, and these have {clip.width} x {clip.height}. Choose video/h264-mp4 or enlarge the frames."
        )
    if video_format.extension == ".png":
        with _png_writer(clip, video_format, path) as write:
            yield write
        return
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    alpha = clip.alpha and video_format.alpha
    with ExitStack() as cleanup:
        cleanup.callback(part.unlink, missing_ok=True)
        scratch = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="animatic_")))
        errors = cleanup.enter_context(open(scratch / "ffmpeg.log", "w+b"))
        command = _command(clip, video_format, part, crf, loop_count, alpha, scratch)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "SVT_LOG": "1"},  # its av1 encoder would fill the error messages with advice
            )
        except OSError as error:
            raise RuntimeError(
                f"ffmpeg could not be started ({error}). Reinstall it: pip install --force-reinstall imageio-ffmpeg"
            ) from error
        cleanup.callback(_stop, process)

        def write(frame: np.ndarray) -> None:
            try:
                process.stdin.write(samples_of(frame, video_format, alpha).data)
            except OSError:
                process.wait()
                raise _failure(process, errors, path) from None

        yield write
        try:
            process.stdin.close()
        except OSError:
            pass  # the exit status below tells why
        if process.wait() != 0 or not part.exists() or part.stat().st_size == 0:
            raise _failure(process, errors, path)
        if video_format.metadata == "exif":
            finish_webp(part, clip.metadata, alpha, clip.width, clip.height)
        elif video_format.metadata == "comment" and clip.metadata:
            add_gif_comment(part, clip.metadata)
        os.replace(part, path)


def samples_of(frame: np.ndarray, video_format: VideoFormat, alpha: bool) -> np.ndarray:
    """One float frame (H, W, C), of 1, 3 or 4 channels, as the contiguous integers that the encoder takes."""
    if frame.shape[2] == 1:
        frame = frame.repeat(3, axis=2)
    if frame.shape[2] == 4 and not alpha:
        frame = frame[:, :, :3] * np.clip(frame[:, :, 3:], 0.0, 1.0)  # over black, where the format has no transparency
    if video_format.even:
        height, width = frame.shape[:2]
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    top, kind = (65535, np.uint16) if video_format.bits == 16 else (255, np.uint8)
    frame = np.nan_to_num(frame, nan=0.0) * top + 0.5
    return np.ascontiguousarray(np.clip(frame, 0, top).astype(kind))


def _command(
    clip: Clip, video_format: VideoFormat, part: Path, crf: int, loop_count: int, alpha: bool, scratch: Path
) -> list[str]:
    width = clip.width + (clip.width % 2 if video_format.even else 0)
    height = clip.height + (clip.height % 2 if video_format.even else 0)
    pixels = PIXELS[video_format.bits, 4 if alpha else 3]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *"-v error -y".split()]
    command += f"-f rawvideo -pix_fmt {pixels} -s {width}x{height} -framerate {clip.frame_rate} -i pipe:0".split()
    inputs = 1
    sound = clip.samples is not None and video_format.audio_args is not None
    maps = [] if "-filter_complex" in video_format.video_args(crf, alpha) else ["-map", "0:v"]
    if sound:
        clip.samples.T.astype("<f4").tofile(scratch / "sound.f32")
        command += f"-f f32le -ar {clip.sample_rate} -ac {clip.samples.shape[0]} -i".split()
        command.append(str(scratch / "sound.f32"))
        maps += ["-map", f"{inputs}:a", *video_format.audio_args, "-af", "apad", "-t", f"{clip.seconds:.6f}"]
        inputs += 1
    if clip.metadata and video_format.metadata == "tags":
        (scratch / "tags.txt").write_text(ffmetadata(clip.metadata), encoding="utf-8", newline="\n")
        command += ["-f", "ffmetadata", "-i", str(scratch / "tags.txt")]
        maps += ["-map_metadata", str(inputs)]
    command += [*maps, *video_format.video_args(crf, alpha), *video_format.loop_args(loop_count)]
    if part.suffix in (".mp4", ".mov"):
        command += ["-movflags", "+use_metadata_tags+faststart"]
    # named, because from a file name with %d in it ffmpeg would guess a sequence of images
    return [*command, "-f", video_format.muxer, str(part)]


def _stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()  # before the unfinished file is removed, which Windows refuses while it is open
    if not process.stdin.closed:
        try:
            process.stdin.close()
        except OSError:
            pass  # its buffer cannot be flushed to a dead process


def _failure(process: subprocess.Popen, errors, path: Path) -> RuntimeError:
    errors.seek(0)
    text = errors.read().decode("utf-8", "replace").strip()
    if "No space left" in text or shutil.disk_usage(path.parent).free < 2**20:
        return RuntimeError(f"{path.name} could not be written: the disk is full. Free some space and queue again.")
    if not text:
        text = f"it was stopped from outside (exit code {process.returncode})"
    return RuntimeError(f"{path.name} could not be written. ffmpeg says: {' / '.join(text.splitlines()[-4:])}")


@contextmanager
def _png_writer(clip: Clip, video_format: VideoFormat, folder: Path) -> Iterator:
    """A folder of numbered PNG files, each with the metadata, which ffmpeg's PNGs cannot carry."""
    part = folder.with_name(folder.name + ".part")
    text = png_text(clip.metadata)
    count = 0
    try:
        part.mkdir(parents=True)

        def write(frame: np.ndarray) -> None:
            nonlocal count
            count += 1
            path, samples = part / f"frame_{count:05}.png", samples_of(frame, video_format, clip.alpha)
            if video_format.bits == 16:
                write_png16(path, samples, [(kind, content) for kind, content, *_ in text.chunks])
            else:
                Image.fromarray(samples).save(path, pnginfo=text, compress_level=4)

        yield write
        os.replace(part, folder)
    except OSError as error:
        reason = "the disk is full" if error.errno == 28 else str(error)
        raise RuntimeError(f"{folder.name} could not be written: {reason}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
