"""The noise schedule that a motion module was trained with, put on a MODEL as an object patch."""

import logging
from types import SimpleNamespace

from comfy.model_patcher import ModelPatcher
import comfy.model_sampling
import torch
from torch import Tensor

from ....motion_modules.families import BetaSchedule

logger = logging.getLogger(__name__)


def set_beta_schedule(model: ModelPatcher, schedule: BetaSchedule) -> None:
    """Give `model` (a clone of ours) this schedule; its prediction type (eps, v...) and zero-SNR setting stay, unless
    the schedule names its own, which then stay under the next one.

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
    settings.update(linear_start=schedule.linear_start, linear_end=schedule.linear_end)
    kind = type(current) if schedule.v_prediction is None else _class_of(schedule.v_prediction)
    if schedule.lcm_timesteps:
        if isinstance(current, comfy.model_sampling.V_PREDICTION):
            logger.warning("This model predicts v, which AnimateLCM's sampling does not know; expect wrong frames.")
        kind = _lcm_class(schedule.lcm_timesteps)
    zero_snr = current.zsnr if schedule.zero_snr is None else schedule.zero_snr

    def sampling_of(name: str) -> comfy.model_sampling.ModelSamplingDiscrete:
        config = SimpleNamespace(sampling_settings={**settings, "beta_schedule": name})
        return with_own_tables(kind)(config, zsnr=zero_snr)

    sampling = sampling_of(schedule.beta_schedule)
    if schedule.averaged_with:
        sampling.set_sigmas((sampling.sigmas + sampling_of(schedule.averaged_with).sigmas) / 2)
    sampling.move_tables(model.load_device)
    if schedule.lcm_timesteps:
        sampling.animatic_replaced = (current,)  # in a tuple, so that it is no submodule
    model.add_object_patch("model_sampling", sampling)


class OwnTables:
    """Mixed into the host's sampling classes: a schedule whose tables are no buffers of the model.

    ComfyUI's dynamic memory manager remembers a model's buffers by their path, for all clones, and writes what it
    remembers into whatever stands there when a clone is loaded (ModelPatcherDynamic.restore_loaded_backups). With
    buffers here, the plain model would sample with this schedule afterwards, and this one with the plain model's.
    """

    def set_sigmas(self, sigmas: Tensor) -> None:
        self.sigmas, self.log_sigmas = sigmas.float(), sigmas.log().float()

    def move_tables(self, device: torch.device) -> None:
        """To where the model computes: each step looks its noise levels up there, without waiting for the device."""
        self.sigmas, self.log_sigmas = self.sigmas.to(device), self.log_sigmas.to(device)

    def register_buffer(self, *args, **kwargs) -> None:
        """What the host writes here belongs to another clone of the model."""


def with_own_tables(kind: type) -> type:
    return kind if issubclass(kind, OwnTables) else type(kind.__name__, (OwnTables, kind), {})


def _class_of(v_prediction: bool) -> type:
    """Sampling of a model that predicts v, or noise, as the host makes it."""
    predicts = comfy.model_sampling.V_PREDICTION if v_prediction else comfy.model_sampling.EPS
    return type("ModelSampling", (comfy.model_sampling.ModelSamplingDiscrete, predicts), {})


def _lcm_class(timesteps: int) -> type:
    """Sampling of a consistency-distilled model, as the stock node ModelSamplingDiscrete makes it."""
    from comfy_extras.nodes_model_advanced import LCM, ModelSamplingDiscreteDistilled

    return type("ModelSamplingLCM", (ModelSamplingDiscreteDistilled, LCM), {"original_timesteps": timesteps})
