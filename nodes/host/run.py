"""A MODEL with motion modules while it samples.

The two wrappers are plain functions: they find modules and settings on the patcher that really runs, which on several
GPUs is a copy made by the host.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import comfy.ldm.modules.attention
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...lora.layers import added
from ...motion_modules.config import MotionModuleConfig
from ...motion_modules.keyframes import check_range
from ...motion_modules.motion_module import MotionModule
from ...motion_modules.temporal_transformer import at_size
from .arguments import named_arguments
from .hints import frames_at_hand, warn_of_lengths
from .motion_control import MotionControl, Strengths, strengths
from .motion_image import MotionImage, encode, first_block_term, site_terms, with_term
from .motion_loras import ScheduledLora
from .sampling_range import in_range, percent_of
from .unet import motion_in_unet

KEY = "animatic"
LORA_KEY = "animatic_motion_lora"


@dataclass(frozen=True)
class MotionSettings:
    """How one motion module acts; percents are of the sampling range, 0 its start."""

    name: str
    motion_scale: float = 1.0
    effect: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    controls: tuple[MotionControl, ...] = ()
    still: MotionImage | None = None
    scheduled_loras: tuple[ScheduledLora, ...] = ()

    def __post_init__(self):
        check_range(self.start_percent, self.end_percent)

    def acts_at(self, sigma: float | Tensor, model_sampling) -> bool:
        """Whether a step at noise level `sigma` lies in the range; the end belongs to whatever follows."""
        return self.effect != 0 and in_range(self.start_percent, self.end_percent, sigma, model_sampling)

    def strengths_at(self, sigma: Tensor, model_sampling, frames: list[int]) -> Strengths:
        controls = [c for c in self.controls if in_range(c.start_percent, c.end_percent, sigma, model_sampling)]
        return strengths(self.motion_scale, self.effect, controls, frames, sigma.device)


@dataclass(frozen=True)
class MotionRun:
    """One sampling run; by number of the attached motion module.

    ran: how often a temporal transformer ran. stills: encoded images, (1, 4, H, W).
    terms: by number, frames and size, what a still adds at sites; the same at every step and in every window.
    """

    full_length: int
    ran: Counter = field(default_factory=Counter)
    stills: dict[int, Tensor] = field(default_factory=dict)
    terms: dict[tuple[int, ...], dict[str, Tensor]] = field(default_factory=dict)


def run_motion(executor, *args, **kwargs):
    """APPLY_MODEL wrapper: hook the UNet for this one call with the motion modules that act at its noise level."""
    model = executor.class_obj
    patcher = model.current_patcher
    call = named_arguments(executor, args, kwargs)
    options, sigma = call["transformer_options"], call["t"][0]
    frames = frames_at_hand(options, call["x"].shape[0] // len(options.get("cond_or_uncond", (0,))))
    run = options.get(KEY) or MotionRun(len(frames))
    motions, terms, norm_over_frames = [], [], False
    with ExitStack() as hooks:
        for number, (motion, settings) in enumerate(attached(patcher)):
            motions.append({})
            if not settings.acts_at(sigma, model.model_sampling):
                continue
            module = motion.model
            check_length(settings.name, module.config, len(frames))
            acting = settings.strengths_at(sigma, model.model_sampling, frames)
            still = run.stills.get(number)
            key = number, len(frames), *call["x"].shape[2:]
            if still is not None:
                still = at_size(still, call["x"])  # conds with an area run on a part of the picture
                if key not in run.terms:
                    run.terms[key] = site_terms(module, settings.still, still, len(frames))
            motions[number] = what_runs(module, acting, run.terms.get(key, {}), len(frames), options)
            if not motions[number]:
                run.ran[number] += 1  # switched off on purpose
                continue
            if still is not None:
                term = first_block_term(module, settings.still, still, frames, run.full_length)
                terms += [] if term is None else [term]
            norm_over_frames |= module.config.unet_norm_over_frames
            for lora in settings.scheduled_loras:
                layers = patcher.get_additional_models_with_key(LORA_KEY)[lora.number].model
                strength = lora.strength_at(percent_of(sigma, model.model_sampling))
                hooks.enter_context(added(module, layers, strength))
        hooks.enter_context(
            motion_in_unet(model.diffusion_model, motions, len(frames), norm_over_frames, run.ran, terms)
        )
        return executor(*args, **kwargs)


def attached(patcher: ModelPatcher) -> Iterator[tuple[ModelPatcher, MotionSettings]]:
    return zip(patcher.get_additional_models_with_key(KEY), patcher.get_attachment(KEY) or ())


def what_runs(
    module: MotionModule, acting: Strengths, terms: dict[str, Tensor], num_frames: int, options: dict
) -> dict[str, Callable[[Tensor], Tensor]]:
    """A motion module's temporal transformers, ready to be called with hidden states, by site; without those at 0."""
    attention = partial(comfy.ldm.modules.attention.optimized_attention, transformer_options=options)
    sites = {}
    for site, transformer in module.sites().items():
        effect = acting.effect_at(site)
        if isinstance(effect, Tensor) or effect != 0:
            sites[site] = with_term(
                partial(
                    transformer,
                    num_frames=num_frames,
                    motion_scale=acting.motion_scale,
                    effect=effect,
                    attention=attention,
                ),
                terms.get(site),
            )
    return sites


def check_length(name: str, config: MotionModuleConfig, num_frames: int) -> None:
    if num_frames > config.max_frames:
        raise ValueError(
            f"{name} ({config.family}) knows {config.max_frames} frames, but the batch has {num_frames}. "
            f"Use at most {config.max_frames} frames, or add Context Options with a context_length of at most that."
        )


def sample_with_motion(executor, *args, **kwargs):
    """OUTER_SAMPLE wrapper: prepares a run; fails loudly if a motion module should have acted in it and never did."""
    guider = executor.class_obj
    patcher = guider.model_patcher
    call = named_arguments(executor, args, kwargs)
    shape = call["noise"].shape
    warn_of_lengths(guider.conds, shape[0])
    run = MotionRun(shape[0])
    for number, (_, settings) in enumerate(attached(patcher)):
        if settings.still is not None:
            still = settings.still
            run.stills[number] = encode(still.vae, still.image, *shape[-2:], patcher.model.process_latent_in)
    options = guider.model_options.setdefault("transformer_options", {})
    options[KEY] = run
    # AnimateDiff-Evolved's contract with other packs; a context handler puts in the window at hand
    options["ad_params"] = {"full_length": shape[0], "context_length": None, "sub_idxs": None}
    output = executor(*args, **kwargs)
    sigmas = call["sigmas"][:-1].tolist()
    model_sampling = patcher.get_model_object("model_sampling")
    for number, settings in enumerate(patcher.get_attachment(KEY)):
        expected = any(settings.acts_at(sigma, model_sampling) for sigma in sigmas)
        if expected and not run.ran[number]:
            raise RuntimeError(
                f"{settings.name} was applied but never ran, so the result would be unrelated stills. Another node "
                "replaced how this model is called; try without the nodes between Apply Motion Module and the sampler."
            )
    return output
