"""Nodes that measure clips and show them at a glance."""

import numpy as np
import torch

from ..evaluation.camera import fit_camera
from ..evaluation.clips import checked
from ..evaluation.flow import steps_of
from ..evaluation.scores import DIGITS, Against, Scores, card, evaluate, table
from . import widgets
from .host.evaluation.clip import clip_folders, image_embedding, open_clip_folder
from .host.frames.save import play_clip, preview_image
from .media.contact_sheet import contact_sheet
from .media.curve_chart import Panel, curve_chart
from .media.flow_picture import flow_picture

NO_FOLDER = "(none)"
MOST_CLIPS = 4


def against_inputs() -> tuple[dict, dict]:
    """The required and the optional inputs that say what clips are held against."""
    required = {
        "prompt": widgets.text("", "The clip's prompt, for CLIP text. Needs clip_folder.", multiline=True),
        "clip_folder": widgets.choice(
            [NO_FOLDER, *clip_folders()],
            NO_FOLDER,
            "A folder in models/clip_vision with all files of a Hugging Face CLIP, such as clip-vit-large-patch14.",
        ),
    }
    optional = {
        "clip_vision": widgets.socket(
            "CLIP_VISION", "For smoothness and domain; clip_folder serves if none is connected."
        ),
        "reference": widgets.socket(
            "IMAGE", "Pictures of the same checkpoint and prompt without motion, for CLIP domain. Four are usual."
        ),
        "truth": widgets.socket("IMAGE", "The clip as it should be, frame by frame, for PSNR and SSIM."),
    }
    return required, optional


def held_against(prompt, clip_folder, clip_vision=None, reference=None, truth=None) -> Against:
    clip = open_clip_folder(clip_folder) if clip_folder != NO_FOLDER else None
    if reference is not None and clip is None and clip_vision is None:
        raise ValueError("CLIP compares the clip with the reference: connect a CLIP_VISION, or choose a clip_folder.")
    if prompt.strip() and clip is None:
        raise ValueError(
            "A prompt is compared by a whole CLIP, which the checkpoint's text encoder is not: choose a clip_folder, "
            "or leave the prompt empty."
        )
    embed = image_embedding(clip_vision) if clip_vision is not None else None
    return Against(prompt, () if reference is None else (reference,), embed, clip, truth)


class EvaluateAnimation:
    CATEGORY = "Animatic/Evaluation"
    DESCRIPTION = (
        "Measures a clip as AnimateDiff's paper does: how smooth it is, how near to the checkpoint's own style and to "
        "the prompt, beside how much moves and flickers, and what the camera does. Draws it over the frames."
    )
    SEARCH_ALIASES = ["metrics", "CLIP score", "smoothness", "consistency", "flicker", "PSNR", "SSIM", "quality"]
    RETURN_TYPES = ("STRING", "IMAGE")
    RETURN_NAMES = ("text", "plot")
    OUTPUT_TOOLTIPS = ("The measures, one in a line.", "The measures over the frames.")
    FUNCTION = "measure"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        required, optional = against_inputs()
        return {"required": {"images": widgets.socket("IMAGE", "The clip."), **required}, "optional": optional}

    def measure(self, images, prompt, clip_folder, **against):
        scores = evaluate(images, held_against(prompt, clip_folder, **against))
        text, image = card(scores), plot(scores)
        return {"ui": {"text": (text,), **preview_image(image)}, "result": (text, image[None])}


def plot(scores: Scores) -> torch.Tensor:
    panels = [
        Panel(name, points, summary=f"mean {scores.values[name]:.{DIGITS[name]}f}")
        for name, points in scores.by_frame.items()
        if len(points) > 1
    ]
    return curve_chart(panels)


class CompareAnimations:
    CATEGORY = "Animatic/Evaluation"
    DESCRIPTION = (
        "Measures two to four clips and puts them below each other in one table, as the paper's Table 1 does: methods, "
        "checkpoints or settings beside each other, held against the same references."
    )
    SEARCH_ALIASES = ["metrics", "benchmark", "Table 1", "side by side", "CLIP score"]
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("table",)
    OUTPUT_TOOLTIPS = ("The table, in Markdown.",)
    FUNCTION = "compare"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        required, optional = against_inputs()
        names = widgets.text("first\nsecond", "The clips' names, one in a line.", multiline=True)
        first = {f"images_{n}": widgets.socket("IMAGE", "A clip.") for n in (1, 2)}
        more = {f"images_{n}": widgets.socket("IMAGE", "A further clip.") for n in range(3, MOST_CLIPS + 1)}
        return {"required": {**first, "names": names, **required}, "optional": {**more, **optional}}

    def compare(self, names, **inputs):
        keys = [key for n in range(1, MOST_CLIPS + 1) if inputs.get(key := f"images_{n}") is not None]
        clips = [inputs.pop(key) for key in keys]
        lines = [line.strip() for line in names.splitlines() if line.strip()]
        titles = [line for line, _ in zip(lines, clips, strict=False)] + keys[len(lines) :]
        if len(set(titles)) < len(titles):
            raise ValueError("names: two clips have the same name; give each its own, one in a line.")
        against = held_against(**{key: value for key, value in inputs.items() if not key.startswith("images_")})
        text = table({name: evaluate(clip, against, name) for name, clip in zip(titles, clips, strict=True)})
        return {"ui": {"text": (text,)}, "result": (text,)}


class OpticalFlowPreview:
    CATEGORY = "Animatic/Evaluation"
    DESCRIPTION = (
        "Shows what moves in a clip, and where to: colours are directions, white stands still. Beside it how much "
        "moves, and what the camera does."
    )
    SEARCH_ALIASES = ["optical flow", "motion vectors", "motion map", "camera motion", "flow visualization"]
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("images",)
    OUTPUT_TOOLTIPS = ("The flow to each frame from the one before: one picture less than the clip has.",)
    FUNCTION = "show"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "images": widgets.socket("IMAGE", "The clip."),
                "full_colour": widgets.number(
                    0.0,
                    0.0,
                    100.0,
                    "How far goes what has full colour, in percent of the picture's shorter side; the same number "
                    "makes clips comparable. 0: what moves most in this clip.",
                ),
            }
        }

    def show(self, images, full_colour):
        clip = checked(images, "images")
        if len(clip) < 2:
            raise ValueError("Optical flow is between frames: connect a clip of two or more.")
        steps = list(steps_of(clip))
        shorter = min(steps[0].flow.shape[:2])
        lengths = np.stack([np.linalg.norm(step.flow, axis=-1) for step in steps])
        strongest = full_colour * shorter / 100 or float(lengths.max())
        pictures = torch.from_numpy(np.stack([flow_picture(step.flow, strongest) for step in steps]))
        size = clip.shape[1:3]
        resized = torch.nn.functional.interpolate(pictures.movedim(3, 1), size, mode="bilinear").movedim(1, 3)
        motion = np.mean([step.moved for step in steps])
        text = f"motion {motion:.3f} %, full colour {100 * strongest / shorter:.2f} %\n"
        text += str(fit_camera(clip) or "the camera cannot be told")
        return {"ui": {**play_clip(resized), "text": (text,)}, "result": (resized,)}


class ContactSheet:
    CATEGORY = "Animatic/Evaluation"
    DESCRIPTION = "Puts the frames of a clip into one picture, from left to right and row by row, with their numbers."
    SEARCH_ALIASES = ["image grid", "frame grid", "thumbnails", "film strip", "montage"]
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The sheet.",)
    FUNCTION = "lay_out"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "images": widgets.socket("IMAGE", "The clip."),
                "columns": widgets.integer(0, 0, 100, "Pictures in a row. 0: as many as make the sheet wide."),
                "picture_width": widgets.integer(192, 16, 2048, "Pixels of each picture in the sheet."),
                "every_nth": widgets.integer(1, 1, 1000, "1: all frames; 4: every fourth, from the first on."),
                "numbers": widgets.switch(True, "Writes each frame's number, from 0, into its corner."),
            }
        }

    def lay_out(self, images, columns, picture_width, every_nth, numbers):
        clip = checked(images, "images")
        frames = list(range(0, len(clip), every_nth))
        sheet = contact_sheet(clip[frames], picture_width, columns, frames if numbers else None)
        return {"ui": preview_image(sheet), "result": (sheet[None],)}


NODE_CLASSES = {
    "AnimaticEvaluateAnimation": (EvaluateAnimation, "Evaluate Animation"),
    "AnimaticCompareAnimations": (CompareAnimations, "Compare Animations"),
    "AnimaticOpticalFlowPreview": (OpticalFlowPreview, "Optical Flow Preview"),
    "AnimaticContactSheet": (ContactSheet, "Contact Sheet"),
}
