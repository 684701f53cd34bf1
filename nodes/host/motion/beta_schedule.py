"""The noise schedule that a motion module was trained with, put on a MODEL as an object patch."""

import logging
from types import SimpleNamespace

from comfy.model_patcher import ModelPatcher
import comfy.model_sampling

from ....motion_modules.families import BetaSchedule

logger = logging.getLogger(__name__)


def set_beta_schedule(model: ModelPatcher, schedule: BetaSchedule) -> None:
    """Give `model` (a clone of ours) this schedule; its prediction type (eps, v...) and zero-SNR setting stay.

    A schedule of LCM's brings its own prediction type; one after it goes back to the model's.
    """
    current = model.get_model_object("model_sampling")
    if getattr(current, "animatic_replaced", None) is not None:
        current = current.animatic_replaced[0]
    if not isinstance(current, comfy.model_sampling.ModelSamplingDiscrete):
        logger.warning(
            "The model's noise schedule (%s) is not a beta schedule and was left as it is.", type(current).__name__
        )
        return
    settings = dict(model.model.model_config.sampling_settings)
    settings.update(
        beta_schedule=schedule.beta_schedule, linear_start=schedule.linear_start, linear_end=schedule.linear_end
    )
    config = SimpleNamespace(sampling_settings=settings)
    if schedule.lcm_timesteps:
        if isinstance(current, comfy.model_sampling.V_PREDICTION):
            logger.warning("This model predicts v, which AnimateLCM's sampling does not know; expect wrong frames.")
        sampling = _lcm_class(schedule.lcm_timesteps)(config, zsnr=current.zsnr)
        sampling.animatic_replaced = (current,)  # in a tuple, so that it is no submodule
    else:
        sampling = type(current)(config, zsnr=current.zsnr)
    model.add_object_patch("model_sampling", sampling)


def _lcm_class(timesteps: int) -> type:
    """Sampling of a consistency-distilled model, as the stock node ModelSamplingDiscrete makes it."""
    from comfy_extras.nodes_model_advanced import LCM, ModelSamplingDiscreteDistilled

    return type("ModelSamplingLCM", (ModelSamplingDiscreteDistilled, LCM), {"original_timesteps": timesteps})
