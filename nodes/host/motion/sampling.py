"""A motion module while its MODEL samples: what it answers to each call of the UNet."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ....lora.layers import LowRankUse
from ....motion_modules.motion_module import MotionModule
from ....motion_modules.temporal_transformer import TemporalTransformer, plus_by_frame
from ...timeline.keyframes import check_range
from ..core.attention import attention_over_frames
from ..core.call import Answer, Call, check_length, in_range
from .control import MotionControl, MotionFactors, factors_in
from .image import MotionImage
from .loras import ScheduledStrength
from .run import MotionRun


@dataclass(frozen=True)
class MotionSettings:
    """How one motion module acts; percents are of the sampling range, 0 its start.

    scheduled_loras: factors of MotionLoRAs whose layers follow the motion module among its models.
    feed_forward_slices: by site, where the motion module's feed-forward would need more memory than the UNet's own.
    """

    name: str
    motion_scale: float = 1.0
    effect: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    controls: tuple[MotionControl, ...] = ()
    still: MotionImage | None = None
    scheduled_loras: tuple[ScheduledStrength, ...] = ()
    feed_forward_slices: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self):
        check_range(self.start_percent, self.end_percent)

    def acts_at(self, sigma: float | Tensor, model_sampling) -> bool:
        return self.effect != 0 and in_range(self.start_percent, self.end_percent, sigma, model_sampling)

    def prepare(self, patcher: ModelPatcher, height: int, width: int) -> MotionRun:
        return MotionRun(self.still.encoded(patcher, height, width) if self.still else None)

    def factors_in(self, call: Call, run: MotionRun) -> MotionFactors:
        return factors_in(call, self.motion_scale, self.effect, self.controls, run.masks)

    def answer(self, call: Call, models: list[ModelPatcher], prepared: MotionRun | None) -> Answer:
        """models: the motion module, and the layers of each scheduled MotionLoRA."""
        run = prepared or MotionRun()
        module, *low_rank = (patcher.model for patcher in models)
        check_length(f"{self.name} ({module.config.family})", module.config.max_frames, call)
        at_sites = self.acting_transformers(module, call, run)
        if not at_sites:
            return Answer()  # switched off in every block
        return Answer(
            at_sites,
            run.still.first_conv(module, call) if run.still else None,
            module.config.family.unet_norm_over_frames,
            tuple(
                LowRankUse(module, layers, strength.at(call.percent))
                for layers, strength in zip(low_rank, self.scheduled_loras, strict=True)
            ),
        )

    def acting_transformers(
        self, module: MotionModule, call: Call, run: MotionRun
    ) -> dict[str, Callable[[Tensor], Tensor]]:
        """The module's temporal transformers, ready to be called with hidden states, by site; without those at 0."""
        factors = self.factors_in(call, run)
        features = run.still.features(module, call) if run.still else {}
        acting = {}
        for site, transformer in module.sites.items():
            share = factors.block_effect(site)
            if share != 0 and not factors.effect.is_zero:
                slices = self.feed_forward_slices.get(site, 1)
                positions = run.positions.of(module, site, call.latents.device, call.dtype)
                acting[site] = acting_at_site(
                    transformer, call, factors, share, positions, slices, features.get(site)
                )
        return acting


def acting_at_site(
    transformer: TemporalTransformer,
    call: Call,
    factors: MotionFactors,
    share: float,
    positions: tuple[Tensor, ...],
    slices: int,
    feature: Tensor | None,
) -> Callable[[Tensor], Tensor]:
    """share: factor on the effect. feature: (F, C, h, w) to add, frame by frame, to what goes in."""

    def act(x: Tensor) -> Tensor:
        if feature is not None:
            x = plus_by_frame(x, feature)
        return transformer(
            x,
            call.num_frames,
            factors.motion_scale.at(x),
            factors.effect.at(x) * share,
            attention_over_frames,
            positions,
            slices,
            call.views,
        )

    return act
