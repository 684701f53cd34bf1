"""Nodes that turn frames into files."""

from contextlib import ExitStack

from . import widgets
from .host.outputs import file_metadata, output_path, with_progress
from .media.encode import Clip, open_writer
from .media.formats import FORMATS, PREVIEW_FORMAT


class VideoCombine:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Writes images to a video or animation that plays in the node and holds the workflow: drop the file on the "
        "canvas to get the graph back."
    )
    SEARCH_ALIASES = ["save video", "combine frames", "VHS", "gif", "mp4", "webm", "ProRes"]
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("file",)
    OUTPUT_TOOLTIPS = ("Full path of the file, or of the folder for a PNG sequence.",)
    FUNCTION = "combine"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "images": widgets.socket("IMAGE", "The frames, in order. A fourth channel is transparency."),
                "frame_rate": widgets.number(
                    8.0, 0.1, 240.0, "Frames per second. AnimateDiff is at home at 8.", step=0.1
                ),
                "loop_count": widgets.integer(
                    0,
                    0,
                    100,
                    "gif and webp: how often it plays, 0 is forever. "
                    "Others: how many more times the frames stand in the file.",
                ),
                "filename_prefix": widgets.text(
                    "animatic/clip", "Name of the file, and folders below the output folder."
                ),
                "format": widgets.choice(
                    FORMATS,
                    "video/h264-mp4",
                    "h264 plays everywhere; h265 is smaller; webm, ProRes, webp, gif, png keep "
                    "transparency, the others lay it over black; png is a folder of numbered files.",
                ),
                "crf": widgets.integer(
                    19,
                    0,
                    63,
                    "Quality of h264, h265, webm and webp: 0 is best (webp: lossless), more is "
                    "smaller. The others ignore it.",
                ),
                "pingpong": widgets.switch(False, "Play forward, then backward, without showing either end twice."),
                "save_output": widgets.switch(True, "On: into the output folder. Off: a preview in the temp folder."),
            },
            "optional": {
                "audio": widgets.socket(
                    "AUDIO", "Sound, cut or padded with silence to the video's length; not in gif, webp, png."
                ),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def combine(
        self,
        images,
        frame_rate,
        loop_count,
        filename_prefix,
        format,
        crf,
        pingpong,
        save_output,
        audio=None,
        prompt=None,
        extra_pnginfo=None,
    ):
        if images.shape[0] == 0:
            raise ValueError("Video Combine got no images. Check the node before it.")
        if images.shape[-1] not in (1, 3, 4):
            raise ValueError(f"Video Combine takes images of 1, 3 or 4 channels, not {images.shape[-1]}.")
        video_format = FORMATS[format]
        order = frame_order(images.shape[0], pingpong, loop_count if video_format.repeats else 0)
        height, width, channels = images.shape[1:]
        samples, sample_rate = sound(audio)
        clip = Clip(
            width,
            height,
            frame_rate,
            channels == 4,
            len(order) / frame_rate,
            samples,
            sample_rate,
            file_metadata(prompt, extra_pnginfo),
        )
        path, entry = output_path(filename_prefix, video_format.extension, save_output, width, height)
        shown = entry
        with ExitStack() as files:
            writers = [files.enter_context(open_writer(clip, video_format, path, crf, loop_count))]
            if not video_format.plays:
                preview = FORMATS[PREVIEW_FORMAT]
                preview_path, shown = output_path("animatic_preview_of_node", preview.extension, False, width, height)
                writers.append(files.enter_context(open_writer(clip, preview, preview_path, 23, 0)))
            for index in with_progress(len(order)):
                frame = images[order[index]].float().cpu().numpy()
                for write in writers:
                    write(frame)
        saved = {**entry, "format": format, "frame_rate": frame_rate, "fullpath": str(path)}
        # "images" plays in the node; "gifs" is the file itself, in the shape that VideoHelperSuite's users query
        return {"ui": {"images": [shown], "animated": (True,), "gifs": [saved]}, "result": (str(path),)}


def frame_order(num_frames: int, pingpong: bool, repeats: int) -> list[int]:
    """Indices of the frames as they are shown."""
    order = list(range(num_frames))
    if pingpong:
        order += order[-2:0:-1]
    return order * (repeats + 1)


def sound(audio: dict | None) -> tuple:
    """The first clip of an AUDIO as (channels, samples) and its sample rate; (None, 0) without sound."""
    if audio is None or 0 in audio["waveform"].shape:
        return None, 0
    return audio["waveform"][0].float().cpu().numpy(), int(audio["sample_rate"])


NODE_CLASSES = {"AnimaticVideoCombine": (VideoCombine, "Video Combine")}
