"""Nodes that turn files into frames."""

import numpy as np
import torch

from . import widgets
from .host.inputs import check_interrupted, fingerprint, input_files, input_path, name_problem
from .host.inputs import progress_bar, require_memory, resize, target_size
from .host.outputs import with_progress
from .media.decode import Selection, probe, read_frames, read_sound
from .media.images import IMAGES, images_of, natural, read_image

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
    RETURN_TYPES = ("IMAGE", "AUDIO", "FLOAT", "INT")
    RETURN_NAMES = ("images", "audio", "frame_rate", "frame_count")
    OUTPUT_TOOLTIPS = (
        "The frames.",
        "The sound that belongs to these frames; nothing if the file has none.",
        "Frames per second at which the frames play at their own speed: the input of Video Combine.",
        "How many frames there are.",
    )
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        video = input_files(VIDEOS), {"video_upload": True, "tooltip": "A file in ComfyUI's input folder."}
        rate = "Repeat or drop frames to get so many per second; 0 takes them as they are. AnimateDiff: 8."
        return {"required": {"video": video, "force_rate": widgets.number(0.0, 0.0, 240.0, rate), **SELECTION}}

    @classmethod
    def VALIDATE_INPUTS(cls, video):
        return name_problem(video)

    @classmethod
    def IS_CHANGED(cls, video, **_):
        return fingerprint([input_path(video)])

    def load(self, video, force_rate, frame_load_cap, skip_first_frames, select_every_nth, width, height):
        path = input_path(video)
        selection = Selection(force_rate, skip_first_frames, select_every_nth, frame_load_cap)
        info = probe(path, check_interrupted)
        expected = selection.expected(info)
        step = progress_bar(expected)
        frames, size = [], None

        def keep(frame: np.ndarray) -> None:
            nonlocal size
            if size is None:
                size = target_size(frame.shape[1], frame.shape[0], width, height)
                require_memory(expected, *size)
            if (frame.shape[1], frame.shape[0]) != size:
                frame = resize(torch.from_numpy(frame) / 255, *size).mul(255).round().byte().numpy()
            frames.append(frame)
            step()

        times = read_frames(path, selection, keep, check_interrupted)
        rate = selection.rate(info, times)
        sound = read_sound(path, times[0], len(frames) / rate, check_interrupted) if info.sound else None
        audio = sound and {"waveform": torch.from_numpy(sound[0])[None], "sample_rate": sound[1]}
        count = len(frames)
        return _as_images(frames), audio, rate, count


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
        found = images_of(input_path(folder, folder=True))
        if not found:
            raise ValueError(f"The folder {folder} holds no images. Load Image Sequence reads {', '.join(IMAGES)}.")
        paths = found[skip_first_frames::select_every_nth][: frame_load_cap or None]
        if not paths:
            raise ValueError(f"{folder} holds only {len(found)} images: lower skip_first_frames.")
        for index in with_progress(len(paths)):
            colour, hidden = read_image(paths[index])
            if index == 0:
                size = target_size(colour.shape[1], colour.shape[0], width, height)
                require_memory(len(paths), *size)
                images = torch.empty(len(paths), size[1], size[0], 3)
                masks = torch.zeros(images.shape[:3])
            images[index] = resize(colour, *size)
            if hidden is not None:
                masks[index] = resize(hidden[..., None].expand(-1, -1, 3), *size)[..., 0]
        return images, masks, len(paths)


def _as_images(frames: list[np.ndarray]) -> torch.Tensor:
    """Float (N, H, W, 3) in 0..1; empties the list, and there is no other copy of floats."""
    images = torch.empty(len(frames), *frames[0].shape)
    while frames:
        last = torch.from_numpy(frames.pop())
        torch.div(last, 255, out=images[len(frames)])
    return images


NODE_CLASSES = {
    "AnimaticLoadVideo": (LoadVideo, "Load Video"),
    "AnimaticLoadImageSequence": (LoadImageSequence, "Load Image Sequence"),
}
