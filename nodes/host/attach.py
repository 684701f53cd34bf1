"""Motion modules on a MODEL: attached to a clone of it.

A MODEL carries motion modules as additional models (so that the host loads and offloads them) and, in the same
order, their settings as an attachment. run.py is what happens while it samples.
"""

from dataclasses import replace

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ...motion_modules.config import BETA_SCHEDULES, MotionModuleConfig
from .hints import follow_frames
from .motion_control import check_blocks
from .motion_loras import LoadedMotionLora, add_motion_loras
from .motion_models import LoadedMotionModule, motion_patcher
from .run import KEY, LORA_KEY, MotionSettings, sample_with_motion, run_motion
from .schedules import set_beta_schedule
from .unet import misfit

AUTO_SCHEDULE = "auto"
KEEP_SCHEDULE = "use existing"


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
    check_still(settings, motion_module.config)
    for control in settings.controls:
        check_blocks(control, list(motion_module.patcher.model.sites()))
    model = model.clone()
    if settings.effect == 0 and beta_schedule == AUTO_SCHEDULE:
        return model  # nothing is added, so there is no motion whose noise schedule would matter
    carried = model.get_additional_models_with_key(KEY)
    earlier = model.get_attachment(KEY) or ()
    patcher = _patcher_for(motion_module, list(zip(carried, earlier)), bool(motion_loras))
    loras = model.get_additional_models_with_key(LORA_KEY)
    new_loras, scheduled = add_motion_loras(patcher, motion_loras, len(loras))
    settings = replace(settings, scheduled_loras=scheduled)
    model.set_additional_models(KEY, [*carried, patcher])
    model.set_additional_models(LORA_KEY, [*loras, *new_loras])
    model.set_attachments(KEY, (*earlier, settings))
    for wrapper_type, wrapper in ((WrappersMP.OUTER_SAMPLE, sample_with_motion), (WrappersMP.APPLY_MODEL, run_motion)):
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


def check_still(settings: MotionSettings, config: MotionModuleConfig) -> None:
    if config.image_input and settings.still is None:
        raise ValueError(f"{settings.name} ({config.family}) animates a still: connect Motion Image to motion_image.")
    if settings.still is not None and not config.image_input:
        raise ValueError(
            f"{settings.name} ({config.family}) takes no image; only PIA and AnimateLCM-I2V do. To begin from an image "
            "with this motion module, use Start From Image."
        )
