"""Prompts that change along the clip."""

from . import widgets
from .host.clip.prompt_travel import prompt_travel
from .timeline.keyframes import CURVES, parse_prompts


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
            }
        }

    def encode(self, clip, prompts, negative_prompts, prefix, suffix, num_frames, curve, loop):
        if clip is None:
            raise ValueError("Prompt Travel got no CLIP: the checkpoint has no text encoder. Load one with Load CLIP.")
        positive = {
            frame: ", ".join(filter(None, (prefix.strip(), prompt, suffix.strip())))
            for frame, prompt in parse_prompts(prompts, "prompts").items()
        }
        negative = parse_prompts(negative_prompts, "negative_prompts")
        return tuple(prompt_travel(clip, p, num_frames, curve, loop) for p in (positive, negative))


NODE_CLASSES = {"AnimaticPromptTravel": (PromptTravel, "Prompt Travel")}
