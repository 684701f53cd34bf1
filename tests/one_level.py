"""A UNet of one level and one block, compiled as the stock node TorchCompileModel does it.

A graph of it takes seconds, and its layers are of the same kinds as those of a whole one.
"""

from animatic_pack.nodes.host.motion.attach import apply_motion_module
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras import nodes_torch_compile
import host_models
from host_models import image_model

ONE_LEVEL = {
    "channel_mult": [1],
    "num_res_blocks": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
    "transformer_depth_middle": 1,
}


def one_level_model(monkeypatch, **options):
    """options: as for image_model."""
    with monkeypatch.context() as patched:
        patched.setitem(host_models.UNETS, "SD1.5", {**host_models.UNETS["SD1.5"], **ONE_LEVEL})
        return image_model(**options)


def compiled(model, backend):
    model = model.clone()
    # newer hosts guard nothing of transformer_options: what a graph reads there is as it was when it was made
    unguarded = getattr(nodes_torch_compile, "skip_torch_compile_dict", None)
    options = {"guard_filter_fn": unguarded} if unguarded else None
    set_torch_compile_wrapper(model=model, backend=backend, options=options)
    return model


def animated_and_compiled(model, module, settings, backend, compiled_first: bool):
    if compiled_first:
        return apply_motion_module(compiled(model, backend), module, settings)
    return compiled(apply_motion_module(model, module, settings), backend)
