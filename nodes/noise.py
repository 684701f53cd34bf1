"""Nodes for the noise that a clip starts from."""

from . import widgets
from .host.clip.noise import AS_SAMPLER, KINDS, StartImage, set_noise_options
from .timeline.keyframes import CURVES, is_blank, parse_numbers


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
                "image_weight": widgets.numbers(
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
            raise ValueError(f"image_weight: shares go from 0 to 1, and this has {image_weight!s:.80}.")
        start = StartImage(image, vae, weight)
        return (set_noise_options(model, start=start),)


class FreeInit:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "FreeInit: samples the clip several times; each pass starts from the layout of the last result and fresh "
        "detail, which makes motion steadier. Takes as many times longer. Needs an empty latent and denoise 1."
    )
    SEARCH_ALIASES = ["freeinit", "noise refinement", "temporal consistency", "iteration options"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The MODEL whose sampling is refined, for any sampler.",)
    FUNCTION = "set"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": widgets.socket("MODEL", "A MODEL before or after Apply Motion Module."),
                "iterations": widgets.integer(3, 1, 10, "How often the clip is sampled in all; 1 changes nothing."),
            }
        }

    def set(self, model, iterations):
        return (set_noise_options(model, iterations=iterations),)


class FrameNoise:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Says what noise each frame starts from: seeds that change along the clip (seed travel), the same noise for "
        "all frames, or none."
    )
    SEARCH_ALIASES = ["seed travel", "seed schedule", "noise type", "constant noise", "sample settings"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The MODEL with its own noise, for any sampler.",)
    FUNCTION = "set"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": widgets.socket("MODEL", "A MODEL before or after Apply Motion Module."),
                "kind": widgets.choice(
                    KINDS,
                    AS_SAMPLER,
                    "sampler: as the sampler makes it. constant: the first frame's for all. empty: none.",
                ),
                "seeds": widgets.numbers(
                    "", "Seeds by frame: 0: 1, 16: 2. Frames between blend both. Empty: the sampler's seed."
                ),
                "curve": widgets.choice(CURVES, "linear", "How one seed becomes the next."),
            }
        }

    def set(self, model, kind, seeds, curve):
        travel = None if is_blank(seeds) else parse_numbers(seeds, "seeds", curve)
        if travel and not all(0 <= value < 2**53 and value == int(value) for value in travel.values):
            raise ValueError(f"seeds: a seed is a whole number from 0 to {2**53 - 1}, and this has {seeds!s:.80}.")
        return (set_noise_options(model, kind=kind, seeds=travel),)


NODE_CLASSES = {
    "AnimaticFrameNoise": (FrameNoise, "Noise by Frame"),
    "AnimaticStartFromImage": (StartFromImage, "Start From Image"),
    "AnimaticFreeInit": (FreeInit, "FreeInit"),
}
