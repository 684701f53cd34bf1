"""While a clip is sampled, the sampler's own preview shows many of its frames, where ComfyUI shows the first alone.

Frontends draw previews as still pictures, so it is a contact sheet. The host's callback makes the picture as the user
set it (latent to RGB, TAESD, or none), from latents that are laid side by side.
"""

from functools import partial

from comfy.cli_args import LatentPreviewMethod
from comfy.cli_args import args as options
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from einops import rearrange
import torch
from torch import Tensor, nn

from .arguments import call_with, named_arguments
from .patcher import set_wrapper

KEY = "animatic_preview"
HOSTS_MODULE = "latent_preview"  # whose callback draws; others' callbacks get what they expect
MOST_FRAMES = 16
MOST_PIXELS = 128 * 128  # of the latents that TAESD decodes for a preview: 1024 x 1024 pixels


def show_the_clip(model: ModelPatcher) -> None:
    """Let samplers show the clip on `model` (a clone of ours)."""
    set_wrapper(model, WrappersMP.OUTER_SAMPLE, KEY, sample_with_sheets)


def sample_with_sheets(executor, *args, **kwargs):
    """OUTER_SAMPLE wrapper."""
    callback = named_arguments(executor, args, kwargs)["callback"]
    if getattr(callback, "__module__", None) == HOSTS_MODULE:
        args, kwargs = call_with(executor, args, kwargs, callback=partial(call_with_sheet, callback))
    return executor(*args, **kwargs)


def call_with_sheet(callback, step: int, x0: Tensor, x: Tensor, total_steps: int) -> None:
    if getattr(x0, "is_nested", False) or x0.ndim != 4 or x0.shape[0] == 1:
        callback(step, x0, x, total_steps)
        return
    sheet = contact_sheet(x0)
    callback(step, sheet, x, total_steps)
    sheet.data = x0  # the callback may have kept it, as what samplers give as denoised output


def contact_sheet(latents: Tensor) -> Tensor:
    """Up to 16 frames of latents (F, C, H, W) side by side and below each other: (1, C, rows * H, columns * W)."""
    count = min(MOST_FRAMES, latents.shape[0])
    chosen = latents[torch.linspace(0, latents.shape[0] - 1, count).round().long()]
    columns = int((count - 1) ** 0.5) + 1
    empty = -count % columns
    if empty:
        chosen = torch.cat([chosen, chosen.new_zeros(empty, *chosen.shape[1:])])
    sheet = rearrange(chosen, "(r c) n h w -> 1 n (r h) (c w)", c=columns)
    pixels = sheet.shape[2] * sheet.shape[3]
    if options.preview_method == LatentPreviewMethod.TAESD and pixels > MOST_PIXELS:
        sheet = nn.functional.interpolate(sheet, scale_factor=(MOST_PIXELS / pixels) ** 0.5, mode="area")
    return sheet.contiguous()
