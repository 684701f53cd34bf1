"""A motion module while its MODEL samples: what it answers to each call of the UNet."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import comfy.ldm.modules.attention
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....lora.layers import LowRankUse
from ....motion_modules.config import MotionModuleConfig
from ....motion_modules.motion_module import MotionModule
from ....motion_modules.temporal_transformer import plus_by_frame
from ...timeline.keyframes import Keyframes, check_range
from ..core.call import Answer, Call, in_range
from .control import MotionControl, Strengths, strengths_in
from .image import EncodedImage, MotionImage


@dataclass(frozen=True)
class MotionSettings:
    """How one motion module acts; percents are of the sampling range, 0 its start.

    scheduled_loras: strengths over the sampling range of MotionLoRAs whose layers follow the motion module among its
    models.
    """

    name: str
    motion_scale: float = 1.0
    effect: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    controls: tuple[MotionControl, ...] = ()
    still: MotionImage | None = None
    scheduled_loras: tuple[Keyframes, ...] = ()

    def __post_init__(self):
        check_range(self.start_percent, self.end_percent)

    def acts_at(self, sigma: float | Tensor, model_sampling) -> bool:
        return self.effect != 0 and in_range(self.start_percent, self.end_percent, sigma, model_sampling)

    def prepare(self, patcher: ModelPatcher, height: int, width: int) -> EncodedImage | None:
        return self.still.encoded(patcher, height, width) if self.still else None

    def strengths_in(self, call: Call) -> Strengths:
        return strengths_in(call, self.motion_scale, self.effect, self.controls)

    def answer(self, call: Call, models: list[ModelPatcher], prepared: EncodedImage | None) -> Answer:
        """models: the motion module, and the layers of each scheduled MotionLoRA."""
        module, *low_rank = (patcher.model for patcher in models)
        check_length(self.name, module.config, call.num_frames)
        features = prepared.features(module, call) if prepared else {}
        at_sites = acting_transformers(module, self.strengths_in(call), features, call)
        if not at_sites:
            return Answer()  # switched off in every block
        return Answer(
            at_sites,
            prepared.first_conv(module, call) if prepared else None,
            module.config.family.unet_norm_over_frames,
            tuple(
                LowRankUse(module, layers, strength.at(call.percent))
                for layers, strength in zip(low_rank, self.scheduled_loras, strict=True)
            ),
        )


def acting_transformers(
    module: MotionModule, strengths: Strengths, features: Mapping[str, Tensor], call: Call
) -> dict[str, Callable[[Tensor], Tensor]]:
    """A motion module's temporal transformers, ready to be called with hidden states, by site; without those at 0.

    features: (F, C, h, w) to add, frame by frame, to what goes into a site.
    """
    attention = partial(comfy.ldm.modules.attention.optimized_attention, transformer_options=call.options)
    sites = {}
    for site, transformer in module.sites().items():
        effect = strengths.effect_at(site)
        if isinstance(effect, Tensor) or effect != 0:
            act = partial(
                transformer,
                num_frames=call.num_frames,
                motion_scale=strengths.motion_scale,
                effect=effect,
                attention=attention,
            )
            sites[site] = _after_adding(features[site], act) if site in features else act
    return sites


def _after_adding(feature: Tensor, act: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: act(plus_by_frame(x, feature))


def check_length(name: str, config: MotionModuleConfig, num_frames: int) -> None:
    if num_frames > config.max_frames:
        raise ValueError(
            f"{name} ({config.family}) knows {config.max_frames} frames, but the batch has {num_frames}. "
            f"Use at most {config.max_frames} frames, or add Context Options with a context_length of at most that."
        )
