"""Numbers by frame for nodes of other packs and for the host's own."""

import torch

from . import widgets
from .timeline.keyframes import CURVES, parse_numbers


class FrameNumbers:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Writes numbers by frame once and gives them as a list and as masks: for a mask on a prompt that has a LoRA "
        "hook (a LoRA from frame 50 on), for strengths of other packs' nodes, for all that takes a mask by frame."
    )
    SEARCH_ALIASES = ["value schedule", "batch value schedule", "mask batch", "fade mask", "float list", "keyframes"]
    RETURN_TYPES = ("FLOAT", "MASK", "INT")
    RETURN_NAMES = ("numbers", "masks", "num_frames")
    OUTPUT_TOOLTIPS = (
        "A list of numbers, one for each frame.",
        "A mask for each frame, as bright as its number, from 0 to 1.",
        "How many frames there are.",
    )
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "by_frame": widgets.numbers(
                    "0: 0, 15: 1",
                    "One number, a list (1, 0.9, 0.8: the last one stays) or keyframes (0: 0, 50: 1).",
                ),
                "num_frames": widgets.integer(
                    16, 1, 100000, "Frames of the clip: the batch size of the latent, if none is connected."
                ),
                "width": widgets.integer(64, 1, 16384, "Width of the masks; nodes resize them, so it may be small."),
                "height": widgets.integer(64, 1, 16384, "Height of the masks."),
                "curve": widgets.choice(CURVES, "linear", "How numbers run from one keyframe to the next."),
            },
            "optional": {
                "latent": widgets.socket("LATENT", "Its frames count instead of num_frames."),
            },
        }

    def make(self, by_frame, num_frames, width, height, curve, latent=None):
        if latent is not None:
            num_frames = latent["samples"].shape[0]
        numbers = parse_numbers(by_frame, "by_frame", curve).over(range(num_frames))
        masks = torch.tensor(numbers).clamp(0, 1)[:, None, None].repeat(1, height, width)
        return numbers, masks, num_frames


NODE_CLASSES = {"AnimaticFrameNumbers": (FrameNumbers, "Numbers by Frame")}
