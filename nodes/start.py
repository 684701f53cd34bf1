"""Nodes that begin a clip from an image."""

from ..motion_modules.keyframes import CURVES, parse_numbers
from . import widgets
from .host.motion_image import LIKENESS, MotionImage
from .host.noise import StartImage, set_noise_options
from .motion import IMAGE


class SetMotionImage:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "The still that a motion module with an image input brings to life: PIA or AnimateLCM-I2V. "
        "Connect it to Apply Motion Module."
    )
    SEARCH_ALIASES = ["PIA", "AnimateLCM-I2V", "image to video", "I2V", "animate image"]
    RETURN_TYPES = (IMAGE,)
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
                    LIKENESS,
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
                "likeness": widgets.text(
                    "",
                    "PIA: own numbers for pia_motion, by distance from image_frame: 1, 0.9, 0.8 (the last stays).",
                ),
            },
        }

    def set(self, image, vae, pia_motion, pia_loop, image_frame, drift, likeness=""):
        numbers = LIKENESS[pia_motion]
        if likeness.strip():
            keys = parse_numbers(likeness, "likeness")
            numbers = tuple(keys.over(range(int(keys.positions[-1]) + 1)))
        return (MotionImage(image[:1], vae, numbers, image_frame, pia_loop, drift),)


class StartFromImage:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Begins a clip from an image with any motion module: the noise that sampling starts from is blended with the "
        "image, a little, and less from frame to frame. Use an empty latent and denoise 1."
    )
    SEARCH_ALIASES = ["image to animation", "init image", "img2vid", "first frame", "I2V"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The MODEL that starts from the image, for any sampler.",)
    FUNCTION = "start"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": widgets.socket("MODEL", "A MODEL before or after Apply Motion Module."),
                "image": widgets.socket("IMAGE", "One image for all frames, or one for each (the last one stays)."),
                "vae": widgets.socket("VAE", "The VAE of the checkpoint."),
                "image_weight": widgets.text(
                    "0: 0.033, 15: 0.002",
                    "Share of the image in the starting noise, by frame: one number, a list, or keyframes. "
                    "0.03 sets scene and colours; above 0.1 the picture freezes.",
                ),
                "curve": widgets.choice(CURVES, "linear", "How the weight runs from one keyframe to the next."),
            }
        }

    def start(self, model, image, vae, image_weight, curve):
        weight = parse_numbers(image_weight, "image_weight", curve)
        if not all(0 <= value <= 1 for value in weight.values):
            raise ValueError(f"image_weight: shares go from 0 to 1, and this has {image_weight}.")
        start = StartImage(image, vae, weight)
        return (set_noise_options(model, start=start),)


NODE_CLASSES = {
    "AnimaticStartFromImage": (StartFromImage, "Start From Image"),
    "AnimaticMotionImage": (SetMotionImage, "Motion Image"),
}
