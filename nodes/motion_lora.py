"""Nodes for MotionLoRAs and the domain adapter."""

from dataclasses import replace

from . import widgets
from .host.core.folders import LORAS, MOTION_LORAS, file_names
from .host.motion.domain_adapter import apply_domain_adapter
from .host.motion.loras import load_motion_lora
from .sockets import MOTION_LORA
from .timeline.keyframes import CURVES, Keyframes, check_range, is_blank, parse_numbers


class LoadMotionLora:
    CATEGORY = "Animatic/MotionLoRA"
    DESCRIPTION = (
        "Loads a MotionLoRA, a camera move learned from a few clips, for Apply Motion Module. Chain several: they "
        "add up, each at its strength. Original, MotionDirector, kohya, diffusers and peft files load alike."
    )
    SEARCH_ALIASES = ["motion lora", "camera motion", "zoom", "pan", "tilt", "roll"]
    RETURN_TYPES = (MOTION_LORA,)
    RETURN_NAMES = ("motion_lora",)
    OUTPUT_TOOLTIPS = ("The stack with this MotionLoRA added.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "motion_lora": (
                    file_names(MOTION_LORAS),
                    {"tooltip": "A file of models/animatediff_motion_lora, made for the same kind of motion module."},
                ),
                "strength": widgets.number(
                    1.0, -10.0, 10.0, "How much of the move is added; 0 is none, below 0 is the reverse."
                ),
            },
            "optional": {"previous": widgets.socket(MOTION_LORA, "MotionLoRAs that act together with this one.")},
        }

    def load(self, motion_lora, strength, previous=()):
        loaded = load_motion_lora(motion_lora, strength)
        text = f"rank {loaded.rank}, {len(loaded.lora)} layers"
        return {"ui": {"text": (text,)}, "result": ((*previous, loaded),)}


class MotionLoraSchedule:
    CATEGORY = "Animatic/MotionLoRA"
    DESCRIPTION = "Changes the strength of a stack of MotionLoRAs while sampling, from start_strength to end_strength."
    SEARCH_ALIASES = ["motion lora schedule", "keyframe", "strength curve"]
    RETURN_TYPES = (MOTION_LORA,)
    RETURN_NAMES = ("motion_lora",)
    OUTPUT_TOOLTIPS = ("The stack with the schedule on each of its MotionLoRAs.",)
    FUNCTION = "schedule"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "motion_lora": widgets.socket(MOTION_LORA, "The MotionLoRAs whose strength shall change."),
                "start_strength": widgets.number(1.0, -10.0, 10.0, "Factor on the strength up to start_percent."),
                "end_strength": widgets.number(0.0, -10.0, 10.0, "Factor on the strength from end_percent on."),
                "start_percent": widgets.percent(0.0, "Where in the sampling range the change begins."),
                "end_percent": widgets.percent(1.0, "Where in the sampling range the change ends."),
                "curve": widgets.choice(
                    CURVES, "linear", "How the strength gets from start to end; step changes at end_percent."
                ),
            },
            "optional": {
                "strengths": widgets.numbers(
                    "",
                    "Instead of the numbers above, factors along sampling, positions from 0 to 1: "
                    "0: 0, 0.2: 1, 0.8: 1, 1: 0. Empty uses the numbers above.",
                ),
            },
        }

    def schedule(self, motion_lora, start_strength, end_strength, start_percent, end_percent, curve, strengths=""):
        if is_blank(strengths):
            check_range(start_percent, end_percent)
            schedule = Keyframes((start_percent, end_percent), (start_strength, end_strength), curve)
        else:
            schedule = parse_numbers(strengths, "strengths", curve, end=1.0)
        return (tuple(replace(entry, schedule=schedule) for entry in motion_lora),)


class ApplyDomainAdapter:
    CATEGORY = "Animatic/MotionLoRA"
    DESCRIPTION = (
        "Applies AnimateDiff's domain adapter (v3_sd15_adapter), which soaked up the look of its training videos: "
        "1 follows that look, 0 is the checkpoint's own. The same as Load LoRA (Model Only) at that strength."
    )
    SEARCH_ALIASES = ["v3_sd15_adapter", "adapter lora", "domain adapter"]
    RETURN_TYPES = ("MODEL", "CLIP")
    RETURN_NAMES = ("model", "clip")
    OUTPUT_TOOLTIPS = ("The MODEL with the adapter.", "The text encoder, as it came in.")
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": widgets.socket("MODEL", "An SD1.5 model, before or after Apply Motion Module."),
                "domain_adapter": (
                    file_names(LORAS),
                    {"tooltip": "A file of models/loras, such as v3_sd15_adapter.ckpt."},
                ),
                "scale": widgets.number(
                    1.0, 0.0, 1.0, "How much of the adapter is used (the paper's alpha): 1 as in training, 0 none."
                ),
            },
            "optional": {
                "clip": widgets.socket("CLIP", "Passed through, so that this node can stand where a LoRA loader stood.")
            },
        }

    def apply(self, model, domain_adapter, scale, clip=None):
        return (apply_domain_adapter(model, domain_adapter, scale), clip)


NODE_CLASSES = {
    "AnimaticLoadMotionLora": (LoadMotionLora, "Load MotionLoRA"),
    "AnimaticMotionLoraSchedule": (MotionLoraSchedule, "MotionLoRA Schedule"),
    "AnimaticApplyDomainAdapter": (ApplyDomainAdapter, "Apply Domain Adapter"),
}
