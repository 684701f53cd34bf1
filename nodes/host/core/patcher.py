"""The host's model patchers: networks of ours on its memory manager, and wrappers on a MODEL."""

from collections.abc import Callable

import comfy.model_management
import comfy.model_patcher
from comfy.model_patcher import ModelPatcher
import comfy.ops
import comfy.utils
import torch
from torch import Tensor, nn


def patcher_of(
    make_model: Callable,
    weights: dict[str, Tensor],
    load_device: torch.device,
    disable_dynamic: bool = False,
    eight_bits: bool = False,
) -> ModelPatcher:
    """A model of ours on the host's memory manager.

    make_model: called with operations, dtype and device. Position tables (`.pe`) keep their own dtype.
    load_device: where it runs, which is where the MODEL runs that it is for.
    eight_bits: whether linear layers may keep their weights in 8 bits, if the user asked for that.
    """
    offload_device = comfy.model_management.unet_offload_device()
    dtype = comfy.model_management.unet_dtype(
        device=load_device,
        model_params=comfy.utils.calculate_parameters(weights),
        weight_dtype=comfy.utils.weight_dtype(weights),
    )
    wider = dtype if dtype.itemsize > 1 else torch.float16
    # manual_cast computes in the dtype of what comes in, so any UNet precision goes with any file precision
    model = make_model(comfy.ops.manual_cast, dtype=dtype if eight_bits else wider, device=offload_device)
    if eight_bits and dtype is not wider:
        _widen_small_weights(model, wider)
    patcher_class = ModelPatcher if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", ModelPatcher)
    patcher = patcher_class(model, load_device=load_device, offload_device=offload_device)
    is_dynamic = hasattr(patcher, "is_dynamic") and patcher.is_dynamic()
    if is_dynamic:  # its layers take over the tensors that they are given, so these must have the final dtype
        weights = {
            key: value if key.endswith(".pe") else value.to(dtype if eight_bits and value.ndim == 2 else wider)
            for key, value in weights.items()
        }
    model.load_state_dict(weights, strict=True, assign=is_dynamic)
    model.eval()
    return patcher


def _widen_small_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Norms, biases and convolutions, which gain nothing from 8 bits and lose much."""
    for parameter in model.parameters():
        if parameter.ndim != 2:
            parameter.data = parameter.data.to(dtype)
    for module in model.modules():
        if hasattr(module, "bias_comfy_model_dtype"):  # to which newer hosts cast while they load
            module.bias_comfy_model_dtype = dtype


def set_wrapper(model: ModelPatcher, wrapper_type: str, key: str, wrapper: Callable) -> None:
    """Give `model` (a clone of ours) this wrapper once, however often a node asks for it."""
    model.remove_wrappers_with_key(wrapper_type, key)
    model.add_wrapper_with_key(wrapper_type, key, wrapper)
