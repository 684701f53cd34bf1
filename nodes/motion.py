"""Nodes that load motion modules and put them on a MODEL."""

from ..lora.merge import parse_block_shares
from ..motion_modules.config import BETA_SCHEDULES
from ..motion_modules.keyframes import CURVES, parse_numbers
from . import widgets
from .host.attach import AUTO_SCHEDULE, KEEP_SCHEDULE, MotionSettings, apply_motion_module
from .host.folders import MOTION_MODULES, file_names
from .host.motion_control import MotionControl
from .host.motion_loras import describe_fit
from .host.motion_models import describe, load_motion_module
from .motion_lora import STACK

MOTION_MODULE = "ANIMATIC_MOTION_MODULE"
CONTROL = "ANIMATIC_MOTION_CONTROL"
IMAGE = "ANIMATIC_MOTION_IMAGE"


class LoadMotionModule:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Loads an AnimateDiff motion module: v1, v2, v3, SDXL beta, HotShotXL, AnimateLCM, Lightning, LongAnimateDiff, "
        "PIA, training results and diffusers motion adapters. The node shows what the file is."
    )
    SEARCH_ALIASES = ["AnimateDiff", "motion model", "motion adapter", "HotShotXL", "AnimateLCM"]
    RETURN_TYPES = (MOTION_MODULE,)
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
        return {
            "required": {
                "model": widgets.socket("MODEL", "Any SD1.5 or SDXL model, with or without LoRAs."),
                "motion_module": widgets.socket(MOTION_MODULE, "From Load Motion Module."),
                "motion_scale": widgets.number(
                    1.0,
                    0.0,
                    10.0,
                    "Multiplies the attention keys between frames. Above 1 each frame attends to fewer others and "
                    "moves more, below 1 it moves less; 1 is as trained.",
                ),
                "effect": widgets.number(
                    1.0, 0.0, 10.0, "How much motion is added. 0 is the plain model (beta_schedule auto), 1 as trained."
                ),
                "start_percent": widgets.percent(0.0, "Where in the sampling range the motion module begins to act."),
                "end_percent": widgets.percent(1.0, "Where in the sampling range the motion module stops acting."),
                "beta_schedule": widgets.choice(
                    [AUTO_SCHEDULE, *BETA_SCHEDULES, KEEP_SCHEDULE],
                    AUTO_SCHEDULE,
                    "The noise schedule. auto: the one of the motion module's training, as Load Motion Module shows. "
                    "use existing: leave the model's own, for example from a ModelSampling node. "
                    "A wrong one gives grey or burnt frames.",
                ),
            },
            "optional": {
                "motion_lora": widgets.socket(STACK, "MotionLoRAs from Load MotionLoRA: camera moves that add up."),
                "motion_control": widgets.socket(
                    CONTROL, "From Motion Control: motion_scale and effect by frame, place, block and step."
                ),
                "motion_image": widgets.socket(
                    IMAGE, "From Motion Image: the still that PIA or AnimateLCM-I2V animates."
                ),
            },
        }

    def apply(
        self,
        model,
        motion_module,
        motion_scale,
        effect,
        start_percent,
        end_percent,
        beta_schedule,
        motion_lora=(),
        motion_control=(),
        motion_image=None,
    ):
        settings = MotionSettings(
            motion_module.name, motion_scale, effect, start_percent, end_percent, motion_control, motion_image
        )
        animated = apply_motion_module(model, motion_module, settings, beta_schedule, motion_lora)
        return {"ui": {"text": (describe_fit(motion_module, motion_lora),)}, "result": (animated,)}


class SetMotionControl:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Lets motion_scale and effect change from frame to frame, from place to place, by block of the motion module "
        "and along sampling. Its numbers multiply those of Apply Motion Module. Chain several for keyframes over the "
        "sampling range; where none acts, Apply Motion Module's own numbers hold."
    )
    SEARCH_ALIASES = ["multival", "motion keyframe", "scale multival", "effect multival", "per block", "motion mask"]
    RETURN_TYPES = (CONTROL,)
    RETURN_NAMES = ("motion_control",)
    OUTPUT_TOOLTIPS = ("For Apply Motion Module.",)
    FUNCTION = "set"

    @classmethod
    def INPUT_TYPES(cls):
        how = "One number, a list by frame (1, 0.9, 0.8: the last one stays) or keyframes (0: 1, 8: 0.5)."
        return {
            "required": {
                "motion_scale": widgets.text("1", f"Factor on motion_scale. {how}"),
                "effect": widgets.text("1", f"Factor on effect. {how}"),
                "curve": widgets.choice(CURVES, "linear", "How numbers run from one keyframe to the next."),
                "start_percent": widgets.percent(0.0, "Where in the sampling range this begins to act."),
                "end_percent": widgets.percent(1.0, "Where in the sampling range this stops acting."),
                "block_effects": widgets.text(
                    "",
                    "Factors on effect for parts of the motion module, one a line: down_blocks.0 = 0.5, mid_block = 0, "
                    "up_blocks.3.motion_modules.2 = 0.8. Blocks that are not named keep 1.",
                    multiline=True,
                ),
            },
            "optional": {
                "scale_mask": widgets.socket(
                    "MASK", "Multiplies motion_scale place by place; one mask, or one for each frame (the last stays)."
                ),
                "effect_mask": widgets.socket(
                    "MASK", "The same for effect: motion where it is white, a still where black."
                ),
                "previous": widgets.socket(
                    CONTROL, "Motion Controls that act as well; where they meet, they multiply."
                ),
            },
        }

    def set(
        self,
        motion_scale,
        effect,
        curve,
        start_percent,
        end_percent,
        block_effects,
        scale_mask=None,
        effect_mask=None,
        previous=(),
    ):
        control = MotionControl(
            parse_numbers(motion_scale, "motion_scale", curve),
            parse_numbers(effect, "effect", curve),
            scale_mask,
            effect_mask,
            parse_block_shares(block_effects),
            start_percent,
            end_percent,
        )
        return ((*previous, control),)


NODE_CLASSES = {
    "AnimaticLoadMotionModule": (LoadMotionModule, "Load Motion Module"),
    "AnimaticApplyMotionModule": (ApplyMotionModule, "Apply Motion Module"),
    "AnimaticMotionControl": (SetMotionControl, "Motion Control"),
}
