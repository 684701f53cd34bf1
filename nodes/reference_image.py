"""A picture whose look a clip keeps."""

from . import widgets
from .host.reference.picture_only import PictureReference, apply_reference_picture


class ReferenceImage:
    CATEGORY = "Animatic"
    DESCRIPTION = (
        "Keeps a face, clothes and style of a picture in all frames, with the checkpoint alone: no IP-Adapter, no "
        "ControlNet ('reference-only'). Each step also looks at the picture, which takes about twice as long."
    )
    SEARCH_ALIASES = ["reference only", "reference control", "ReferenceControlPreprocessor", "consistency", "face"]
    RETURN_TYPES = ("MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The MODEL whose frames look at the picture, for any sampler.",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": widgets.socket("MODEL", "A MODEL before or after Apply Motion Module and Context Options."),
                "image": widgets.socket("IMAGE", "The picture; of several the first. It is cropped to the clip."),
                "vae": widgets.socket("VAE", "The checkpoint's."),
                "strength": widgets.number(
                    1.0, 0.0, 1.0, "How much frames see of the picture; 0 switches it off."
                ),
                "fidelity": widgets.number(
                    0.5, 0.0, 1.0, "How far the negative prompt is left out of it: more follows the picture's style."
                ),
                "start_percent": widgets.percent(0.0, "Where in the sampling range this begins to act."),
                "end_percent": widgets.percent(1.0, "Where in the sampling range this stops acting."),
            }
        }

    def apply(self, model, image, vae, **settings):
        return (apply_reference_picture(model, PictureReference(image[:1, ..., :3], vae, **settings)),)


NODE_CLASSES = {"AnimaticReferenceImage": (ReferenceImage, "Reference Image")}
