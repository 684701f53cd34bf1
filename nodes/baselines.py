"""Other methods for a clip from the same checkpoint, to hold motion modules against."""

from . import widgets
from .host.clip.text2video_zero import WarpSettings, set_text2video_zero
from .host.core.folders import TUNED_VIDEOS, file_names
from .host.motion.tune_a_video import apply_tune_a_video


class Text2VideoZero:
    CATEGORY = "Animatic/Evaluation"
    DESCRIPTION = (
        "A clip without a motion module, as Text2Video-Zero makes it: all frames look at the first one, and begin as "
        "its latent, moved along a line. One of the baselines of AnimateDiff's paper; for every sampler node."
    )
    SEARCH_ALIASES = ["T2V-Zero", "zero-shot video", "cross-frame attention", "baseline"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The MODEL that makes a clip of a batch of latents.",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        along = "in pixels of a 512 x 512 picture, from frame to frame. The authors' is 12; negative: the other way."
        return {
            "required": {
                "model": widgets.socket("MODEL", "A checkpoint without Apply Motion Module."),
                "motion_x": widgets.number(12.0, -256.0, 256.0, f"How far the picture goes to the left, {along}", 0.5),
                "motion_y": widgets.number(12.0, -256.0, 256.0, f"How far the picture goes up, {along}", 0.5),
                "spread_at": widgets.percent(
                    0.04, "Part of the steps that the first frame takes alone, before the others part from it."
                ),
                "warp_at": widgets.percent(
                    0.1,
                    "Part of the steps after which the first frame's latent is moved to become the others, noised back "
                    "to spread_at. Later: they move more as one, and less freely.",
                ),
            }
        }

    def apply(self, model, **settings):
        return (set_text2video_zero(model, WarpSettings(**settings)),)


class ApplyTuneAVideo:
    CATEGORY = "Animatic/Evaluation"
    DESCRIPTION = (
        "A clip without a motion module, as Tune-A-Video makes it: with the motion of the one clip that the checkpoint "
        "was tuned on. One of the baselines of AnimateDiff's paper; for every sampler node."
    )
    SEARCH_ALIASES = ["one-shot video tuning", "sparse-causal attention", "video editing", "baseline"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The MODEL that makes a clip of a batch of latents.",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": widgets.socket(
                    "MODEL",
                    "The checkpoint that was tuned. LoRAs that it had then go before this node, others after it.",
                ),
                "tuned_video": (
                    file_names(TUNED_VIDEOS),
                    {"tooltip": "A file of models/tune_a_video, from Train Tune-A-Video or the authors' code."},
                ),
            }
        }

    def apply(self, model, tuned_video):
        return (apply_tune_a_video(model, tuned_video),)


NODE_CLASSES = {
    "AnimaticText2VideoZero": (Text2VideoZero, "Text2Video-Zero"),
    "AnimaticApplyTuneAVideo": (ApplyTuneAVideo, "Apply Tune-A-Video"),
}
