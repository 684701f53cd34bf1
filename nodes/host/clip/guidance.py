"""CFG that changes along sampling and from frame to frame, with the host's own guider."""

from dataclasses import dataclass
import logging

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
import torch
from torch import Tensor

from ...timeline.keyframes import Keyframes
from ..core.arguments import named_arguments
from ..core.call import percent_of
from ..core.patcher import set_wrapper

logger = logging.getLogger(__name__)
KEY = "animatic_cfg"
AFTER_CFG = "sampler_post_cfg_function"


@dataclass(frozen=True)
class FrameGuidance:
    """A function that the host calls after CFG: gives each frame its factor on the cfg of the step."""

    by_frame: Keyframes

    def __call__(self, args: dict) -> Tensor:
        """denoised + (g_f - g) * (cond - uncond), exact for plain CFG."""
        denoised, guided = args["denoised"], args["cond_denoised"] - args["uncond_denoised"]
        factors = torch.tensor(self.by_frame.over(range(denoised.shape[0]))).to(denoised)
        more = (factors - 1) * args["cond_scale"]
        return denoised + more.view(-1, *[1] * (denoised.ndim - 1)) * guided


def set_cfg_schedule(model: ModelPatcher, by_step: Keyframes | None, by_frame: Keyframes) -> ModelPatcher:
    """A clone of `model` whose cfg is by_step's (None: the sampler's), times by_frame. It replaces an earlier one."""
    model = model.clone()
    others = [f for f in model.model_options.get(AFTER_CFG, []) if not isinstance(f, FrameGuidance)]
    model.model_options[AFTER_CFG] = others
    if by_frame.values != (1.0,):
        model.set_model_sampler_post_cfg_function(FrameGuidance(by_frame), disable_cfg1_optimization=True)
    model.set_attachments(KEY, by_step)
    set_wrapper(model, WrappersMP.OUTER_SAMPLE, KEY, check_guider)
    set_wrapper(model, WrappersMP.PREDICT_NOISE, KEY, predict_with_cfg)
    return model


def check_guider(executor, *args, **kwargs):
    """OUTER_SAMPLE wrapper: says once in a run that a guider has no cfg to change."""
    guider = executor.class_obj
    if not has_cfg(guider):
        logger.warning("CFG Schedule does nothing here: %s has no cfg and negative prompt.", type(guider).__name__)
        options = guider.model_options  # the run's own
        options[AFTER_CFG] = [f for f in options.get(AFTER_CFG, []) if not isinstance(f, FrameGuidance)]
    return executor(*args, **kwargs)


def predict_with_cfg(executor, *args, **kwargs):
    """PREDICT_NOISE wrapper: the guider has the cfg of this noise level for the length of one call."""
    guider = executor.class_obj
    by_step = guider.model_patcher.get_attachment(KEY)
    if by_step is None or not has_cfg(guider):
        return executor(*args, **kwargs)
    sigma = named_arguments(executor, args, kwargs)["timestep"].flatten()[0]
    own = guider.cfg
    constant = by_step.values[0] if by_step.is_constant else None
    guider.cfg = by_step.at(percent_of(sigma, guider.inner_model.model_sampling)) if constant is None else constant
    try:
        return executor(*args, **kwargs)
    finally:
        guider.cfg = own


def has_cfg(guider) -> bool:
    """CFGGuider and what acts as it does; guiders of one prompt, or of two cfgs, are left alone."""
    conds = getattr(guider, "conds", None) or guider.original_conds
    return hasattr(guider, "cfg") and not hasattr(guider, "cfg2") and "negative" in conds
