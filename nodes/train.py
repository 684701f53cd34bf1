"""Nodes that train what this pack runs."""

from functools import partial

from ..training.denoiser import LowRankSize
from ..training.stages import DOMAIN_ADAPTER, MOTION_LORA, MOTION_MODULE, STAGES, TUNE_A_VIDEO
from ..training.trainer import PRECISIONS
from . import sockets, widgets
from .host.frames.save import preview_image
from .host.motion.domain_adapter import apply_domain_adapter
from .host.motion.loras import load_motion_lora
from .host.motion.module import load_motion_module
from .host.motion.tune_a_video import apply_tune_a_video
from .host.training.models import models_of
from .host.training.train import TrainingOptions, train_as_told
from .media.curve_chart import Panel, curve_chart

AUTO_PRECISION = "auto"
RESUMES = (
    "Cancel stops within a step and keeps what was learnt; queue again to go on. What is trained goes into the model "
    "folder and straight on through the output."
)


def inputs(steps: int, learning_rate: float, filename: str, folder: str) -> dict:
    """What the nodes of AnimateDiff's three stages ask for."""
    return {
        "model": widgets.socket("MODEL", "An SD1.5 model without motion. Its LoRAs count as part of it."),
        "clip": widgets.socket("CLIP", "Its text encoder, for the captions."),
        "vae": widgets.TRAINED_VAE,
        "clips": widgets.socket(sockets.TRAINING_CLIPS, "From Video Dataset or Camera Motion Clips."),
        **widgets.run_inputs(steps, learning_rate, filename, f"models/{folder}"),
    }


def run_job(stage: str, model, clip, vae, clips, filename, steps, learning_rate, options, motion, **more):
    """What the node shows, and what was trained."""
    opened = partial(models_of, model, clip, vae, motion)
    return train_as_told(STAGES[stage], opened, vae, clips, filename, steps, learning_rate, options, **more)


class TrainMotionLora:
    CATEGORY = "Animatic/Training"
    DESCRIPTION = f"Trains a MotionLoRA: a camera move or another motion, from a few clips. {RESUMES}"
    SEARCH_ALIASES = ["train motion lora", "training", "MotionDirector", "camera motion", "fine-tune"]
    RETURN_TYPES = (sockets.MOTION_LORA, sockets.TRAINING_CURVE, "STRING")
    RETURN_NAMES = ("motion_lora", "curve", "file")
    OUTPUT_TOOLTIPS = (
        "The MotionLoRA at strength 1, for Apply Motion Module.",
        widgets.CURVE_TOOLTIP,
        "Full path of the file.",
    )
    FUNCTION = "train"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        module = widgets.socket(sockets.MOTION_MODULE, "The motion module that it is for; it stays as it is.")
        rank = widgets.integer(16, 1, 320, "How much it can hold, and the file's size: 8 to 32. The released have 64.")
        common = inputs(1000, 1e-4, "my_camera_move", STAGES[MOTION_LORA].model_folder)
        return {"required": {**common, "motion_module": module, "rank": rank}, "optional": {"options": widgets.OPTIONS}}

    def train(self, motion_module, rank, options=None, **common):
        shown, trained = run_job(
            MOTION_LORA, motion=motion_module, options=options, low_rank=LowRankSize(rank), **common
        )
        lora = load_motion_lora(trained.name, 1.0)
        return {"ui": shown, "result": ((lora,), trained.curve, str(trained.path))}


class TrainDomainAdapter:
    CATEGORY = "Animatic/Training"
    DESCRIPTION = (
        "Trains a domain adapter: the look of your videos (compression, watermarks, lighting), learnt from single "
        f"frames, so that a motion module trained next need not learn it. {RESUMES}"
    )
    SEARCH_ALIASES = ["train adapter", "training", "LoRA", "look"]
    RETURN_TYPES = ("MODEL", sockets.TRAINING_CURVE, "STRING")
    RETURN_NAMES = ("model", "curve", "file")
    OUTPUT_TOOLTIPS = (
        "The MODEL with the adapter, for Train Motion Module.",
        widgets.CURVE_TOOLTIP,
        "Full path of the file.",
    )
    FUNCTION = "train"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        rank = widgets.integer(32, 1, 320, "How much it can hold, and the file's size. The released one has 128.")
        common = inputs(2000, 1e-4, "my_adapter", STAGES[DOMAIN_ADAPTER].model_folder)
        return {"required": {**common, "rank": rank}, "optional": {"options": widgets.OPTIONS}}

    def train(self, model, clips, rank, options=None, **common):
        shown, trained = run_job(
            DOMAIN_ADAPTER,
            model=model,
            clips=clips.single_frames(),
            motion=None,
            options=options,
            low_rank=LowRankSize(rank),
            **common,
        )
        adapted = apply_domain_adapter(model, trained.name, 1.0)
        return {"ui": shown, "result": (adapted, trained.curve, str(trained.path))}


class TrainMotionModule:
    CATEGORY = "Animatic/Training"
    DESCRIPTION = (
        "Trains a motion module from nothing, or an existing one further. From nothing takes thousands of videos and "
        f"days of a large card; further, on a theme of yours, takes hours. {RESUMES}"
    )
    SEARCH_ALIASES = ["train motion model", "training", "AnimateDiff", "fine-tune"]
    RETURN_TYPES = (sockets.MOTION_MODULE, sockets.TRAINING_CURVE, "STRING")
    RETURN_NAMES = ("motion_module", "curve", "file")
    OUTPUT_TOOLTIPS = ("The motion module, for Apply Motion Module.", widgets.CURVE_TOOLTIP, "Full path of the file.")
    FUNCTION = "train"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        further = widgets.socket(sockets.MOTION_MODULE, "To train further. Without it a new one begins.")
        frames = widgets.integer(32, 2, 256, "Of a new motion module: the longest clip that it will know.")
        mid = widgets.switch(False, "Of a new motion module: one in the middle block too, as AnimateDiff v2 has.")
        common = inputs(5000, 1e-4, "my_motion_module", STAGES[MOTION_MODULE].model_folder)
        return {
            "required": {**common, "max_frames": frames, "mid_block": mid},
            "optional": {"motion_module": further, "options": widgets.OPTIONS},
        }

    def train(self, motion_module=None, options=None, **common):
        shown, trained = run_job(MOTION_MODULE, motion=motion_module, options=options, **common)
        return {"ui": shown, "result": (load_motion_module(trained.name), trained.curve, str(trained.path))}


class TrainTuneAVideo:
    CATEGORY = "Animatic/Training"
    DESCRIPTION = (
        "Teaches a checkpoint one clip by heart, as Tune-A-Video does; other prompts then have its motion. One of the "
        f"baselines of AnimateDiff's paper. {RESUMES}"
    )
    SEARCH_ALIASES = ["one-shot tuning", "video editing", "baseline", "training", "sparse-causal attention"]
    RETURN_TYPES = ("MODEL", sockets.TRAINING_CURVE, "STRING")
    RETURN_NAMES = ("model", "curve", "file")
    OUTPUT_TOOLTIPS = ("The MODEL with what was learnt, for samplers.", widgets.CURVE_TOOLTIP, "Full path of the file.")
    FUNCTION = "train"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        common = inputs(500, 3e-5, "my_clip", STAGES[TUNE_A_VIDEO].model_folder)
        clips = widgets.socket(sockets.TRAINING_CLIPS, "From Video Dataset: one video, one clip. More are learnt too.")
        return {"required": {**common, "clips": clips}, "optional": {"options": widgets.OPTIONS}}

    def train(self, model, options=None, **common):
        options = options or TrainingOptions(text_dropout=0.0)  # as the authors train
        shown, trained = run_job(TUNE_A_VIDEO, model=model, motion=None, options=options, **common)
        return {"ui": shown, "result": (apply_tune_a_video(model, trained.name), trained.curve, str(trained.path))}


class SetTrainingOptions:
    CATEGORY = "Animatic/Training"
    DESCRIPTION = "Settings for the training nodes that rarely need a change."
    SEARCH_ALIASES = ["training settings", "batch size", "precision", "checkpointing", "low memory"]
    RETURN_TYPES = (sockets.TRAINING_OPTIONS,)
    RETURN_NAMES = ("options",)
    OUTPUT_TOOLTIPS = ("For a training node.",)
    FUNCTION = "set"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "batch_size": widgets.integer(
                    1, 1, 4096, "Clips in each step. More learns more evenly, in more memory."
                ),
                "text_dropout": widgets.number(
                    0.1, 0.0, 1.0, "Share of captions that are left out while training, which cfg needs when sampling."
                ),
                "precision": widgets.choice(
                    [AUTO_PRECISION, *PRECISIONS],
                    AUTO_PRECISION,
                    "Of the computation; what is trained is always kept in fp32. auto: bf16, fp16 on cards before "
                    "RTX 30, fp32 without a card.",
                ),
                "recompute": widgets.switch(
                    True, "Gradient checkpointing: far less memory for half as much time again."
                ),
                "eight_bit_adam": widgets.switch(False, "A smaller optimizer, for motion modules; needs bitsandbytes."),
                "save_every": widgets.integer(100, 1, 10**6, "Steps between states that a crash leaves to go on from."),
                "validate_every": widgets.integer(
                    50, 0, 10**6, "Steps between fixed-noise losses, which show progress best. 0: none."
                ),
                "preview_every": widgets.integer(100, 0, 10**6, "Steps between preview clips. 0: none."),
                "half": widgets.switch(True, "Write the file in float16, half the size. Off: float32."),
                # not "seed": frontends draw a new one of those after every run, and no run could go on
                "training_seed": widgets.integer(
                    0, 0, 2**32 - 1, "Draws the start and the noise; the same seed, the same result."
                ),
            }
        }

    def set(self, precision, training_seed, **options):
        precision = "" if precision == AUTO_PRECISION else precision
        return (TrainingOptions(precision=precision, seed=training_seed, **options),)


class TrainingCurve:
    CATEGORY = "Animatic/Training"
    DESCRIPTION = "Draws how a training went: loss, fixed-noise loss, gradient norm and learning rate over the steps."
    SEARCH_ALIASES = ["loss graph", "plot", "learning curve"]
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The drawing.",)
    FUNCTION = "draw"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"curve": widgets.socket(sockets.TRAINING_CURVE, "From a training node.")}}

    def draw(self, curve):
        reports = curve.reports
        panels = (
            Panel("loss (bright: mean of recent steps)", [(r.step, r.loss) for r in reports], smoothed=True),
            Panel("fixed-noise loss", curve.validation),
            Panel("gradient norm", [(r.step, r.grad_norm) for r in reports], smoothed=True),
            Panel("learning rate", [(r.step, r.learning_rate) for r in reports]),
        )
        image = curve_chart(panels)
        return {"ui": preview_image(image), "result": (image[None],)}


NODE_CLASSES = {
    "AnimaticTrainMotionLora": (TrainMotionLora, "Train MotionLoRA"),
    "AnimaticTrainDomainAdapter": (TrainDomainAdapter, "Train Domain Adapter"),
    "AnimaticTrainMotionModule": (TrainMotionModule, "Train Motion Module"),
    "AnimaticTrainTuneAVideo": (TrainTuneAVideo, "Train Tune-A-Video"),
    "AnimaticTrainingOptions": (SetTrainingOptions, "Training Options"),
    "AnimaticTrainingCurve": (TrainingCurve, "Training Curve"),
}
