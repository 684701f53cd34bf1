"""The host's model patchers: networks of ours on its memory manager, and wrappers on a MODEL."""

from collections.abc import Callable

import comfy.model_management
import comfy.model_patcher
from comfy.model_patcher import ModelPatcher
import comfy.ops
import comfy.utils
from torch import Tensor


def patcher_of(make_model: Callable, weights: dict[str, Tensor], disable_dynamic: bool = False) -> ModelPatcher:
    """A model of ours on the host's memory manager.

    make_model: called with operations, dtype and device. Position tables (`.pe`) keep their own dtype.
    """
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    dtype = comfy.model_management.unet_dtype(
        device=load_device,
        model_params=comfy.utils.calculate_parameters(weights),
        weight_dtype=comfy.utils.weight_dtype(weights),
    )
    # manual_cast computes in the dtype of what comes in, so any UNet precision goes with any file precision
    model = make_model(comfy.ops.manual_cast, dtype=dtype, device=offload_device)
    patcher_class = ModelPatcher if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", ModelPatcher)
    patcher = patcher_class(model, load_device=load_device, offload_device=offload_device)
    is_dynamic = hasattr(patcher, "is_dynamic") and patcher.is_dynamic()
    if is_dynamic:  # its layers take over the tensors that they are given, so these must have the final dtype
        weights = {key: value if key.endswith(".pe") else value.to(dtype) for key, value in weights.items()}
    model.load_state_dict(weights, strict=True, assign=is_dynamic)
    model.eval()
    return patcher


def set_wrapper(model: ModelPatcher, wrapper_type: str, key: str, wrapper: Callable) -> None:
    """Give `model` (a clone of ours) this wrapper once, however often a node asks for it."""
    model.remove_wrappers_with_key(wrapper_type, key)
    model.add_wrapper_with_key(wrapper_type, key, wrapper)
