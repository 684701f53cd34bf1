"""Nodes that turn frames into files."""

from . import widgets
from .host.frames.pieces import DecodedFrames
from .host.frames.save import SaveOptions, save_video, workflow_metadata
from .media.formats import FORMATS


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
                "frame_rate": widgets.rate(
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
                    "h264 plays everywhere; h265 and av1 are smaller; ffv1 loses nothing; webm, ProRes, ffv1, "
                    "webp, gif, png keep transparency, the others lay it over black; png is a folder of files.",
                ),
                "crf": widgets.integer(
                    19,
                    0,
                    63,
                    "Quality of h264, h265, av1, webm and webp: 0 is best (webp: lossless), more is "
                    "smaller. The others ignore it.",
                ),
                "pingpong": widgets.switch(False, "Play forward, then backward, without showing either end twice."),
                "save_output": widgets.switch(True, "On: into the output folder. Off: a preview in the temp folder."),
            },
            "optional": {
                "images": widgets.socket("IMAGE", "The frames, in order. A fourth channel is transparency."),
                "latent": widgets.socket(
                    "LATENT", "Instead of images, with vae: decoded a few frames at a time, for clips of any length."
                ),
                "vae": widgets.socket("VAE", "For latent."),
                "audio": widgets.socket(
                    "AUDIO", "Sound, cut or padded with silence to the video's length; not in gif, webp, png."
                ),
                "save_metadata": widgets.switch(
                    True, "On: the workflow goes into the file. Off: nobody who gets the file sees how it was made."
                ),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def combine(
        self,
        frame_rate,
        loop_count,
        filename_prefix,
        format,
        crf,
        pingpong,
        save_output,
        images=None,
        latent=None,
        vae=None,
        audio=None,
        save_metadata=True,
        prompt=None,
        extra_pnginfo=None,
    ):
        options = SaveOptions(float(frame_rate), loop_count, filename_prefix, format, crf, pingpong, save_output)
        if (images is None) == (latent is None):
            raise ValueError("Video Combine takes images, or a latent with its vae: connect one of the two.")
        images = DecodedFrames(latent, vae) if images is None else images
        metadata = workflow_metadata(prompt, extra_pnginfo) if save_metadata else {}
        shown, path = save_video(images, audio, options, metadata)
        return {"ui": shown, "result": (path,)}


NODE_CLASSES = {"AnimaticVideoCombine": (VideoCombine, "Video Combine")}
