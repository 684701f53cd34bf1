"""Nodes for animations longer than a motion module knows."""

from . import widgets
from .host.clip import context_windows, reference
from .host.core.call import holding
from .host.frames.save import preview_image
from .media.window_chart import window_chart
from .timeline.typed import half_width
from .timeline.windows import FUSE_METHODS, SCHEDULES, VIEWS_ONLY


class ContextOptions:
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
                "model": widgets.socket("MODEL", "A MODEL before or after Apply Motion Module."),
                "context_length": widgets.integer(16, 2, 128, "Frames of a window: 16; HotShotXL 8."),
                "context_overlap": widgets.integer(4, 0, 127, "Frames that a window shares with the one before it."),
                "context_stride": widgets.integer(
                    1, 1, 6, "Uniform schedules: 2 adds windows over every 2nd frame, 3 over every 4th too."
                ),
                "context_schedule": widgets.choice(
                    [*SCHEDULES, VIEWS_ONLY],
                    "static standard",
                    "static: the same windows at every step. uniform: they move, so no seam stays. "
                    "looped: the end runs into the beginning. batched: no overlap. views only: the motion module "
                    "alone sees the clip in parts.",
                ),
                "fuse_method": widgets.choice(
                    FUSE_METHODS, "overlap-linear", "How much each window counts where windows overlap."
                ),
                "free_noise": widgets.switch(
                    False, "FreeNoise: all windows share the first one's noise, for a steadier scene."
                ),
            },
            "optional": {
                "loop_one_window": widgets.switch(
                    False, "Looped schedules: also a clip of exactly context_length frames becomes a loop."
                ),
                "start_percent": widgets.percent(
                    0.0, "Where in the sampling range these windows begin; another Context Options before it holds."
                ),
                "view_length": widgets.integer(
                    0, 0, 128, "Frames of a window that the motion module sees together; 0: the whole window."
                ),
                "view_overlap": widgets.integer(4, 0, 127, "Frames that a view shares with the one before it."),
            },
        }

    def set(self, model, **options):
        options["use_free_noise"] = options.pop("free_noise")
        return (context_windows.set_context_options(model, context_windows.ContextOptions(**options)),)


class WindowReference:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Keeps a face, clothes and light the same from window to window: while it denoises, each context window also "
        "looks at an earlier one. Takes more time and memory where it acts. For a MODEL with Context Options."
    )
    SEARCH_ALIASES = ["ContextRef", "NaiveReuse", "consistency", "reference only", "context extras"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The MODEL whose windows look at each other, for any sampler.",)
    FUNCTION = "set"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": widgets.socket("MODEL", "A MODEL before or after Context Options."),
                "mode": widgets.choice(
                    reference.MODES,
                    reference.FIRST,
                    "Where a window looks: at the first, at the one before (sliding), or at the last one that had a "
                    "frame of indexes.",
                ),
                "strength": widgets.number(1.0, 0.0, 1.0, "How strongly it looks; 0 switches it off."),
                "fidelity": widgets.number(1.0, 0.0, 1.0, "How far the negative prompt is left out of it."),
                "start_percent": widgets.percent(0.0, "Where in the sampling range this begins to act."),
                "end_percent": widgets.percent(0.25, "Where in the sampling range this stops acting."),
                "sliding_width": widgets.integer(
                    2, 2, 64, "sliding: how many windows, one of them looked at, share it; 2 is the one before."
                ),
                "indexes": widgets.text("0", "indexes: frames, counted from 0; the first window always counts."),
            },
            "optional": {
                "reuse": widgets.number(
                    0.0,
                    0.0,
                    1.0,
                    "Also lays the first window's result over all others, early in sampling; 0.95 is usual.",
                ),
                "reuse_end_percent": widgets.percent(0.15, "Where in the sampling range reuse stops."),
            },
        }

    def set(self, model, sliding_width, indexes, **options):
        frames = [frame.strip() for frame in half_width(indexes).replace(";", ",").split(",") if frame.strip()]
        if not all(frame.isdecimal() for frame in frames):
            raise ValueError(f"indexes: '{indexes:.80}' are no frame numbers. Write for example 0, 40, 80.")
        settings = reference.WindowReference(width=sliding_width, indexes=tuple(map(int, frames)), **options)
        return (reference.set_window_reference(model, settings),)


class PreviewContext:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Draws which frames each context window covers at each step: a bar for a window, a row of bars for a step, "
        "frames from left to right. Darker parts count less where windows overlap."
    )
    SEARCH_ALIASES = ["visualize context", "view windows", "context options preview"]
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The drawing.",)
    FUNCTION = "preview"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": widgets.socket("MODEL", "A MODEL after Context Options."),
                "num_frames": widgets.integer(48, 1, 1024, "Frames of the clip: the batch size of the latent."),
                "steps": widgets.integer(4, 1, 32, "How many of the sampler's steps are drawn."),
            }
        }

    def preview(self, model, num_frames, steps):
        schedule = context_windows.context_schedule_of(model)
        drawn = [holding(schedule, lambda start, step=step: start <= step / steps) for step in range(steps)]
        rows = [options.windows(num_frames, step) for step, options in enumerate(drawn)]
        shares = [options.shares(windows, num_frames) for options, windows in zip(drawn, rows, strict=True)]
        chart = window_chart(rows, shares, num_frames)
        text = f"{num_frames} frames, windows in the first step: {len(rows[0])}"
        return {"ui": {"text": (text,), **preview_image(chart)}, "result": (chart[None],)}


NODE_CLASSES = {
    "AnimaticContextOptions": (ContextOptions, "Context Options"),
    "AnimaticWindowReference": (WindowReference, "Window Reference"),
    "AnimaticPreviewContext": (PreviewContext, "Preview Context"),
}
