"""The file formats that Video Combine writes, each as the arguments that make ffmpeg write it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

# RGB is converted with BT.709 and tagged so, or players guess, and small videos come out in other colours.
BT709 = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
TO_BT709 = "scale=out_color_matrix=bt709:out_range=tv"
AAC, OPUS = ["-c:a", "aac", "-b:a", "192k"], ["-c:a", "libopus", "-b:a", "160k"]


@dataclass(frozen=True)
class VideoFormat:
    """One entry of the format menu.

    video_args: crf and alpha -> ffmpeg arguments for the picture.
    audio_args: ffmpeg arguments for sound; None if the format has none.
    bits: of the samples that ffmpeg is given, 8 or 16.
    smallest: width and height, in pixels, below which its encoder writes nothing.
    even: width and height must be even, so an odd picture gets its last row or column twice.
    repeats: loop_count repeats the frames; otherwise it is the player's loop counter, made by `loop_args`.
    plays: browsers play it, so the node can show the file itself.
    metadata: how the workflow goes in: "tags" (ffmpeg), "exif" (webp), "text" (png), "comment" (gif).
    container: ffmpeg's name for it, where it is not that of the extension.
    """

    extension: str
    video_args: Callable[[int, bool], list[str]]
    audio_args: list[str] | None = None
    alpha: bool = False
    bits: int = 8
    smallest: int = 1
    even: bool = False
    repeats: bool = True
    loop_args: Callable[[int], list[str]] = lambda loop_count: []
    plays: bool = True
    metadata: str = "tags"
    container: str | None = None

    @property
    def muxer(self) -> str:
        return self.container or self.extension[1:]


def _h264(crf: int, alpha: bool, pixels: str = "yuv420p") -> list[str]:
    return ["-vf", TO_BT709, "-c:v", "libx264", "-crf", str(min(crf, 51)), "-pix_fmt", pixels, *BT709]


def _h265(crf: int, alpha: bool, pixels: str = "yuv420p") -> list[str]:
    # hvc1 is the tag that Apple's players know; x265 has its own log
    args = ["-vf", TO_BT709, "-c:v", "libx265", "-crf", str(min(crf, 51)), "-pix_fmt", pixels, "-tag:v", "hvc1"]
    return [*args, "-x265-params", "log-level=error", *BT709]


def _av1(crf: int, alpha: bool) -> list[str]:
    # 0 is not the best crf to this encoder but none, whereupon it takes its own
    args = ["-vf", TO_BT709, "-c:v", "libsvtav1", "-crf", str(max(crf, 1)), "-preset", "6"]
    return [*args, "-pix_fmt", "yuv420p10le", *BT709]


def _ffv1(crf: int, alpha: bool) -> list[str]:
    # every frame by itself, in slices with checksums, as archives keep it
    args = ["-c:v", "ffv1", "-level", "3", "-g", "1", "-slices", "16", "-slicecrc", "1"]
    return [*args, "-pix_fmt", "gbrap16le" if alpha else "gbrp16le"]


def _vp9(crf: int, alpha: bool) -> list[str]:
    args = ["-vf", TO_BT709, "-c:v", "libvpx-vp9", "-crf", str(crf), "-b:v", "0", "-row-mt", "1", "-cpu-used", "2"]
    return [*args, "-pix_fmt", "yuva420p" if alpha else "yuv420p", *BT709]


def _prores(crf: int, alpha: bool) -> list[str]:
    profile, pixels = ("4444", "yuva444p10le") if alpha else ("hq", "yuv422p10le")
    return ["-vf", TO_BT709, "-c:v", "prores_ks", "-profile:v", profile, "-pix_fmt", pixels, "-vendor", "apl0", *BT709]


def _gif(crf: int, alpha: bool) -> list[str]:
    # a palette per frame: one for the whole clip would need the whole clip in ffmpeg's memory
    transparent = "reserve_transparent=1" if alpha else "reserve_transparent=0"
    palette = f"split[a][b];[a]palettegen=stats_mode=single:{transparent}[p];[b][p]paletteuse=new=1:dither=sierra2_4a"
    return ["-filter_complex", palette, "-c:v", "gif", "-gifflags", "-offsetting-transdiff" if alpha else "+offsetting"]


def _webp(crf: int, alpha: bool) -> list[str]:
    quality = ["-lossless", "1"] if crf == 0 else ["-quality", str(100 - crf)]
    return ["-c:v", "libwebp_anim", "-pix_fmt", "bgra" if alpha or crf == 0 else "yuv420p", *quality]


def _gif_loops(loop_count: int) -> list[str]:
    return ["-loop", str({0: 0, 1: -1}.get(loop_count, loop_count - 1))]  # ffmpeg counts repetitions, -1 for none


# The names stand in users' workflows: never rename one.
FORMATS = {
    "video/h264-mp4": VideoFormat(".mp4", _h264, audio_args=AAC, even=True),
    "video/h265-mp4": VideoFormat(".mp4", _h265, audio_args=AAC, smallest=16, even=True, plays=False),
    "video/h264-10bit-mp4": VideoFormat(
        ".mp4", partial(_h264, pixels="yuv420p10le"), audio_args=AAC, bits=16, even=True, plays=False
    ),
    "video/h265-10bit-mp4": VideoFormat(
        ".mp4", partial(_h265, pixels="yuv420p10le"), audio_args=AAC, bits=16, smallest=16, even=True, plays=False
    ),
    "video/av1-webm": VideoFormat(".webm", _av1, audio_args=OPUS, bits=16, smallest=16, even=True),
    "video/webm": VideoFormat(".webm", _vp9, audio_args=OPUS, alpha=True),
    "video/ProRes": VideoFormat(
        ".mov", _prores, audio_args=["-c:a", "pcm_s16le"], alpha=True, bits=16, even=True, plays=False
    ),
    "video/ffv1-mkv": VideoFormat(
        ".mkv", _ffv1, audio_args=["-c:a", "flac"], alpha=True, bits=16, smallest=4, plays=False, container="matroska"
    ),
    "image/gif": VideoFormat(
        ".gif", _gif, alpha=True, repeats=False, loop_args=_gif_loops, plays=False, metadata="comment"
    ),
    "image/webp": VideoFormat(
        ".webp", _webp, alpha=True, repeats=False, loop_args=lambda n: ["-loop", str(n)], metadata="exif"
    ),
    "image/png": VideoFormat(".png", lambda crf, alpha: [], alpha=True, plays=False, metadata="text"),
    "image/16bit-png": VideoFormat(".png", lambda crf, alpha: [], alpha=True, bits=16, plays=False, metadata="text"),
}
PREVIEW_FORMAT = "video/h264-mp4"
