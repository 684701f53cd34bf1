"""Nodes of Animate Anyone: its networks, a reference character on a MODEL, and the noise schedule that it needs."""

from . import widgets
from .host.core.folders import ANIMATE_ANYONE, file_names
from .host.reference.animate import SAMPLINGS, Animation, apply_animate_anyone, conditioning_of, sampled_as
from .host.reference.load import describe_guider, load_pose_guider, load_reference_net
from .host.reference.pictures import CROPPED, SIZES, reference_of
from .sockets import POSE_GUIDER, REFERENCE_NET
from .timeline.blocks import parse_block_numbers


class LoadReferenceNet:
    CATEGORY = "Animatic/Animate Anyone"
    DESCRIPTION = (
        "Loads Animate Anyone's ReferenceNet, a UNet that looks at the reference picture once, so that every frame can "
        "attend to what it saw. Every weight of the file must be used, or the node says which are missing."
    )
    SEARCH_ALIASES = ["Animate Anyone", "reference unet", "ReferenceNet", "reference image"]
    RETURN_TYPES = (REFERENCE_NET,)
    RETURN_NAMES = ("reference_net",)
    OUTPUT_TOOLTIPS = ("For Apply Animate Anyone.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "reference_net": (
                    file_names(ANIMATE_ANYONE),
                    {"tooltip": "A file of models/animate_anyone: reference_unet.pth."},
                ),
            }
        }

    def load(self, reference_net):
        return (load_reference_net(reference_net),)


class LoadPoseGuider:
    CATEGORY = "Animatic/Animate Anyone"
    DESCRIPTION = (
        "Loads Animate Anyone's Pose Guider, a small network that makes drawn poses into features for each frame: the "
        "open release's, or one in the paper's own layout. The node shows which it is."
    )
    SEARCH_ALIASES = ["Animate Anyone", "pose guider", "pose encoder"]
    RETURN_TYPES = (POSE_GUIDER,)
    RETURN_NAMES = ("pose_guider",)
    OUTPUT_TOOLTIPS = ("For Apply Animate Anyone.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "pose_guider": (
                    file_names(ANIMATE_ANYONE),
                    {"tooltip": "A file of models/animate_anyone: pose_guider.pth."},
                ),
                "strength": widgets.number(1.0, 0.0, 3.0, "How much the poses count; 1 is as trained."),
            }
        }

    def load(self, pose_guider, strength=1.0):
        loaded = load_pose_guider(pose_guider, strength)
        return {"ui": {"text": (describe_guider(loaded),)}, "result": (loaded,)}


class ApplyAnimateAnyone:
    CATEGORY = "Animatic/Animate Anyone"
    DESCRIPTION = (
        "Lets every frame look at a reference character and follow a pose (Animate Anyone). Add Apply Motion Module "
        "before or after it. The reference is seen by the positive conditioning alone, poses by both."
    )
    SEARCH_ALIASES = [
        "AnimateAnyone",
        "reference image",
        "character animation",
        "pose to video",
        "consistent character",
    ]
    RETURN_TYPES = ("MODEL", "CONDITIONING", "CONDITIONING")
    RETURN_NAMES = ("model", "positive", "negative")
    OUTPUT_TOOLTIPS = (
        "The MODEL that sees the reference, for any sampler. The MODEL that came in stays as it was.",
        "The picture as CLIP Vision sees it, in place of a prompt.",
        "Zeros of the same shape, as the open release samples.",
    )
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": widgets.socket(
                    "MODEL", "Animate Anyone's denoising_unet from Load Diffusion Model, or another SD1.5 model."
                ),
                "reference_net": widgets.socket(REFERENCE_NET, "From Load Reference Net."),
                "image": widgets.socket("IMAGE", "The character. Of a batch all pictures are seen at once."),
                "vae": widgets.socket("VAE", "An SD1.5 VAE; the released weights were trained with vae-ft-mse."),
                "clip_vision": widgets.socket("CLIP_VISION", "The image_encoder of Animate Anyone, a CLIP ViT-L/14."),
                "strength": widgets.number(
                    1.0, 0.0, 3.0, "How much frames see of the reference; 0 is the plain model, 1 as trained."
                ),
                "start_percent": widgets.percent(0.0, "Where in the sampling range reference and poses begin to act."),
                "end_percent": widgets.percent(1.0, "Where in the sampling range they stop acting."),
                "reference_size": widgets.choice(
                    SIZES, CROPPED, "At which size the reference is seen; as large as the clip is as trained."
                ),
                "blocks": widgets.text(
                    "",
                    "Factors on strength for parts of the UNet, one a line: down_blocks = 0, mid_block = 0.5, "
                    "up_blocks.3.attentions.2 = 0.8. Blocks that are not named keep 1.",
                    multiline=True,
                ),
            },
            "optional": {
                "pose_guider": widgets.socket(POSE_GUIDER, "From Load Pose Guider; without it there are no poses."),
                "poses": widgets.socket(
                    "IMAGE", "Drawn poses in OpenPose's colours, one for each frame; with fewer the last one stays."
                ),
            },
        }

    def apply(
        self,
        model,
        reference_net,
        image,
        vae,
        clip_vision,
        strength,
        start_percent,
        end_percent,
        reference_size,
        blocks,
        pose_guider=None,
        poses=None,
    ):
        reference = reference_of(model, reference_net, image, vae, clip_vision, reference_size)
        factors = parse_block_numbers(blocks)
        pose_strength = pose_guider.strength if pose_guider else 1.0
        animation = Animation(reference, strength, start_percent, end_percent, factors, poses, pose_strength)
        return apply_animate_anyone(model, animation, pose_guider), *conditioning_of(reference)


class AnimateAnyoneSampling:
    CATEGORY = "Animatic/Animate Anyone"
    DESCRIPTION = (
        "The noise schedule and prediction type that Animate Anyone was trained with. Put it before or after Apply "
        "Motion Module. Sample with ddim or euler, scheduler simple, about 30 steps, cfg 3.5."
    )
    SEARCH_ALIASES = ["v prediction", "zero terminal SNR", "zsnr", "model sampling", "Animate Anyone"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The MODEL with this schedule. The MODEL that came in stays as it was.",)
    FUNCTION = "set"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": widgets.socket("MODEL", "Animate Anyone's denoising_unet."),
                "prediction": widgets.choice(
                    SAMPLINGS,
                    next(iter(SAMPLINGS)),
                    "What the denoiser predicts. The released weights predict v, down to pure noise; the paper's text, "
                    "and AnimateDiff checkpoints, predict noise. Betas are straight from 0.00085 to 0.012 for both.",
                ),
            }
        }

    def set(self, model, prediction):
        return (sampled_as(model, prediction),)


NODE_CLASSES = {
    "AnimaticLoadReferenceNet": (LoadReferenceNet, "Load Reference Net"),
    "AnimaticLoadPoseGuider": (LoadPoseGuider, "Load Pose Guider"),
    "AnimaticApplyAnimateAnyone": (ApplyAnimateAnyone, "Apply Animate Anyone"),
    "AnimaticAnimateAnyoneSampling": (AnimateAnyoneSampling, "Animate Anyone Sampling"),
}
