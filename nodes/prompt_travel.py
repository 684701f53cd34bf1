"""Prompts that change along the clip."""

import logging

from . import widgets
from .host.clip.prompt_travel import Travel, prompt_travel
from .timeline.keyframes import CURVES, doubts, parse_numbers, parse_prompts

logger = logging.getLogger(__name__)

NUMBERS = ("pw_a", "pw_b", "pw_c", "pw_d")  # as other prompt schedules call them


class PromptTravel:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Writes a prompt for some frames and blends from one to the next in between. The result is plain "
        "CONDITIONING with a row for each frame, for any sampler, ControlNet or mask node."
    )
    SEARCH_ALIASES = ["prompt schedule", "batch prompt schedule", "prompt interpolation", "FizzNodes", "keyframes"]
    RETURN_TYPES = ("CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("positive", "negative")
    OUTPUT_TOOLTIPS = ("The prompts, a row for each frame.", "The negative prompts, a row for each frame.")
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls):
        lines = {"multiline": True, "dynamicPrompts": True}
        return {
            "required": {
                "clip": widgets.socket("CLIP", "The text encoder of the checkpoint."),
                "prompts": widgets.text(
                    "0: spring meadow, blossoms\n8: autumn meadow, falling leaves",
                    "One 'frame: prompt' a line, frames counted from 0. A line without a frame goes on with the one "
                    "above. Weights such as (snow:1.2) and embeddings work as everywhere.",
                    **lines,
                ),
                "negative_prompts": widgets.text(
                    "", "The same for what shall not be seen; one line serves all.", **lines
                ),
                "prefix": widgets.text("", "Comes before every positive prompt, for what stays: style, subject."),
                "suffix": widgets.text("", "Comes after every positive prompt."),
                "num_frames": widgets.integer(16, 1, 100000, "Frames of the clip: the batch size of the latent."),
                "curve": widgets.choice(
                    CURVES, "linear", "How one prompt becomes the next: evenly, eased, or all at once (step)."
                ),
                "loop": widgets.switch(
                    False, "The last prompt becomes the first one again at the end, for closed loops."
                ),
            },
            "optional": {
                "current_frame": widgets.integer(
                    -1, -1, 100000, "Only this frame's prompt, as one row for all. -1: every frame has its own."
                ),
                **{
                    name: widgets.numbers(
                        "0",
                        f"A number by frame for expressions between backticks: (snow:`{name} * 0.5`).",
                        advanced=name == NUMBERS[-1],  # rare: pages show it on request
                    )
                    for name in NUMBERS
                },
            },
        }

    def encode(
        self,
        clip,
        prompts,
        negative_prompts,
        prefix,
        suffix,
        num_frames,
        curve,
        loop,
        current_frame=-1,
        **numbers,
    ):
        if clip is None:
            raise ValueError("Prompt Travel got no CLIP: the checkpoint has no text encoder. Load one with Load CLIP.")
        texts = {"prompts": prompts, "negative_prompts": negative_prompts}
        parsed = {name: parse_prompts(text, name, num_frames) for name, text in texts.items()}
        notes = [note for name, text in texts.items() for note in doubts(text, name, parsed[name], num_frames)]
        for note in notes:
            logger.warning("Prompt Travel: %s", note)
        positive = {
            frame: ", ".join(filter(None, (prefix.strip(), prompt, suffix.strip())))
            for frame, prompt in parsed["prompts"].items()
        }
        by_frame = {name: parse_numbers(numbers.get(name, "0"), name) for name in NUMBERS}
        frames = range(num_frames) if current_frame < 0 else (current_frame,)
        travels = (Travel(texts, num_frames, curve, loop, by_frame) for texts in (positive, parsed["negative_prompts"]))
        shown = f"prompts at frame {', '.join(map(str, positive))}, clip of {num_frames} frames"
        return {
            "ui": {"text": (shown, *notes)},
            "result": tuple(prompt_travel(clip, travel, frames) for travel in travels),
        }


NODE_CLASSES = {"AnimaticPromptTravel": (PromptTravel, "Prompt Travel")}
