"""The domain adapter: a LoRA of the image model, loaded as the stock LoRA loader does."""

from comfy.model_patcher import ModelPatcher
import comfy.sd

from ...motion_modules.checkpoint import what_else
from .folders import LORAS
from .weight_files import load_weights


def apply_domain_adapter(model: ModelPatcher, name: str, scale: float) -> ModelPatcher:
    """A clone of `model` with the adapter at `scale`; equal to the stock LoraLoaderModelOnly at that strength.

    Raises ValueError if the file is a MotionLoRA, no LoRA, or changes nothing in this model.
    """
    weights = load_weights(LORAS, name)
    kind = what_else(weights)
    if kind is None or not kind.startswith("a LoRA"):
        raise ValueError(f"{name} cannot be used as a domain adapter: this file is {kind or 'a motion module'}.")
    if scale == 0:
        return model
    patched, _ = comfy.sd.load_lora_for_models(model, None, weights, scale, 0)
    if _count(patched) == _count(model):
        raise ValueError(f"{name} changes nothing in this model. The domain adapter of AnimateDiff v3 is for SD1.5.")
    return patched


def _count(model: ModelPatcher) -> int:
    return sum(len(patches) for patches in model.patches.values())
