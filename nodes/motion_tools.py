"""Nodes that combine, extract, merge and save motion modules and MotionLoRAs."""

from . import widgets
from .host.motion.module import describe
from .host.motion.save import DTYPES, save_motion_lora, save_motion_module
from .host.motion.tools import combine_motion_loras, extract_motion_lora, merge_motion_modules
from .sockets import MOTION_LORA, MOTION_MODULE

DTYPE = widgets.choice(DTYPES, "float16", "Number format of the file; float16 is half the size of float32.")
OVERWRITE = widgets.switch(False, "Replace a file of this name. Off: an existing file is an error.")


class CombineMotionLoras:
    CATEGORY = "Animatic/MotionLoRA"
    DESCRIPTION = "Makes one MotionLoRA of a stack, at the strengths that are set: exactly, or at a smaller rank."
    SEARCH_ALIASES = ["merge motion lora", "svd", "resize lora"]
    RETURN_TYPES = (MOTION_LORA,)
    RETURN_NAMES = ("motion_lora",)
    OUTPUT_TOOLTIPS = ("One MotionLoRA of strength 1.",)
    FUNCTION = "combine"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "motion_lora": widgets.socket(MOTION_LORA, "The stack to combine."),
                "rank": widgets.integer(
                    0, 0, 1280, "0 is exact: the ranks add up. A smaller rank loses a part, which the node shows."
                ),
            }
        }

    def combine(self, motion_lora, rank):
        combined, report = combine_motion_loras(motion_lora, rank)
        return {"ui": {"text": (report,)}, "result": ((combined,),)}


class ExtractMotionLora:
    CATEGORY = "Animatic/MotionLoRA"
    DESCRIPTION = "Makes a MotionLoRA of the difference between a tuned motion module and the one it was tuned from."
    SEARCH_ALIASES = ["extract lora", "svd", "difference"]
    RETURN_TYPES = (MOTION_LORA,)
    RETURN_NAMES = ("motion_lora",)
    OUTPUT_TOOLTIPS = ("The MotionLoRA, at strength 1.",)
    FUNCTION = "extract"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "tuned": widgets.socket(MOTION_MODULE, "The motion module whose motion the MotionLoRA shall hold."),
                "base": widgets.socket(MOTION_MODULE, "The motion module that the MotionLoRA will be used with."),
                "rank": widgets.integer(64, 1, 1280, "Larger is truer and a larger file. The node shows the error."),
            }
        }

    def extract(self, tuned, base, rank):
        extracted, report = extract_motion_lora(tuned, base, rank)
        return {"ui": {"text": (report,)}, "result": ((extracted,),)}


class MergeMotionModules:
    CATEGORY = "Animatic/MotionLoRA"
    DESCRIPTION = "Mixes two motion modules of the same kind: a weighted average, with other weights for single blocks."
    SEARCH_ALIASES = ["merge motion models", "average", "block merge"]
    RETURN_TYPES = (MOTION_MODULE,)
    RETURN_NAMES = ("motion_module",)
    OUTPUT_TOOLTIPS = ("The mixed motion module.",)
    FUNCTION = "merge"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "first": widgets.socket(MOTION_MODULE, "Its positions and noise schedule are kept."),
                "second": widgets.socket(MOTION_MODULE, "A motion module with the same blocks."),
                "share": widgets.number(0.5, 0.0, 1.0, "Share of the second: 0 is the first alone."),
                "block_shares": widgets.text(
                    "",
                    "Other shares for single blocks, one a line: down_blocks.0 = 0.3, mid_block = 1, "
                    "up_blocks.3.motion_modules.2 = 0.",
                    multiline=True,
                ),
            }
        }

    def merge(self, first, second, share, block_shares):
        merged = merge_motion_modules(first, second, share, block_shares)
        return {"ui": {"text": (describe(merged),)}, "result": (merged,)}


class SaveMotionLora:
    CATEGORY = "Animatic/MotionLoRA"
    DESCRIPTION = "Saves a stack of MotionLoRAs as one safetensors file, in the layout of AnimateDiff's own files."
    SEARCH_ALIASES = ["export motion lora"]
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("file",)
    OUTPUT_TOOLTIPS = ("Full path of the file.",)
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "motion_lora": widgets.socket(MOTION_LORA, "What to save, at the strengths that are set."),
                "filename": widgets.text("my_motion_lora", "Name in models/animatediff_motion_lora."),
                "dtype": DTYPE,
                "overwrite": OVERWRITE,
            }
        }

    def save(self, motion_lora, filename, dtype, overwrite):
        path, report = save_motion_lora(motion_lora, filename, dtype, overwrite)
        return {"ui": {"text": (f"{path.name}: {report}",)}, "result": (str(path),)}


class SaveMotionModule:
    CATEGORY = "Animatic/MotionLoRA"
    DESCRIPTION = "Saves a motion module in AnimateDiff's own layout, with MotionLoRAs baked in if you connect any."
    SEARCH_ALIASES = ["export motion model", "bake motion lora"]
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("file",)
    OUTPUT_TOOLTIPS = ("Full path of the file.",)
    FUNCTION = "save"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "motion_module": widgets.socket(MOTION_MODULE, "What to save."),
                "filename": widgets.text("my_motion_module", "Name in models/animatediff_models."),
                "dtype": DTYPE,
                "overwrite": OVERWRITE,
            },
            "optional": {
                "motion_lora": widgets.socket(MOTION_LORA, "MotionLoRAs to bake in, at the strengths that are set.")
            },
        }

    def save(self, motion_module, filename, dtype, overwrite, motion_lora=()):
        path = save_motion_module(motion_module, motion_lora, filename, dtype, overwrite)
        return {"ui": {"text": (path.name,)}, "result": (str(path),)}


NODE_CLASSES = {
    "AnimaticCombineMotionLoras": (CombineMotionLoras, "Combine MotionLoRAs"),
    "AnimaticExtractMotionLora": (ExtractMotionLora, "Extract MotionLoRA"),
    "AnimaticMergeMotionModules": (MergeMotionModules, "Merge Motion Modules"),
    "AnimaticSaveMotionLora": (SaveMotionLora, "Save MotionLoRA"),
    "AnimaticSaveMotionModule": (SaveMotionModule, "Save Motion Module"),
}
