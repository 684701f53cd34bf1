"""The domain adapter: a LoRA of the image model, loaded as the stock LoRA loader does."""

from collections.abc import Mapping
import re

from comfy.model_patcher import ModelPatcher
import comfy.sd
from torch import Tensor

from ....motion_modules.file_kind import FileKind, file_kind
from ....motion_modules.values import check_values
from ..core.file_advice import cannot_be_used
from ..core.folders import LORAS
from ..core.unet import UNET_KINDS
from ..core.weight_files import load_weights

CROSS_ATTENTION = re.compile(r"attn2\W.*to_k.*(down|lora_A)|attn2_to_k.*down")  # what takes in the text


def apply_domain_adapter(model: ModelPatcher, name: str, scale: float) -> ModelPatcher:
    """A clone of `model` with the adapter at `scale`; equal to the stock LoraLoaderModelOnly at that strength.

    Raises ValueError if the file is a MotionLoRA, no LoRA, damaged, or changes nothing in this model.
    """
    weights = load_weights(LORAS, name)
    kind = file_kind(weights)
    if kind not in (FileKind.IMAGE_LORA, FileKind.LORA):
        error = ValueError(f"this file is {kind.value}.")
        raise cannot_be_used(name, "a domain adapter", FileKind.IMAGE_LORA, weights, error)
    try:
        check_values({k: v for k, v in weights.items() if isinstance(v, Tensor) and v.is_floating_point()})
    except ValueError as error:  # of whole numbers there may be alphas
        raise cannot_be_used(name, "a domain adapter", kind, weights, error) from None
    if (made_for := _text_width(weights)) not in (None, model.model.model_config.unet_config.get("context_dim")):
        raise ValueError(
            f"{name} is for {UNET_KINDS.get(made_for, 'another kind of model')}, which this model is not. The domain "
            "adapter of AnimateDiff v3 is for SD1.5. Load a checkpoint of that kind."
        )
    if scale == 0:
        return model
    patched, _ = comfy.sd.load_lora_for_models(model, None, weights, scale, 0)
    if _count(patched) == _count(model):
        raise ValueError(
            f"{name} changes nothing in this model. The domain adapter of AnimateDiff v3 is for SD1.5. "
            "Load a checkpoint of that kind."
        )
    return patched


def _text_width(weights: Mapping[str, Tensor]) -> int | None:
    """How wide the text encoding is that a LoRA's cross-attention takes; None if it leaves that alone."""
    takers = (value for key, value in weights.items() if CROSS_ATTENTION.search(key))
    return next((value.shape[1] for value in takers if value.ndim == 2), None)


def _count(model: ModelPatcher) -> int:
    return sum(len(patches) for patches in model.patches.values())
