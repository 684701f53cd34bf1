"""Nodes that train Animate Anyone: its networks, and then its motion."""

from functools import partial

from ..training.stages import ANIMATE_ANYONE, ANIMATE_ANYONE_MOTION, STAGES
from . import sockets, widgets
from .host.motion.module import load_motion_module
from .host.reference.animate import SAMPLINGS
from .host.training.animate import animate_models_of, trained_networks
from .host.training.train import train_as_told

V, NOISE = SAMPLINGS  # the names of Animate Anyone Sampling
RESUMES = "Cancel stops within a step and keeps what was learnt; queue again to go on."


def inputs(steps: int, filename: str, where: str, model: str) -> dict:
    """What both nodes ask for."""
    return {
        "model": widgets.socket("MODEL", model),
        "vae": widgets.TRAINED_VAE,
        "clip_vision": widgets.socket("CLIP_VISION", "A CLIP ViT-L/14, which sees the reference."),
        "clips": widgets.socket(sockets.TRAINING_CLIPS, "From Pose Clips."),
        **widgets.run_inputs(steps, 1e-5, filename, where),
        "prediction": widgets.choice((V, NOISE), V, "What the network predicts; choose the same when sampling."),
    }


def run_job(stage, model, vae, clip_vision, clips, filename, steps, learning_rate, prediction, options, networks):
    """What the node shows, and what was trained."""
    opened = partial(animate_models_of, model, vae, clip_vision, *networks)
    row = STAGES[stage] if prediction == V else STAGES[stage].predicting_noise()
    return train_as_told(row, opened, vae, clips, filename, steps, learning_rate, options)


class TrainAnimateAnyone:
    CATEGORY = "Animatic/Training"
    DESCRIPTION = (
        "Trains Animate Anyone's ReferenceNet, Pose Guider and UNet together, from pairs of frames of one video: one "
        f"is the reference, the other is drawn in its pose. Takes a card of 48 GB or more. {RESUMES}"
    )
    SEARCH_ALIASES = ["train AnimateAnyone", "training", "ReferenceNet", "pose guider", "stage 1"]
    RETURN_TYPES = ("MODEL", sockets.REFERENCE_NET, sockets.POSE_GUIDER, sockets.TRAINING_CURVE, "STRING")
    RETURN_NAMES = ("model", "reference_net", "pose_guider", "curve", "files")
    OUTPUT_TOOLTIPS = (
        "The trained UNet, for Apply Animate Anyone and Train Animate Anyone Motion.",
        "The trained ReferenceNet, for the same nodes.",
        "The trained Pose Guider, for the same nodes.",
        widgets.CURVE_TOOLTIP,
        "Full paths of the three files, one a line.",
    )
    FUNCTION = "train"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        model = "An SD1.5 model, which all begins with, or a denoising_unet to train further."
        where = "models/animate_anyone, and of the UNet in models/diffusion_models"
        net = widgets.socket(sockets.REFERENCE_NET, "To train further. Without it a copy of the MODEL's UNet begins.")
        guider = widgets.socket(sockets.POSE_GUIDER, "To train further. Without it a new one begins.")
        return {
            "required": inputs(30000, "my_character", where, model),
            "optional": {"reference_net": net, "pose_guider": guider, "options": widgets.OPTIONS},
        }

    def train(self, reference_net=None, pose_guider=None, options=None, **common):
        networks = None, reference_net, pose_guider
        shown, trained = run_job(ANIMATE_ANYONE, options=options, networks=networks, **common)
        files = "\n".join(map(str, trained.files.values()))
        return {"ui": shown, "result": (*trained_networks(trained.files), trained.curve, files)}


class TrainAnimateAnyoneMotion:
    CATEGORY = "Animatic/Training"
    DESCRIPTION = (
        "Trains the temporal layers of Animate Anyone alone, from whole clips; what Train Animate Anyone has trained "
        f"stays as it is. {RESUMES}"
    )
    SEARCH_ALIASES = ["train AnimateAnyone", "training", "temporal layers", "motion module", "stage 2"]
    RETURN_TYPES = (sockets.MOTION_MODULE, sockets.TRAINING_CURVE, "STRING")
    RETURN_NAMES = ("motion_module", "curve", "file")
    OUTPUT_TOOLTIPS = ("The motion module, for Apply Motion Module.", widgets.CURVE_TOOLTIP, "Full path of the file.")
    FUNCTION = "train"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        folder = STAGES[ANIMATE_ANYONE_MOTION].model_folder
        model = "Animate Anyone's denoising_unet, of Load Diffusion Model or Train Animate Anyone."
        motion = widgets.socket(sockets.MOTION_MODULE, "AnimateDiff's, to begin with. Without it a new one begins.")
        return {
            "required": {
                **inputs(10000, "my_character_motion", f"models/{folder}", model),
                "reference_net": widgets.socket(sockets.REFERENCE_NET, "The one that belongs to the MODEL."),
                "pose_guider": widgets.socket(sockets.POSE_GUIDER, "The one that belongs to the MODEL."),
            },
            "optional": {"motion_module": motion, "options": widgets.OPTIONS},
        }

    def train(self, reference_net, pose_guider, motion_module=None, options=None, **common):
        networks = motion_module, reference_net, pose_guider
        shown, trained = run_job(ANIMATE_ANYONE_MOTION, options=options, networks=networks, **common)
        return {"ui": shown, "result": (load_motion_module(trained.name), trained.curve, str(trained.path))}


NODE_CLASSES = {
    "AnimaticTrainAnimateAnyone": (TrainAnimateAnyone, "Train Animate Anyone"),
    "AnimaticTrainAnimateAnyoneMotion": (TrainAnimateAnyoneMotion, "Train Animate Anyone Motion"),
}
