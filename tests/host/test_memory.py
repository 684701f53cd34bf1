"""What motion adds to the memory that a step needs, counted at full size on a device that holds nothing."""

from dataclasses import replace
from functools import partial
import gc
import weakref

from animatic_pack.motion_modules.checkpoint import read_motion_module
from animatic_pack.motion_modules.motion_module import MotionModule
from animatic_pack.nodes.host.core.call import Answer
from animatic_pack.nodes.host.core.unet import answers_in_unet, feed_forward_slices
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
import comfy.ops
import comfy.supported_models
from host_models import FULL_WIDTH, UNETS, unet_config
import pytest
from small_models import motion_state_dict
import torch
from torch.utils._python_dispatch import TorchDispatchMode

DTYPE = torch.float16
KINDS = {  # kind of UNet, motion module, frames, latent size
    "SD1.5 v1": ("SD1.5", {"max_frames": 24}, 16, 64),
    "SD1.5 v2": ("SD1.5", {"mid": True}, 16, 64),
    "HotShotXL": ("SDXL", {"max_frames": 24}, 8, 64),
}


class LiveBytes(TorchDispatchMode):
    """The most bytes that were alive at once among tensors made while it is on."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.seen = set()

    def ignore(self, tensors) -> None:
        self.seen.update(tensor.untyped_storage()._cdata for tensor in tensors)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.seen:
            return
        self.seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)

        def freed():
            self.seen.discard(key)
            self.now -= size

        weakref.finalize(storage, freed)


def sdpa(q, k, v, *args, **kwargs):
    """Its kernels on graphics cards hold no scores."""
    return torch.empty_like(q)


@pytest.fixture(autouse=True)
def kernels_of_graphics_cards(monkeypatch):
    import comfy.ldm.modules.attention as attention

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", sdpa)
    monkeypatch.setattr(comfy.ops, "scaled_dot_product_attention", sdpa, raising=False)
    monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)


def full_size(kind, module_options):
    widths = tuple(FULL_WIDTH * factor for factor in UNETS[kind]["channel_mult"])
    config = {**unet_config(kind, FULL_WIDTH), "dtype": DTYPE}
    unet = UNetModel(**config, device="meta", operations=comfy.ops.disable_weight_init)
    narrow = motion_state_dict((32,) * len(widths), modules=2, **module_options)
    described = replace(read_motion_module(narrow)[0], channels=widths, unet=kind)
    return unet, MotionModule(described, comfy.ops.manual_cast, dtype=DTYPE, device="meta")


def peak_of_a_step(unet, kind, module, answers, frames, side) -> int:
    rows = 2 * frames
    empty = partial(torch.empty, dtype=DTYPE, device="meta")
    context = empty(rows, 77, UNETS[kind]["context_dim"])
    y = empty(rows, 2816) if kind == "SDXL" else None
    gc.collect()
    live = LiveBytes()
    live.ignore([*unet.parameters(), *unet.buffers(), *module.parameters(), *module.buffers()])
    x, times = empty(rows, 4, side, side), empty(rows)
    with answers_in_unet(unet, answers, frames, {number: 0 for number in answers}), live:
        unet(x, times, context=context, y=y, transformer_options={})
    return live.peak


@pytest.mark.parametrize("name", KINDS)
def test_motion_needs_no_more_than_the_plain_unet(name):
    """So the host's estimate for the plain model, by which it offloads in time, holds with motion too."""
    kind, options, frames, side = KINDS[name]
    unet, module = full_size(kind, options)
    slices = feed_forward_slices(unet)
    at_sites = {
        site: partial(
            transformer,
            num_frames=frames,
            attention=lambda q, k, v: torch.empty_like(q),
            feed_forward_slices=slices.get(site, 1),
        )
        for site, transformer in module.sites.items()
    }
    plain = peak_of_a_step(unet, kind, module, {}, frames, side)
    moving = Answer(at_sites, norm_over_frames=module.config.family.unet_norm_over_frames)
    with_motion = peak_of_a_step(unet, kind, module, {0: moving}, frames, side)
    assert with_motion <= 1.01 * plain
    estimate = (2 * frames * side * side) * DTYPE.itemsize * 0.01 * 2**20
    factor = {"SD1.5": comfy.supported_models.SD15, "SDXL": comfy.supported_models.SDXL}[kind].memory_usage_factor
    assert with_motion <= 1.01 * estimate * factor
