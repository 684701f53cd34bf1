"""Nodes that load motion modules, put them on a MODEL, and say how they act."""

from ..motion_modules.adjust import Adjustment, parse_stretch
from ..motion_modules.families import BETA_SCHEDULES
from . import widgets
from .host.core.folders import MOTION_MODULES, file_names
from .host.motion import control
from .host.motion import image as still
from .host.motion.attach import AUTO_SCHEDULE, KEEP_SCHEDULE, apply_motion_module
from .host.motion.loras import describe_fit
from .host.motion.module import describe, load_motion_module
from .host.motion.sampling import MotionSettings
from .sockets import MOTION_CONTROL, MOTION_IMAGE, MOTION_LORA, MOTION_MODULE
from .timeline.blocks import parse_block_numbers
from .timeline.keyframes import CURVES, is_blank, parse_numbers
from .timeline.typed import half_width


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
            },
            "optional": {
                "stretch_positions": widgets.text(
                    "",
                    "Positions spread over more frames, for calmer motion or longer clips: 16 -> 18 takes the first "
                    "16, -> 40 all, 4..20 -> 18 a range. Empty: as trained.",
                ),
                "weight_factor": widgets.number(
                    1.0, 0.0, 2.0, "Multiplies every weight of the motion module.", step=0.001
                ),
                "v2_norms_as_v1": widgets.switch(
                    False, "v2 files: take the UNet's norms over all frames, as some older workflows did."
                ),
            },
        }

    def load(self, motion_module, stretch_positions="", weight_factor=1.0, v2_norms_as_v1=False):
        adjustment = Adjustment(parse_stretch(half_width(stretch_positions)), weight_factor, v2_norms_as_v1)
        loaded = load_motion_module(motion_module, adjustment)
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
                "motion_lora": widgets.socket(
                    MOTION_LORA, "MotionLoRAs from Load MotionLoRA: camera moves that add up."
                ),
                "motion_control": widgets.socket(
                    MOTION_CONTROL, "From Motion Control: motion_scale and effect by frame, place, block and step."
                ),
                "motion_image": widgets.socket(
                    MOTION_IMAGE, "From Motion Image: the still that PIA or AnimateLCM-I2V animates."
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


class MotionControl:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Lets motion_scale and effect change from frame to frame, from place to place, by block of the motion module "
        "and along sampling. Its numbers multiply those of Apply Motion Module. Chain several for keyframes over the "
        "sampling range; where none acts, Apply Motion Module's own numbers hold."
    )
    SEARCH_ALIASES = ["multival", "motion keyframe", "scale multival", "effect multival", "per block", "motion mask"]
    RETURN_TYPES = (MOTION_CONTROL,)
    RETURN_NAMES = ("motion_control",)
    OUTPUT_TOOLTIPS = ("For Apply Motion Module.",)
    FUNCTION = "set"

    @classmethod
    def INPUT_TYPES(cls):
        how = "One number, a list by frame (1, 0.9, 0.8: the last one stays), keyframes (0: 1, 8: 0.5) or a FLOAT list."
        return {
            "required": {
                "motion_scale": widgets.numbers("1", f"Factor on motion_scale. {how}"),
                "effect": widgets.numbers("1", f"Factor on effect. {how}"),
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
                    MOTION_CONTROL, "Motion Controls that act as well; where they meet, they multiply."
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
        added = control.MotionControl(
            parse_numbers(motion_scale, "motion_scale", curve),
            parse_numbers(effect, "effect", curve),
            scale_mask,
            effect_mask,
            parse_block_numbers(block_effects),
            start_percent,
            end_percent,
        )
        return ((*previous, added),)


class MotionImage:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "The still that a motion module with an image input brings to life: PIA or AnimateLCM-I2V. "
        "Connect it to Apply Motion Module."
    )
    SEARCH_ALIASES = ["PIA", "AnimateLCM-I2V", "image to video", "I2V", "animate image"]
    RETURN_TYPES = (MOTION_IMAGE,)
    RETURN_NAMES = ("motion_image",)
    OUTPUT_TOOLTIPS = ("For Apply Motion Module.",)
    FUNCTION = "set"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": widgets.socket(
                    "IMAGE", "The still; it is cropped to the shape of the clip. The first of a batch."
                ),
                "vae": widgets.socket("VAE", "The VAE of the checkpoint."),
                "pia_motion": widgets.choice(
                    still.LIKENESS,
                    "small",
                    "PIA: how far frames may move away from the image; style transfer keeps less of it.",
                ),
                "pia_loop": widgets.switch(False, "PIA: the clip comes back to the image at its end."),
                "image_frame": widgets.integer(
                    0, 0, 100000, "PIA: which frame of the clip the image is, counted from 0."
                ),
                "drift": widgets.number(
                    0.5, 0.0, 10.0, "AnimateLCM-I2V: how much frames may differ from the image; its authors use 0.8."
                ),
            },
            "optional": {
                "likeness": widgets.numbers(
                    "",
                    "PIA: own numbers for pia_motion, by distance from image_frame: 1, 0.9, 0.8 (the last stays).",
                ),
            },
        }

    def set(self, image, vae, pia_motion, pia_loop, image_frame, drift, likeness=""):
        numbers = still.LIKENESS[pia_motion]
        if not is_blank(likeness):
            keys = parse_numbers(likeness, "likeness")
            numbers = tuple(keys.over(range(int(keys.positions[-1]) + 1)))
        return (still.MotionImage(image[:1], vae, numbers, image_frame, pia_loop, drift),)


NODE_CLASSES = {
    "AnimaticLoadMotionModule": (LoadMotionModule, "Load Motion Module"),
    "AnimaticApplyMotionModule": (ApplyMotionModule, "Apply Motion Module"),
    "AnimaticMotionControl": (MotionControl, "Motion Control"),
    "AnimaticMotionImage": (MotionImage, "Motion Image"),
}
