"""MotionLoRAs on a motion module: through the host's own patches, so that their factors stay low-rank in memory."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

from comfy.model_patcher import ModelPatcher
import comfy.weight_adapter
import torch

from ....lora.files import read_motion_lora
from ....lora.layers import LowRankLayers
from ....lora.low_rank import MotionLora
from ....motion_modules.file_kind import FileKind
from ...timeline.keyframes import Keyframes
from ..core.file_advice import cannot_be_used
from ..core.folders import MOTION_LORAS
from ..core.patcher import patcher_of
from ..core.weight_files import load_weights_and_metadata
from .module import FileShare, LoadedMotionModule


@dataclass(frozen=True, eq=False)
class LoadedMotionLora:
    """One entry of a MotionLoRA stack (a tuple of these travels between nodes).

    schedule: a factor on the strength over the sampling range.
    files: what went into `lora`, as (model folder, file name, strength).
    """

    name: str
    strength: float
    lora: MotionLora
    files: tuple[FileShare, ...]
    schedule: Keyframes | None = None

    @property
    def rank(self) -> int:
        return max(change.rank for change in self.lora.values())

    def with_constant_folded(self) -> "LoadedMotionLora":
        """With a schedule that never changes folded into the strength."""
        if self.schedule is None or not self.schedule.is_constant:
            return self
        return replace(self, strength=self.strength * self.schedule.values[0], schedule=None)


@dataclass(frozen=True)
class ScheduledStrength:
    """A MotionLoRA's strength that changes while sampling."""

    strength: float
    schedule: Keyframes

    def at(self, percent: float) -> float:
        return self.strength * self.schedule.at(percent)


def load_motion_lora(name: str, strength: float) -> LoadedMotionLora:
    """Load a file of the `animatediff_motion_lora` folders. Raises ValueError, naming the file, for anything else."""
    content, metadata = load_weights_and_metadata(MOTION_LORAS, name)
    try:
        lora = read_motion_lora(content, metadata)
    except ValueError as error:
        raise cannot_be_used(name, "a MotionLoRA", FileKind.MOTION_LORA, content, error) from None
    return LoadedMotionLora(name, strength, lora, ((MOTION_LORAS, name, 1.0),))


def add_motion_loras(
    patcher: ModelPatcher, stack: tuple[LoadedMotionLora, ...]
) -> tuple[list[ModelPatcher], tuple[ScheduledStrength, ...]]:
    """Put a stack on a motion module's patcher: W + sum_i strength_i * alpha_i / rank_i * up_i @ down_i.

    Constant strengths become weight patches. A changing one becomes layers of its own, in a patcher that is returned
    with its strength. Raises ValueError for a MotionLoRA that does not fit.
    """
    layers, strengths = [], []
    # a fixed order, because sums of floats depend on it
    for entry in sorted((e.with_constant_folded() for e in stack), key=lambda e: (e.name, e.strength)):
        if entry.strength == 0:
            continue
        lora = part_that_fits(patcher.model, entry)
        if entry.schedule is None:
            patches = {
                target: comfy.weight_adapter.LoRAAdapter(set(), (c.up, c.down, c.alpha, None, None, None))
                for target, c in lora.items()
            }
            patcher.add_patches(patches, entry.strength)
        else:
            strengths.append(ScheduledStrength(entry.strength, entry.schedule))
            layers.append(layers_patcher(lora, patcher.load_device))
    return layers, tuple(strengths)


def layers_patcher(lora: MotionLora, load_device: torch.device, disable_dynamic: bool = False) -> ModelPatcher:
    weights = LowRankLayers.state_dict_of(lora)
    patcher = patcher_of(partial(LowRankLayers, lora), weights, load_device, disable_dynamic)
    patcher.cached_patcher_init = (layers_patcher, (lora, load_device))
    return patcher


def part_that_fits(module, entry: LoadedMotionLora) -> MotionLora:
    """The part of a MotionLoRA that the motion module has layers for.

    Raises ValueError if there is none, or a size is wrong.
    """
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    lora = {target: change for target, change in entry.lora.items() if target in shapes}
    if not lora:
        raise ValueError(
            f"{entry.name} changes no layer that this motion module ({module.config.family}) has. "
            "Choose one made for it."
        )
    for target, change in lora.items():
        if change.shape != shapes[target]:
            raise ValueError(
                f"{entry.name} does not fit this motion module ({module.config.family} for {module.config.unet}): "
                f"{target} is {shapes[target]}, but the MotionLoRA was made for {change.shape}. "
                "Choose one made for it."
            )
    return lora


def describe_fit(motion_module: LoadedMotionModule, stack: tuple[LoadedMotionLora, ...]) -> str:
    """A line for each MotionLoRA: rank, and which of its targets are skipped and why."""
    module = motion_module.patcher.model
    lines = []
    for entry in stack:
        fits = part_that_fits(module, entry)
        line = f"{entry.name}: rank {entry.rank}, {len(fits)} of {len(entry.lora)} layers"
        if len(fits) < len(entry.lora):
            skipped = Counter(target.split(".motion_modules")[0] for target in entry.lora.keys() - fits.keys())
            line += "; skipped, because this motion module has none there: " + ", ".join(
                f"{count} in {block}" for block, count in sorted(skipped.items())
            )
        lines.append(line)
    return "\n".join(lines)
