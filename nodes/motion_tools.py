"""Nodes that combine, extract, merge and save motion modules and MotionLoRAs."""

from .host.motion_models import describe
from .host.motion_tools import (
    DTYPES,
    combine_motion_loras,
    extract_motion_lora,
    merge_motion_modules,
    save_motion_lora,
    save_motion_module,
)
from .motion_lora import STACK

MODULE = "ANIMATIC_MOTION_MODULE"
RANK = {"default": 64, "min": 1, "max": 1280}
DTYPE = (
    list(DTYPES),
    {"default": "float16", "tooltip": "Number format of the file; float16 is half the size of float32."},
)
OVERWRITE = (
    "BOOLEAN",
    {"default": False, "tooltip": "Replace a file of this name. Off: an existing file is an error."},
)


class CombineMotionLoras:
    CATEGORY = "Animatic/MotionLoRA"
    DESCRIPTION = "Makes one MotionLoRA of a stack, at the strengths that are set: exactly, or at a smaller rank."
    SEARCH_ALIASES = ["merge motion lora", "svd", "resize lora"]
    RETURN_TYPES = (STACK,)
    RETURN_NAMES = ("motion_lora",)
    OUTPUT_TOOLTIPS = ("One MotionLoRA of strength 1.",)
    FUNCTION = "combine"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "motion_lora": (STACK, {"tooltip": "The stack to combine."}),
                "rank": (
                    "INT",
                    {
                        **RANK,
                        "default": 0,
                        "min": 0,
                        "tooltip": "0 is exact: the ranks add up. A smaller rank loses a part, which the node shows.",
                    },
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
    RETURN_TYPES = (STACK,)
    RETURN_NAMES = ("motion_lora",)
    OUTPUT_TOOLTIPS = ("The MotionLoRA, at strength 1.",)
    FUNCTION = "extract"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "tuned": (MODULE, {"tooltip": "The motion module whose motion the MotionLoRA shall hold."}),
                "base": (MODULE, {"tooltip": "The motion module that the MotionLoRA will be used with."}),
                "rank": ("INT", {**RANK, "tooltip": "Larger is truer and a larger file. The node shows the error."}),
            }
        }

    def extract(self, tuned, base, rank):
        extracted, report = extract_motion_lora(tuned, base, rank)
        return {"ui": {"text": (report,)}, "result": ((extracted,),)}


class MergeMotionModules:
    CATEGORY = "Animatic/MotionLoRA"
    DESCRIPTION = "Mixes two motion modules of the same kind: a weighted average, with other weights for single blocks."
    SEARCH_ALIASES = ["merge motion models", "average", "block merge"]
    RETURN_TYPES = (MODULE,)
    RETURN_NAMES = ("motion_module",)
    OUTPUT_TOOLTIPS = ("The mixed motion module.",)
    FUNCTION = "merge"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "first": (MODULE, {"tooltip": "Its positions and noise schedule are kept."}),
                "second": (MODULE, {"tooltip": "A motion module with the same blocks."}),
                "share": (
                    "FLOAT",
                    {
                        "default": 0.5,
                        "min": 0.0,
                        "max": 1.0,
                        "step": 0.01,
                        "tooltip": "Share of the second: 0 is the first alone.",
                    },
                ),
                "block_shares": (
                    "STRING",
                    {
                        "default": "",
                        "multiline": True,
                        "tooltip": "Other shares for single blocks, one a line: down_blocks.0 = 0.3, mid_block = 1, "
                        "up_blocks.3.motion_modules.2 = 0.",
                    },
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
                "motion_lora": (STACK, {"tooltip": "What to save, at the strengths that are set."}),
                "filename": (
                    "STRING",
                    {"default": "my_motion_lora", "tooltip": "Name in models/animatediff_motion_lora."},
                ),
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
                "motion_module": (MODULE, {"tooltip": "What to save."}),
                "filename": (
                    "STRING",
                    {"default": "my_motion_module", "tooltip": "Name in models/animatediff_models."},
                ),
                "dtype": DTYPE,
                "overwrite": OVERWRITE,
            },
            "optional": {"motion_lora": (STACK, {"tooltip": "MotionLoRAs to bake in, at the strengths that are set."})},
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
