"""Nodes that load motion modules and put them on a MODEL."""

from ..motion_modules.config import BETA_SCHEDULES
from .host.attach import AUTO_SCHEDULE, KEEP_SCHEDULE, MotionSettings, apply_motion_module
from .host.folders import MOTION_MODULES, file_names
from .host.motion_loras import describe_fit
from .host.motion_models import describe, load_motion_module


class LoadMotionModule:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Loads an AnimateDiff motion module: v1, v2, v3, SDXL beta, HotShotXL, AnimateLCM, Lightning, LongAnimateDiff, "
        "PIA's motion part, training results and diffusers motion adapters. The node shows what the file is."
    )
    SEARCH_ALIASES = ["AnimateDiff", "motion model", "motion adapter", "HotShotXL", "AnimateLCM"]
    RETURN_TYPES = ("ANIMATIC_MOTION_MODULE",)
    RETURN_NAMES = ("motion_module",)
    OUTPUT_TOOLTIPS = ("The motion module, for Apply Motion Module.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "motion_module": (
                    file_names(MOTION_MODULES),
                    {"tooltip": "A file of models/animatediff_models. It must suit the checkpoint: SD1.5 or SDXL."},
                ),
            }
        }

    def load(self, motion_module):
        loaded = load_motion_module(motion_module)
        return {"ui": {"text": (describe(loaded),)}, "result": (loaded,)}


class ApplyMotionModule:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Turns an image MODEL into one that animates: every image of a latent batch becomes a frame. Chain several to "
        "let motion modules act at once, or one after another with start_percent and end_percent."
    )
    SEARCH_ALIASES = ["AnimateDiff", "animate", "motion", "apply motion model"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The MODEL with motion, for any sampler. The MODEL that came in stays as it was.",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        percent = {"min": 0.0, "max": 1.0, "step": 0.001}
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "Any SD1.5 or SDXL model, with or without LoRAs."}),
                "motion_module": ("ANIMATIC_MOTION_MODULE", {"tooltip": "From Load Motion Module."}),
                "motion_scale": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.0,
                        "max": 10.0,
                        "step": 0.01,
                        "tooltip": "Multiplies the attention keys between frames. Above 1 each frame attends to fewer "
                        "others and moves more, below 1 it moves less; 1 is as trained.",
                    },
                ),
                "effect": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.0,
                        "max": 10.0,
                        "step": 0.01,
                        "tooltip": "How much motion is added. 0 is the plain model (beta_schedule auto), 1 as trained.",
                    },
                ),
                "start_percent": (
                    "FLOAT",
                    {
                        "default": 0.0,
                        **percent,
                        "tooltip": "Where in the sampling range the motion module begins to act.",
                    },
                ),
                "end_percent": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        **percent,
                        "tooltip": "Where in the sampling range the motion module stops acting.",
                    },
                ),
                "beta_schedule": (
                    [AUTO_SCHEDULE, *BETA_SCHEDULES, KEEP_SCHEDULE],
                    {
                        "default": AUTO_SCHEDULE,
                        "tooltip": "The noise schedule. auto: the one of the motion module's training, as Load Motion "
                        "Module shows it. use existing: leave the model's own, for example from a ModelSampling node. "
                        "A wrong one gives grey or burnt frames.",
                    },
                ),
            },
            "optional": {
                "motion_lora": (
                    "ANIMATIC_MOTION_LORA",
                    {"tooltip": "MotionLoRAs from Load MotionLoRA: camera moves that add up."},
                ),
            },
        }

    def apply(
        self, model, motion_module, motion_scale, effect, start_percent, end_percent, beta_schedule, motion_lora=()
    ):
        settings = MotionSettings(motion_module.name, motion_scale, effect, start_percent, end_percent)
        animated = apply_motion_module(model, motion_module, settings, beta_schedule, motion_lora)
        return {"ui": {"text": (describe_fit(motion_module, motion_lora),)}, "result": (animated,)}


NODE_CLASSES = {
    "AnimaticLoadMotionModule": (LoadMotionModule, "Load Motion Module"),
    "AnimaticApplyMotionModule": (ApplyMotionModule, "Apply Motion Module"),
}
