"""Motion modules on a MODEL: attached to a clone of it. sampling.py is what they do while it samples."""

from dataclasses import replace

from comfy.model_patcher import ModelPatcher

from ....motion_modules.config import MotionModuleConfig
from ....motion_modules.families import BETA_SCHEDULES
from ...timeline.blocks import check_blocks
from ..controls.hints import follow_frames
from ..core.attached import attach, attached_to
from ..core.preview import show_the_clip
from ..core.unet import feed_forward_slices, fit_problem, require_unet
from .beta_schedule import set_beta_schedule
from .loras import LoadedMotionLora, add_motion_loras
from .module import LoadedMotionModule, motion_patcher
from .sampling import MotionSettings

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
    check_fit(model, motion_module, settings)
    model = model.clone()
    if settings.effect == 0 and beta_schedule == AUTO_SCHEDULE:
        follow_frames(model)
        return model  # nothing is added, so there is no motion whose noise schedule would matter
    patcher = _patcher_for(motion_module, model, bool(motion_loras))
    layers, strengths = add_motion_loras(patcher, motion_loras)
    slices = feed_forward_slices(model.get_model_object("diffusion_model"))
    settings = replace(settings, scheduled_loras=strengths, feed_forward_slices=slices)
    attach(model, settings, [patcher, *layers])
    follow_frames(model)
    show_the_clip(model)
    if beta_schedule == AUTO_SCHEDULE:
        set_beta_schedule(model, motion_module.config.family.beta_schedule)
    elif beta_schedule != KEEP_SCHEDULE:
        set_beta_schedule(model, BETA_SCHEDULES[beta_schedule])
    return model


def check_fit(model: ModelPatcher, motion_module: LoadedMotionModule, settings: MotionSettings) -> None:
    """Raises ValueError unless the motion module fits the model's UNet, and the settings fit the motion module."""
    require_fit(model, motion_module, settings.name)
    check_still(settings, motion_module.config)
    sites = motion_module.patcher.model.sites
    for control in settings.controls:
        check_blocks(control.blocks, sites, sites, "Motion Control")


def require_fit(model: ModelPatcher, motion_module: LoadedMotionModule, name: str) -> None:
    """Raises ValueError, naming the motion module as it is to be called, unless it fits the model's UNet."""
    unet, unet_config = require_unet(model, name), model.model.model_config.unet_config
    if problem := fit_problem(unet, unet_config, motion_module.config, motion_module.patcher.model.sites):
        advice = "Load a motion module made for this kind of model."
        raise ValueError(f"{name} does not fit this model: {problem}. {advice}")


def check_still(settings: MotionSettings, config: MotionModuleConfig) -> None:
    if config.family.image_input and settings.still is None:
        raise ValueError(f"{settings.name} ({config.family}) animates a still: connect Motion Image to motion_image.")
    if settings.still is not None and not config.family.image_input:
        raise ValueError(
            f"{settings.name} ({config.family}) takes no image; only PIA and AnimateLCM-I2V do. To begin from an image "
            "with this motion module, use Start From Image."
        )


def _patcher_for(motion_module: LoadedMotionModule, model: ModelPatcher, has_loras: bool) -> ModelPatcher:
    """A clone for this MODEL; or a copy with weights of its own.

    That is where the MODEL runs on another device than motion modules are loaded for, or where the motion module is on
    it already with other MotionLoRAs.
    """
    twins = [models for _, models in attached_to(model) if models and models[0].model is motion_module.patcher.model]
    others = twins and (has_loras or any(len(models) > 1 or models[0].patches for models in twins))
    if others or motion_module.patcher.load_device != model.load_device:
        return motion_patcher(motion_module.source, model.load_device)
    return motion_module.patcher.clone()
