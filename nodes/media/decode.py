"""Frames and sound of a video file, through the ffmpeg that imageio-ffmpeg brings; webp through Pillow.

Only the named file is ever opened: ffmpeg gets no protocol but `file`, and no format that refers to other files.
Every `check` is called about ten times a second, and stops the work by raising.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
import logging
import math
from pathlib import Path
import re
import struct
import subprocess
import tempfile
import threading
from typing import BinaryIO

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageSequence

logger = logging.getLogger(__name__)

# Containers that hold what they play. Playlists (hls, concat, dash) would make ffmpeg open what they name.
CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,gif,apng"
ROUNDING = 0.003  # seconds that times differ by where a file counts milliseconds
UNTIMED = 100  # milliseconds that a frame is shown which says 0, or nothing, as browsers have it and ffmpeg for gifs


@dataclass(frozen=True)
class VideoInfo:
    """What a file says of itself. frame_rate: per second, average; seconds: its length; both 0 if unknown.

    counted: whether the two surely give the number of its frames.
    """

    frame_rate: float = 0.0
    seconds: float = 0.0
    sound: bool = False
    counted: bool = False


@dataclass(frozen=True)
class Selection:
    """Which frames: first force_rate (0: the file's own), then skip, then every nth, then at most cap (0: all)."""

    force_rate: float = 0.0
    skip: int = 0
    nth: int = 1
    cap: int = 0

    def expected(self, info: VideoInfo) -> int:
        """About how many frames this gives; 0 if the file does not tell."""
        total = round(info.seconds * (self.force_rate or info.frame_rate))
        kept = max(0, math.ceil((total - self.skip) / self.nth))
        return min(kept, self.cap or kept) if total else self.cap

    def falls_short(self, info: VideoInfo, count: int) -> bool:
        """Whether `count` frames are clearly fewer than the file states.

        Two frames and a tenth may be missing: lengths and rates are rounded, and after a cut without recoding the
        first frames may have nothing to be decoded from.
        """
        return info.counted and count < 0.9 * self.expected(info) - 2

    def rate(self, info: VideoInfo, times: list[float]) -> float:
        """Frames per second of what was kept: as the file states it, unless their `times`, in seconds, say otherwise.

        Heads of mkv and webm state the rate of their first frames, gifs their shortest delay, mp4 the mean of them all.
        """
        if self.force_rate:
            return self.force_rate / self.nth
        stated = info.frame_rate / self.nth
        if len(times) < 2 or times[-1] <= times[0]:
            return stated or 25.0
        seconds = times[-1] - times[0] + times[-1] - times[-2]  # the last frame lasts as long as the one before it
        as_stated = stated and abs(len(times) / stated - seconds) < ROUNDING + 2e-4 * seconds
        return stated if as_stated else len(times) / seconds


def probe(path: Path, check: Callable[[], None]) -> VideoInfo:
    """Raises ValueError unless a first frame can be decoded, and what `check` raises."""
    if _is_webp(path):
        return VideoInfo()  # a webp tells only with its last frame
    arguments = ["-map", "0:V:0", "-vf", "showinfo=checksum=0", "-frames:v", "1", "-f", "null", "-"]
    log = _ffmpeg(path, arguments, lambda stream: stream.read(), check, level="info")
    head = log.partition("Stream mapping:")[0]
    sound = re.search(r"Stream #0:\d+.*: Audio: ", head) is not None
    if "pts_time:" not in log:
        if sound and "matches no streams" in log:
            raise ValueError(f"{path.name} has no picture, only sound. Choose a file with video.")
        raise ValueError(
            f"{path.name} is not a video, or it is damaged or incomplete. See if a player shows it; copy or export it "
            f"again, or convert it to mp4. {_complaints(log)}"
        )
    length = re.search(r"Duration: (\d+):(\d+):([\d.]+)", head)
    hours, minutes, rest = map(float, length.groups()) if length else (0.0, 0.0, 0.0)
    seconds = 3600 * hours + 60 * minutes + rest
    stated = re.search(r"Stream #0:\d+.*: Video: .* ([\d.]+) fps(, \1 tbr)?", head)
    rate = float(stated[1]) if stated else 0.0
    exact = re.search(r"config in time_base: \S+ frame_rate: (\d+)/([1-9]\d*)", log)
    if exact and abs(int(exact[1]) / int(exact[2]) - rate) < 0.006:  # the stated one is rounded to two decimals
        rate = int(exact[1]) / int(exact[2])
    # In other formats frames may pause without a trace, and what stands beside the frames may last longer than they do.
    listed = length and re.search("Input #0, (mov|mxf),", head) and len(re.findall(r"Stream #0:\d+", head)) == 1
    counted = bool(listed and stated and stated[2])  # the mean rate is that of every frame
    return VideoInfo(rate, seconds, sound, counted)


def read_frames(
    path: Path, info: VideoInfo, selection: Selection, keep: Callable, check: Callable[[], None]
) -> list[float]:
    """Call `keep` with each selected frame as it comes, uint8 (H, W, 3); returns their times in seconds.

    Raises ValueError if none can be read, and what `keep` and `check` raise. A file that is damaged further on, or that
    ends before it should, gives the frames before, and a warning in the log; one that ends before the first selected
    frame gives none.
    """
    times, problem = (_read_webp if _is_webp(path) else _read_video)(path, selection, keep, check)
    if not times and problem:
        raise ValueError(f"No frame of {path.name} can be read: it is damaged. Copy or export it again. {problem}")
    if times and not problem and selection.falls_short(info, len(times)):
        problem = f"It should have about {selection.expected(info)}."
    if problem:
        logger.warning("%s is damaged or incomplete; %d frames were read. %s", path.name, len(times), problem)
    return times


def nothing_left(path: Path, selection: Selection) -> ValueError:
    """For a selection of Load Video's that begins behind the end of the file."""
    return ValueError(
        f"{path.name} has no frames left: the file is too short for skip_first_frames {selection.skip}"
        + (f" at force_rate {selection.force_rate:g}. Raise force_rate, or" if selection.force_rate else ":")
        + " lower skip_first_frames."
    )


def _read_video(path: Path, selection: Selection, keep: Callable, check: Callable) -> tuple[list[float], str]:
    filters = [f"fps={selection.force_rate}"] if selection.force_rate else []
    # selected before the conversion to RGB, so that frames which are left out cost no more than their decoding
    filters.append(f"select=gte(n\\,{selection.skip})*not(mod(n-{selection.skip}\\,{selection.nth}))")
    arguments = ["-map", "0:V:0", "-vf", ",".join(filters), "-fps_mode", "passthrough"]
    arguments += ["-frames:v", str(selection.cap)] if selection.cap else []
    # The times go to a file, in the filters' own units; in the log they would tear complaints of ffmpeg's other threads
    arguments += ["-enc_time_base", "filter", "-stats_enc_pre_fmt", "{pts} {tb}"]
    arguments += ["-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe"]
    count = 0

    def consume(stream: BinaryIO) -> None:
        nonlocal count
        for frame in _ppm_frames(stream):
            count += 1
            keep(frame)

    with tempfile.TemporaryDirectory() as folder:
        stamps = Path(folder, "stamps")
        log = _ffmpeg(path, [*arguments, "-stats_enc_pre", str(stamps), "-"], consume, check)
        lines = stamps.read_text().splitlines() if stamps.exists() else []
    times = [float(int(pts) * Fraction(unit)) for pts, unit in map(str.split, lines)]
    return times[:count], _complaints(log)


def _ppm_frames(stream: BinaryIO) -> Iterator[np.ndarray]:
    while stream.readline() == b"P6\n":
        width, height = map(int, stream.readline().split())
        stream.readline()
        frame = np.empty((height, width, 3), np.uint8)
        if stream.readinto(frame.reshape(-1)) < frame.size:
            return
        yield frame


def _is_webp(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


def _read_webp(path: Path, selection: Selection, keep: Callable, check: Callable) -> tuple[list[float], str]:
    """As _read_video, which needs ffmpeg 9 for animated webp; repeats and drops frames as ffmpeg's fps filter does."""
    times, index, end, rate = [], 0, 0, selection.force_rate
    try:
        with Image.open(path, formats=["WEBP"]) as file:
            for image in ImageSequence.Iterator(file):
                check()
                frame = np.array(image.convert("RGB"))
                start, end = end, end + (image.info.get("duration") or UNTIMED)
                numbers = range(*(math.floor(t * rate / 1000 + 0.5) for t in (start, end)))
                for time in [n / rate for n in numbers] if rate else [start / 1000]:
                    if index >= selection.skip and (index - selection.skip) % selection.nth == 0:
                        keep(frame)
                        times.append(time)
                        if len(times) == selection.cap:
                            return times, ""
                    index += 1
    except (OSError, EOFError, Image.DecompressionBombError) as error:
        return times, f"Pillow says: {error}"
    return times, ""


def read_sound(path: Path, start: float, seconds: float, check: Callable[[], None]) -> tuple[np.ndarray, int] | None:
    """The first sound track from `start` on, for exactly `seconds`, silent where it has nothing.

    Returns float32 (channels, samples) and the sample rate; None, with a warning, if it cannot be decoded.
    """
    # gaps are filled first, so that a track which begins late or pauses keeps its place beside the frames
    filters = f"aresample=async=1:first_pts=0,atrim=start={start:.6f}:end={start + seconds:.6f}"
    data = bytearray()
    arguments = ["-map", "0:a:0", "-af", filters, "-c:a", "pcm_f32be", "-f", "au", "-"]
    log = _ffmpeg(path, arguments, lambda stream: data.extend(stream.read()), check)
    if len(data) < 24:
        logger.warning("The sound of %s could not be read. %s", path.name, _complaints(log))
        return None
    offset, _, _, rate, channels = struct.unpack(">5I", data[4:24])
    found = np.frombuffer(data, ">f4", (len(data) - offset) // (4 * channels) * channels, offset).reshape(-1, channels)
    samples = np.zeros((channels, round(seconds * rate)), np.float32)
    samples[:, : len(found)] = found[: samples.shape[1]].T
    return samples, rate


def _ffmpeg(
    path: Path, arguments: list[str], consume: Callable, check: Callable[[], None], level: str = "error"
) -> str:
    """Run ffmpeg on the file, give its output to `consume`, and return its log; killed if anything raises."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-nostats", "-loglevel", f"level+{level}"]
    command += ["-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-i", f"file:{path}", *arguments]
    stopped, done = [], threading.Event()

    def watch() -> None:  # beside the reading, which can wait long, for example while many frames are skipped
        try:
            while not done.wait(0.1):
                check()
        except BaseException as error:
            stopped.append(error)
            process.kill()

    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        except OSError as error:
            raise RuntimeError(f"ffmpeg could not be started ({error}). Reinstall imageio-ffmpeg.") from error
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            consume(process.stdout)
            process.stdout.close()  # ends an ffmpeg that has more to say
            process.wait()
        except Exception:
            if not stopped:  # a frame that our own kill has cut off cannot be read
                raise
        finally:
            done.set()
            process.kill()
            process.wait()
            process.stdout.close()
            watcher.join()
        if stopped:
            raise stopped[0]
        log.seek(0)
        text = log.read().decode("utf-8", "replace")
    if process.returncode and not _complaints(text):
        text += f"[error] it stopped with exit code {process.returncode}"
    return text


def _complaints(log: str) -> str:
    lines = re.findall(r"\[(?:error|fatal)\] (.*)", log)
    return f"ffmpeg says: {' / '.join(dict.fromkeys(lines[-4:]))}" if lines else ""
