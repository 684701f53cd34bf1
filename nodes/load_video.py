"""Nodes that turn files into frames."""

from . import widgets
from .host.core.paths import fingerprint, input_files, input_path, name_problem
from .host.frames.load import load_image_sequence, load_images, load_latent, withheld
from .media.decode import Selection
from .media.images import IMAGES, images_of, natural

VIDEOS = (".mp4", ".webm", ".mkv", ".mov", ".m4v", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp")
VIDEOS += (".wmv", ".flv", ".ogv", ".mxf", ".gif", ".webp", ".apng")
SELECTION = {
    "frame_load_cap": widgets.integer(0, 0, 2**24, "Load no more frames than this; 0 is all."),
    "skip_first_frames": widgets.integer(0, 0, 2**24, "Leave out this many at the start."),
    "select_every_nth": widgets.integer(1, 1, 2**24, "1 loads every frame, 2 every second one, and so on."),
    "width": widgets.integer(0, 0, 16384, "0: as it is, or as height and the aspect ratio give. With height: cropped."),
    "height": widgets.integer(0, 0, 16384, "0: as it is, or as width and the aspect ratio give. With width: cropped."),
}


class LoadVideo:
    CATEGORY = "Animatic"
    DESCRIPTION = "Loads the frames and the sound of a video, gif or animated webp, or a part of them."
    SEARCH_ALIASES = ["import video", "open video", "video to images", "VHS", "gif", "mp4", "frames"]
    RETURN_TYPES = ("IMAGE", "AUDIO", "FLOAT", "INT", "LATENT")
    RETURN_NAMES = ("images", "audio", "frame_rate", "frame_count", "latent")
    OUTPUT_TOOLTIPS = (
        "The frames; without a vae.",
        "The sound that belongs to these frames; nothing if the file has none.",
        "Frames per second at which the frames play at their own speed: the input of Video Combine.",
        "How many frames there are.",
        "With a vae: the frames as a latent, in a 48th of the memory.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        video = input_files(VIDEOS), {"video_upload": True, "tooltip": "A file in ComfyUI's input folder."}
        rate = "Repeat or drop frames to get so many per second; 0 takes them as they are. AnimateDiff: 8."
        vae = widgets.socket("VAE", "With it the frames come out as latent, encoded a few at a time; for long videos.")
        return {
            "required": {"video": video, "force_rate": widgets.rate(0.0, 0.0, 240.0, rate, step=0.01), **SELECTION},
            "optional": {"vae": vae},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, video):
        return name_problem(video)

    @classmethod
    def IS_CHANGED(cls, video, **_):
        return fingerprint([input_path(video)])

    def load(self, video, force_rate, frame_load_cap, skip_first_frames, select_every_nth, width, height, vae=None):
        selection = Selection(float(force_rate), skip_first_frames, select_every_nth, frame_load_cap)
        wanted = input_path(video), selection, width, height
        if vae is None:
            images, loaded = load_images(*wanted)
            latent = withheld("Load Video gives a latent when a vae is connected to it.")
        else:
            latent, loaded = load_latent(*wanted, vae)
            images = withheld("Load Video gives no images while a vae is connected to it: use its latent.")
        return images, loaded.audio, loaded.rate, loaded.count, latent


class LoadImageSequence:
    CATEGORY = "Animatic"
    DESCRIPTION = "Loads the images of a folder, in the order of their numbers, as the frames of an animation."
    SEARCH_ALIASES = ["load images", "image folder", "frames", "directory", "VHS", "png sequence"]
    RETURN_TYPES = ("IMAGE", "MASK", "INT")
    RETURN_NAMES = ("images", "mask", "frame_count")
    OUTPUT_TOOLTIPS = (
        "The frames.",
        "Where the images are transparent, as Load Image gives it; black if nowhere.",
        "How many frames there are.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        folders = sorted({name.rpartition("/")[0] for name in input_files(IMAGES)} - {""}, key=natural)
        return {"required": {"folder": (folders, {"tooltip": "A folder in ComfyUI's input folder."}), **SELECTION}}

    @classmethod
    def VALIDATE_INPUTS(cls, folder):
        return name_problem(folder, folder=True)

    @classmethod
    def IS_CHANGED(cls, folder, **_):
        return fingerprint(images_of(input_path(folder, folder=True)))

    def load(self, folder, frame_load_cap, skip_first_frames, select_every_nth, width, height):
        path = input_path(folder, folder=True)
        images, masks = load_image_sequence(
            path, skip_first_frames, select_every_nth, frame_load_cap, width, height
        )
        return images, masks, len(images)


NODE_CLASSES = {
    "AnimaticLoadVideo": (LoadVideo, "Load Video"),
    "AnimaticLoadImageSequence": (LoadImageSequence, "Load Image Sequence"),
}
