"""Text2Video-Zero (Khachatryan et al. 2023, arXiv 2303.13439) on any Stable Diffusion MODEL, by any sampler.

No motion module: all frames see the first one in their self-attentions, and begin as the first one's latent, moved
along a line. A baseline to hold motion modules against. The paper's optional smoothing of backgrounds, which needs a
segmentation of the picture, is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
import logging

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
import torch
from torch import Tensor, nn

from ....motion_modules.changed_forward import Forward
from ..core.arguments import call_with, named_arguments
from ..core.attached import attach, require_prepared
from ..core.call import Answer, Call
from ..core.patcher import set_wrapper
from ..core.unet import require_unet, self_attentions

logger = logging.getLogger(__name__)
NAME = "Text2Video-Zero"
KEY = "animatic_text2video_zero"
FIELD = 512  # pixels, both ways, of the picture that motion is counted in
FRESH = 0x2E80  # xor the seed, which by itself would give the noise that the run began with


@dataclass(frozen=True)
class WarpSettings:
    """motion_x, motion_y: the paper's delta, from frame to frame, in pixels of a picture of 512 x 512.

    spread_at, warp_at: fractions of the steps. The first frame is sampled alone up to spread_at, and on to warp_at; the
    other frames are that latent, moved and noised back to spread_at. The authors' are 2 and 5 of 50 steps.
    """

    motion_x: float = 12.0
    motion_y: float = 12.0
    spread_at: float = 0.04
    warp_at: float = 0.1

    def steps(self, count: int) -> tuple[int, int]:
        """Numbers of steps before the frames part, and until the latent that is moved; at least one step is left."""
        spread = min(max(1, round(self.spread_at * count)), count - 1)
        return spread, min(max(spread, round(self.warp_at * count)), count - 1)


class FirstFrameAttention:
    """An attached thing: every self-attention of the UNet has the keys and values of the clip's first frame alone."""

    name = NAME

    def acts_at(self, sigma: float | Tensor, model_sampling) -> bool:
        return True

    def prepare(self, patcher: ModelPatcher, height: int, width: int) -> tuple[str, ...]:
        return tuple(self_attentions(require_unet(patcher, NAME)))

    def answer(self, call: Call, models: list[ModelPatcher], prepared: tuple[str, ...] | None) -> Answer:
        require_prepared(NAME, prepared)
        return Answer(self_attentions={name: seeing_first(call.num_frames) for name in prepared})


def set_text2video_zero(model: ModelPatcher, settings: WarpSettings) -> ModelPatcher:
    """A clone of `model` that makes a clip of a batch. Raises ValueError for models of another kind, or set before."""
    require_unet(model, NAME)
    if model.get_attachment(KEY) is not None:
        raise ValueError(f"This MODEL has {NAME} already: apply it once.")
    model = model.clone()
    attach(model, FirstFrameAttention(), [])
    model.set_attachments(KEY, settings)
    set_wrapper(model, WrappersMP.OUTER_SAMPLE, KEY, sample_warped)
    return model


def seeing_first(num_frames: int) -> Callable[[Forward], Forward]:
    """A change of a self-attention: rows (conds * frames, tokens, C) look at their cond's first frame."""

    def first(tokens: Tensor | None) -> Tensor | None:
        return None if tokens is None else tokens[::num_frames].repeat_interleave(num_frames, 0)

    def change(forward: Forward) -> Forward:
        def see(x: Tensor, context: Tensor | None = None, value: Tensor | None = None, **options) -> Tensor:
            return forward(x, context=first(x if context is None else context), value=first(value), **options)

        return see

    return change


def sample_warped(executor, *args, **kwargs):
    """OUTER_SAMPLE wrapper: a run from noise alone samples the first frame for some steps, and all begin from it."""
    named = named_arguments(executor, args, kwargs)
    noise, sigmas, latent = named["noise"], named["sigmas"], named["latent_image"]
    patcher, steps = executor.class_obj.model_patcher, len(sigmas) - 1
    if len(noise) < 2 or steps < 2 or not noise.any():
        return executor(*args, **kwargs)
    if latent.any() or named.get("denoise_mask") is not None:
        logger.warning("%s moves nothing here: the latent that comes in is not empty, or has a mask.", NAME)
        return executor(*args, **kwargs)
    settings = patcher.get_attachment(KEY)
    spread, warp = settings.steps(steps)

    def run(noise: Tensor, latent: Tensor, first: int, last: int) -> Tensor:
        """Some of the run's steps, in the UNet's scale; latents as the sampler's own, so that a next run can go on."""
        callback = _from_step(named.get("callback"), first, steps)
        part = {"noise": noise, "latent_image": latent, "sigmas": sigmas[first : last + 1], "callback": callback}
        changed_args, changed_kwargs = call_with(executor, args, kwargs, **part)
        return executor(*changed_args, **changed_kwargs).to(latent)

    still = run(noise[:1], latent[:1], 0, spread)
    ahead = run(torch.zeros_like(noise[:1]), still, spread, warp) if warp > spread else still
    others = warped(patcher.model.process_latent_in(ahead), settings, len(noise))
    generator = torch.Generator().manual_seed((named.get("seed") or 0) ^ FRESH)
    fresh = torch.randn(others.shape, generator=generator, dtype=torch.float32).to(others)
    # noising by one or by many steps is the same: variances add up
    others = others + (sigmas[spread] ** 2 - sigmas[warp] ** 2).clamp(min=0).sqrt().to(others) * fresh
    begun = torch.cat((still, patcher.model.process_latent_out(others).to(still)))
    return run(torch.zeros_like(noise), begun, spread, steps)


def warped(latent: Tensor, settings: WarpSettings, num_frames: int) -> Tensor:
    """The latents (F - 1, C, h, w) of the frames after the first, (1, C, h, w): each moved one step further."""
    height, width = latent.shape[2:]
    y, x = torch.meshgrid(*((2 * torch.arange(n) + 1) / n - 1 for n in (height, width)), indexing="ij")
    frames = torch.arange(1, num_frames)[:, None, None]
    # the authors count pixels from their corners, half a pixel off, which decides where two latents are as near
    motions = (x, settings.motion_x), (y, settings.motion_y)
    grid = torch.stack([axis + (2 * motion * frames - 1) / FIELD for axis, motion in motions], dim=-1).to(latent)
    pictures = latent.expand(num_frames - 1, -1, -1, -1)
    return nn.functional.grid_sample(pictures, grid, mode="nearest", padding_mode="reflection", align_corners=False)


def _from_step(callback: Callable | None, first: int, steps: int) -> Callable | None:
    """Previews and progress count the steps of the whole run."""
    return callback and (lambda step, denoised, x, _: callback(step + first, denoised, x, steps))
