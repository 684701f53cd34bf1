"""Frames to a file in the host's folders, with the workflow inside, previewed in the node."""

from contextlib import ExitStack
from dataclasses import dataclass
import json

from comfy.cli_args import args
from torch import Tensor

from ...media.encode import Clip, open_writer
from ...media.formats import FORMATS, PREVIEW_FORMAT
from ..core.paths import output_path
from ..core.progress import with_progress
from .pieces import DecodedFrames

PLAYED_AT = 8.0  # frames per second, AnimateDiff's own


@dataclass(frozen=True)
class SaveOptions:
    """Where and how a clip is saved; see Video Combine's inputs."""

    frame_rate: float
    loop_count: int
    filename_prefix: str
    format: str
    crf: int
    pingpong: bool
    save_output: bool


def save_video(
    images: Tensor | DecodedFrames, audio: dict | None, options: SaveOptions, metadata: dict[str, str]
) -> tuple[dict, str]:
    """Write images (N, H, W, C) as a file, or as a folder of PNGs. Returns what the node shows, and the full path.

    Raises ValueError for images that are none, and what the writer raises; an unfinished file is removed.
    """
    if len(images.shape) != 4:
        raise ValueError(
            f"Video Combine takes images of four dimensions (frames, height, width, channels), not of "
            f"{len(images.shape)}. Check the node before it."
        )
    if images.shape[0] == 0:
        raise ValueError("Video Combine got no images. Check the node before it.")
    if images.shape[-1] not in (1, 3, 4):
        raise ValueError(f"Video Combine takes images of 1, 3 or 4 channels, not {images.shape[-1]}.")
    video_format = FORMATS[options.format]
    order = frame_order(images.shape[0], options.pingpong, options.loop_count if video_format.repeats else 0)
    height, width, channels = images.shape[1:]
    seconds = len(order) / options.frame_rate
    clip = Clip(width, height, options.frame_rate, channels == 4, seconds, *first_sound(audio), metadata)
    extension, save_output = video_format.extension, options.save_output
    path, entry = output_path(options.filename_prefix, extension, save_output, width, height)
    shown = entry
    with ExitStack() as files:
        writers = [files.enter_context(open_writer(clip, video_format, path, options.crf, options.loop_count))]
        if not video_format.plays:
            preview = FORMATS[PREVIEW_FORMAT]
            preview_path, shown = output_path("animatic_preview_of_node", preview.extension, False, width, height)
            writers.append(files.enter_context(open_writer(clip, preview, preview_path, 23, 0)))
        for index in with_progress(order):
            frame = images[index].float().cpu().numpy()
            for write in writers:
                write(frame)
    saved = {**entry, "format": options.format, "frame_rate": options.frame_rate, "fullpath": str(path)}
    # "images" plays in the node; "gifs" is the file itself, in the shape that VideoHelperSuite's users query
    return {"images": [shown], "animated": (True,), "gifs": [saved]}, str(path)


def play_clip(images: Tensor) -> dict:
    """What a node shows that plays images (N, H, W, 3) and saves no file of theirs."""
    options = SaveOptions(PLAYED_AT, 0, "animatic_preview_of_node", PREVIEW_FORMAT, 19, False, False)
    shown, _ = save_video(images, None, options, {})
    return {key: shown[key] for key in ("images", "animated")}


def frame_order(num_frames: int, pingpong: bool, repeats: int) -> list[int]:
    """Indices of the frames as they are shown."""
    order = list(range(num_frames))
    if pingpong:
        order += order[-2:0:-1]
    return order * (repeats + 1)


def first_sound(audio: dict | None) -> tuple:
    """The first clip of an AUDIO as (channels, samples) and its sample rate; (None, 0) without sound."""
    if audio is None or 0 in audio["waveform"].shape:
        return None, 0
    return audio["waveform"][0].float().cpu().numpy(), int(audio["sample_rate"])


def workflow_metadata(prompt: dict | None, extra_pnginfo: dict | None) -> dict[str, str]:
    """Prompt and workflow as the JSON texts that go into files; empty if the user switched that off."""
    if args.disable_metadata:
        return {}
    metadata = {} if prompt is None else {"prompt": json.dumps(prompt)}
    for name, value in (extra_pnginfo or {}).items():
        metadata[name] = json.dumps(value)
    return metadata


def preview_image(image: Tensor) -> dict:
    """A picture (H, W, 3) in 0..1 as the node's preview, through the host's own Preview Image node."""
    from nodes import PreviewImage  # only there once the server runs

    return PreviewImage().save_images(image[None])["ui"]
