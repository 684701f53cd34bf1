"""How strongly the prompt is followed, along sampling and along the clip."""

from . import widgets
from .host.clip.guidance import set_cfg_schedule
from .timeline.keyframes import CURVES, is_blank, parse_numbers


class CfgSchedule:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Lets cfg change along sampling and from frame to frame: high early for the layout and low later against burnt "
        "colours, for example. For KSampler and every sampler with a positive and a negative prompt."
    )
    SEARCH_ALIASES = ["custom cfg", "cfg multival", "cfg keyframes", "dynamic cfg", "guidance schedule"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The MODEL with its own cfg, for any sampler.",)
    FUNCTION = "set"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": widgets.socket("MODEL", "A MODEL before or after Apply Motion Module."),
                "by_step": widgets.numbers(
                    "",
                    "cfg along sampling, in place of the sampler's: one number, or positions from 0 to 1 "
                    "(0: 8, 0.5: 2). Empty: the sampler's own.",
                ),
                "by_frame": widgets.numbers(
                    "1",
                    "Factor on cfg by frame: one number, a list (1, 0.9, 0.8: the last one stays) or keyframes "
                    "(0: 1, 24: 0.5).",
                ),
                "curve": widgets.choice(CURVES, "linear", "How numbers run from one keyframe to the next."),
            }
        }

    def set(self, model, by_step, by_frame, curve):
        steps = None if is_blank(by_step) else parse_numbers(by_step, "by_step", curve, end=1.0)
        return (set_cfg_schedule(model, steps, parse_numbers(by_frame, "by_frame", curve)),)


NODE_CLASSES = {"AnimaticCfgSchedule": (CfgSchedule, "CFG Schedule")}
