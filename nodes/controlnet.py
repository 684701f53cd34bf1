"""Nodes that steer a clip with images: ControlNet strength by frame and step, and SparseCtrl."""

import re

from . import widgets
from .host.controls.sparse_ctrl import load_sparse_ctrl
from .host.controls.strength import schedule_strength
from .host.core.folders import CONTROLNETS, file_names
from .timeline.keyframes import CURVES, parse_numbers
from .timeline.typed import half_width

LAST_STAYS, LOOPED = "last one stays", "looped"


class ControlStrength:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Changes the strength of the ControlNet that was applied last, from frame to frame and along sampling, and "
        "says what happens when there are fewer images than frames. Any ControlNet, ControlLoRA or T2I-adapter."
    )
    SEARCH_ALIASES = ["ControlNet keyframe", "timestep keyframe", "latent keyframe", "strength schedule"]
    SEARCH_ALIASES += ["soft weights"]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = ("positive with the schedule.", "negative with the schedule.")
    FUNCTION = "set"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "positive": widgets.socket("CONDITIONING", "From Apply ControlNet."),
                "negative": widgets.socket("CONDITIONING", "From the same Apply ControlNet."),
                "by_frame": widgets.numbers(
                    "1",
                    "Factor on the strength by frame: one number, a list (1, 0.9, 0.8: the last one stays) or "
                    "keyframes (0: 1, 24: 0), or a FLOAT list by a link.",
                ),
                "by_step": widgets.numbers(
                    "1", "Factor along sampling, positions from 0 to 1: 0: 1, 0.5: 0.3 fades to 0.3 by half of it."
                ),
                "curve": widgets.choice(CURVES, "linear", "How numbers run from one keyframe to the next."),
                "fewer_images": widgets.choice(
                    [LAST_STAYS, LOOPED], LAST_STAYS, "When the ControlNet has fewer images than the clip has frames."
                ),
            },
            "optional": {
                "effect_mask": widgets.socket(
                    "MASK", "Where the ControlNet acts; one mask, or one for each frame (the last stays)."
                ),
                "soft_base": widgets.number(
                    1.0,
                    0.0,
                    1.0,
                    "Soft weights: below 1 the prompt has more say; fine features count least. 0.825 is usual.",
                    step=0.001,
                ),
                "soft_flip": widgets.switch(False, "Soft weights the other way round: deep features count least."),
            },
        }

    def set(
        self,
        positive,
        negative,
        by_frame,
        by_step,
        curve,
        fewer_images,
        effect_mask=None,
        soft_base=1.0,
        soft_flip=False,
    ):
        return schedule_strength(
            (positive, negative),
            parse_numbers(by_frame, "by_frame", curve),
            parse_numbers(by_step, "by_step", curve, end=1.0),
            fewer_images == LAST_STAYS,
            soft_base=soft_base,
            soft_flip=soft_flip,
            mask=effect_mask,
        )


class LoadSparseCtrl:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Loads AnimateDiff's SparseCtrl (RGB or scribble) for the stock Apply ControlNet: a few key images, for "
        "example the first and the last, and the motion module finds the way between them."
    )
    SEARCH_ALIASES = ["SparseCtrl", "keyframe interpolation", "image to video", "scribble", "sparse control"]
    RETURN_TYPES = ("CONTROL_NET",)
    RETURN_NAMES = ("control_net",)
    OUTPUT_TOOLTIPS = ("For Apply ControlNet: connect the key images to image, and for RGB also the checkpoint's VAE.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "sparse_ctrl": (
                    file_names(CONTROLNETS),
                    {"tooltip": "A file of models/controlnet: v3_sd15_sparsectrl_rgb or v3_sd15_sparsectrl_scribble."},
                ),
                "key_frames": widgets.text(
                    "0",
                    "The frame of each key image, counted from 0, or from the end below 0: 0, 8, -1. "
                    "Empty spreads the images evenly over the clip.",
                ),
            }
        }

    def load(self, sparse_ctrl, key_frames):
        numbers = [number for number in re.split(r"[,;\s]+", half_width(key_frames)) if number]
        for number in numbers:
            if not re.fullmatch(r"-?\d+", number):
                raise ValueError(f"key_frames: '{number}' is no frame number. Write for example 0, 8, -1.")
        return (load_sparse_ctrl(sparse_ctrl, tuple(map(int, numbers))),)


NODE_CLASSES = {
    "AnimaticControlStrength": (ControlStrength, "Control Strength"),
    "AnimaticLoadSparseCtrl": (LoadSparseCtrl, "Load SparseCtrl"),
}
