"""Nodes for animations longer than a motion module knows."""

from ..motion_modules.windows import FUSE_METHODS, SCHEDULES
from .host.windows import ContextOptions, set_context_options


class SetContextOptions:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Makes clips longer than the motion module knows: frames are denoised in overlapping windows, and what "
        "belongs to a frame (noise, prompts, masks, ControlNet hints) goes with it. Memory is that of one window."
    )
    SEARCH_ALIASES = ["context windows", "sliding window", "long animation", "FreeNoise", "loop"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The MODEL with context windows, for any sampler.",)
    FUNCTION = "set"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL", {"tooltip": "A MODEL before or after Apply Motion Module."}),
                "context_length": (
                    "INT",
                    {
                        "default": 16,
                        "min": 2,
                        "max": 128,
                        "tooltip": "Frames of a window: 16; HotShotXL 8.",
                    },
                ),
                "context_overlap": (
                    "INT",
                    {
                        "default": 4,
                        "min": 0,
                        "max": 127,
                        "tooltip": "Frames that a window shares with the one before it.",
                    },
                ),
                "context_stride": (
                    "INT",
                    {
                        "default": 1,
                        "min": 1,
                        "max": 6,
                        "tooltip": "Uniform schedules: 2 adds windows over every 2nd frame, 3 over every 4th too.",
                    },
                ),
                "context_schedule": (
                    list(SCHEDULES),
                    {
                        "default": "static standard",
                        "tooltip": "static: the same windows at every step. uniform: they move, so no seam stays. "
                        "looped: the end runs into the beginning. batched: no overlap.",
                    },
                ),
                "fuse_method": (
                    list(FUSE_METHODS),
                    {"default": "overlap-linear", "tooltip": "How much each window counts where windows overlap."},
                ),
                "free_noise": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "FreeNoise: all windows share the first one's noise, for a steadier scene.",
                    },
                ),
            }
        }

    def set(self, model, context_length, context_overlap, context_stride, context_schedule, fuse_method, free_noise):
        options = ContextOptions(
            context_length, context_overlap, context_stride, context_schedule, fuse_method, free_noise
        )
        return (set_context_options(model, options),)


NODE_CLASSES = {"AnimaticContextOptions": (SetContextOptions, "Context Options")}
