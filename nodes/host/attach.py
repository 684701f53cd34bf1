"""Motion modules on a MODEL: attached to a clone, run inside its UNet while it samples.

A MODEL carries motion modules as additional models (so that the host loads and offloads them) and, in the same
order, their settings as an attachment. The two wrappers below are plain functions: they find both on the patcher
that really runs, which on several GPUs is a copy made by the host.
"""

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

import comfy.ldm.modules.attention
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
import torch
from torch import Tensor

from ...lora.layers import added
from ...motion_modules.config import BETA_SCHEDULES
from .arguments import named_arguments
from .hints import follow_frames
from .motion_loras import LoadedMotionLora, ScheduledLora, add_motion_loras
from .motion_models import LoadedMotionModule, motion_patcher
from .schedules import set_beta_schedule
from .unet import misfit, motion_in_unet

KEY = "animatic"
LORA_KEY = "animatic_motion_lora"
AUTO_SCHEDULE = "auto"
KEEP_SCHEDULE = "use existing"


@dataclass(frozen=True)
class MotionSettings:
    """How one motion module acts; percents are of the sampling range, 0 its start."""

    name: str
    motion_scale: float = 1.0
    effect: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    scheduled_loras: tuple[ScheduledLora, ...] = ()

    def __post_init__(self):
        if self.start_percent >= self.end_percent:
            raise ValueError(
                f"start_percent ({self.start_percent}) must be smaller than end_percent ({self.end_percent})."
            )

    def acts_at(self, sigma: float | Tensor, model_sampling) -> bool:
        """Whether a step at noise level `sigma` lies in the range; the end belongs to whatever follows."""
        if self.effect == 0:
            return False
        if self.start_percent <= 0 and self.end_percent >= 1:
            return True  # without reading sigma, which would wait for the device
        start, end = (model_sampling.percent_to_sigma(p) for p in (self.start_percent, self.end_percent))
        return end < float(sigma) <= start


@dataclass(frozen=True)
class MotionRun:
    """One sampling run; `ran` counts temporal transformer calls per attached motion module."""

    ran: Counter = field(default_factory=Counter)


def apply_motion_module(
    model: ModelPatcher,
    motion_module: LoadedMotionModule,
    settings: MotionSettings,
    beta_schedule: str = AUTO_SCHEDULE,
    motion_loras: tuple[LoadedMotionLora, ...] = (),
) -> ModelPatcher:
    """A clone of `model` that animates its batch of latents; motion modules already on it act on, before this one.

    Raises ValueError if the model has no UNet of the motion module's kind, or a MotionLoRA does not fit.
    """
    unet = model.get_model_object("diffusion_model")
    if not isinstance(unet, UNetModel):
        raise ValueError(
            f"{settings.name} needs a model of the Stable Diffusion 1.5 or SDXL kind, not {type(model.model).__name__}."
        )
    reason = misfit(
        unet, model.model.model_config.unet_config, motion_module.config, motion_module.patcher.model.sites()
    )
    if reason:
        raise ValueError(
            f"{settings.name} does not fit this model: {reason}. Load a motion module made for this kind of model."
        )
    model = model.clone()
    if settings.effect == 0 and beta_schedule == AUTO_SCHEDULE:
        return model  # nothing is added, so there is no motion whose noise schedule would matter
    attached = model.get_additional_models_with_key(KEY)
    earlier = model.get_attachment(KEY) or ()
    patcher = _patcher_for(motion_module, list(zip(attached, earlier)), bool(motion_loras))
    loras = model.get_additional_models_with_key(LORA_KEY)
    new_loras, scheduled = add_motion_loras(patcher, motion_loras, len(loras))
    settings = replace(settings, scheduled_loras=scheduled)
    model.set_additional_models(KEY, [*attached, patcher])
    model.set_additional_models(LORA_KEY, [*loras, *new_loras])
    model.set_attachments(KEY, (*earlier, settings))
    for wrapper_type, wrapper in ((WrappersMP.OUTER_SAMPLE, check_motion_ran), (WrappersMP.APPLY_MODEL, run_motion)):
        model.remove_wrappers_with_key(wrapper_type, KEY)
        model.add_wrapper_with_key(wrapper_type, KEY, wrapper)
    follow_frames(model)
    if beta_schedule == AUTO_SCHEDULE:
        set_beta_schedule(model, motion_module.config.beta_schedule)
    elif beta_schedule != KEEP_SCHEDULE:
        set_beta_schedule(model, BETA_SCHEDULES[beta_schedule])
    return model


def _patcher_for(
    motion_module: LoadedMotionModule, attached: list[tuple[ModelPatcher, MotionSettings]], has_loras: bool
) -> ModelPatcher:
    """A clone for this MODEL; or a copy with its own weights, if the module is on it with other MotionLoRAs."""
    twins = [(p, settings) for p, settings in attached if p.model is motion_module.patcher.model]
    if twins and (has_loras or any(p.patches or settings.scheduled_loras for p, settings in twins)):
        return motion_patcher(motion_module.source)
    return motion_module.patcher.clone()


def run_motion(executor, *args, **kwargs):
    """APPLY_MODEL wrapper: hook the UNet for this one call with the motion modules that act at its noise level."""
    model = executor.class_obj
    patcher = model.current_patcher
    call = named_arguments(executor, args, kwargs)
    options = call["transformer_options"]
    num_frames = call["x"].shape[0] // len(options.get("cond_or_uncond", (0,)))

    attention = partial(comfy.ldm.modules.attention.optimized_attention, transformer_options=options)
    motions, norm_over_frames, loras = [], False, []
    for motion, settings in zip(patcher.get_additional_models_with_key(KEY), patcher.get_attachment(KEY)):
        if not settings.acts_at(call["t"][0], model.model_sampling):
            motions.append(({}, {}))
            continue
        config = motion.model.config
        if num_frames > config.max_frames:
            raise ValueError(
                f"{settings.name} ({config.family}) knows {config.max_frames} frames, but the batch has {num_frames}. "
                f"Use at most {config.max_frames} frames, or add Context Options with a context_length of at most that."
            )
        arguments = {"motion_scale": settings.motion_scale, "effect": settings.effect, "attention": attention}
        motions.append((motion.model.sites(), arguments))
        norm_over_frames |= config.unet_norm_over_frames
        loras += [(motion.model, lora) for lora in settings.scheduled_loras]
    run = options.get(KEY) or MotionRun()
    with ExitStack() as hooks:
        if loras:
            percent = percent_of(call["t"][0], model.model_sampling)
            layers = patcher.get_additional_models_with_key(LORA_KEY)
            for module, lora in loras:
                hooks.enter_context(added(module, layers[lora.number].model, lora.strength_at(percent)))
        hooks.enter_context(motion_in_unet(model.diffusion_model, motions, num_frames, norm_over_frames, run.ran))
        return executor(*args, **kwargs)


def check_motion_ran(executor, *args, **kwargs):
    """OUTER_SAMPLE wrapper: fail loudly if a motion module should have acted in this run and never did."""
    guider = executor.class_obj
    run = MotionRun()
    call = named_arguments(executor, args, kwargs)
    options = guider.model_options.setdefault("transformer_options", {})
    options[KEY] = run
    # AnimateDiff-Evolved's contract with other packs; a context handler puts in the window at hand
    options["ad_params"] = {"full_length": call["noise"].shape[0], "context_length": None, "sub_idxs": None}
    output = executor(*args, **kwargs)
    patcher = guider.model_patcher
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


def percent_of(sigma: float | Tensor, model_sampling) -> float:
    """How far sampling is at noise level `sigma`; the reverse of the host's percent_to_sigma."""
    return 1.0 - float(model_sampling.timestep(torch.as_tensor(float(sigma)))) / 999.0
