"""MotionLoRAs on a motion module: through the host's own patches, so that their factors stay low-rank in memory."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

from comfy.model_patcher import ModelPatcher
import comfy.weight_adapter

from ...lora.files import read_motion_lora
from ...lora.layers import LowRankLayers
from ...lora.low_rank import MotionLora
from ...lora.schedule import StrengthSchedule
from .folders import MOTION_LORAS
from .motion_models import FileShare, LoadedMotionModule, patcher_of
from .weight_files import load_weights_and_metadata


@dataclass(frozen=True, eq=False)
class LoadedMotionLora:
    """One entry of a MotionLoRA stack (a tuple of these travels between nodes).

    files: what went into `lora`, as (model folder, file name, strength).
    """

    name: str
    strength: float
    lora: MotionLora
    files: tuple[FileShare, ...]
    schedule: StrengthSchedule | None = None

    @property
    def rank(self) -> int:
        return max(change.rank for change in self.lora.values())

    def settled(self) -> "LoadedMotionLora":
        """With a schedule that never changes folded into the strength."""
        if self.schedule is None or not self.schedule.is_flat:
            return self
        return replace(self, strength=self.strength * self.schedule.start_strength, schedule=None)


@dataclass(frozen=True)
class ScheduledLora:
    """A MotionLoRA whose strength changes while sampling; `number` is that of its layers on the MODEL."""

    number: int
    strength: float
    schedule: StrengthSchedule

    def strength_at(self, percent: float) -> float:
        return self.strength * self.schedule.at(percent)


def load_motion_lora(name: str, strength: float) -> LoadedMotionLora:
    """Load a file of the `animatediff_motion_lora` folders. Raises ValueError, naming the file, for anything else."""
    content, metadata = load_weights_and_metadata(MOTION_LORAS, name)
    try:
        lora = read_motion_lora(content, metadata)
    except ValueError as error:
        raise ValueError(f"{name} cannot be used as a MotionLoRA: {error}") from None
    return LoadedMotionLora(name, strength, lora, ((MOTION_LORAS, name, 1.0),))


def add_motion_loras(
    patcher: ModelPatcher, stack: tuple[LoadedMotionLora, ...], first_number: int
) -> tuple[list[ModelPatcher], tuple[ScheduledLora, ...]]:
    """Put a stack on a motion module's patcher: W + sum_i strength_i * alpha_i / rank_i * up_i @ down_i.

    Constant strengths become weight patches. A changing one becomes layers of its own, in a patcher that is returned
    with its schedule; numbers count from `first_number`. Raises ValueError for a MotionLoRA that does not fit.
    """
    layers, scheduled = [], []
    # a fixed order, because sums of floats depend on it
    for entry in sorted((e.settled() for e in stack), key=lambda e: (e.name, e.strength)):
        if entry.strength == 0:
            continue
        lora = fitting(patcher.model, entry)
        if entry.schedule is None:
            patches = {
                target: comfy.weight_adapter.LoRAAdapter(set(), (c.up, c.down, c.alpha, None, None, None))
                for target, c in lora.items()
            }
            patcher.add_patches(patches, entry.strength)
        else:
            scheduled.append(ScheduledLora(first_number + len(layers), entry.strength, entry.schedule))
            layers.append(layers_patcher(lora))
    return layers, tuple(scheduled)


def layers_patcher(lora: MotionLora, disable_dynamic: bool = False) -> ModelPatcher:
    patcher = patcher_of(partial(LowRankLayers, lora), LowRankLayers.state_dict_of(lora), disable_dynamic)
    patcher.cached_patcher_init = (layers_patcher, (lora,))
    return patcher


def fitting(module, entry: LoadedMotionLora) -> MotionLora:
    """The part of a MotionLoRA that the motion module has layers for.

    Raises ValueError if there is none, or a size is wrong.
    """
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    lora = {target: change for target, change in entry.lora.items() if target in shapes}
    if not lora:
        raise ValueError(f"{entry.name} changes no layer that this motion module ({module.config.family}) has.")
    for target, change in lora.items():
        if change.shape != shapes[target]:
            raise ValueError(
                f"{entry.name} does not fit this motion module ({module.config.family} for {module.config.unet}): "
                f"{target} is {shapes[target]}, but the MotionLoRA was made for {change.shape}."
            )
    return lora


def describe_fit(motion_module: LoadedMotionModule, stack: tuple[LoadedMotionLora, ...]) -> str:
    """A line for each MotionLoRA: rank, and which of its targets are skipped and why."""
    lines = []
    for entry in stack:
        total, used = len(entry.lora), len(fitting(motion_module.patcher.model, entry))
        line = f"{entry.name}: rank {entry.rank}, {used} of {total} layers"
        if used < total:
            missing = Counter(
                target.split(".motion_modules")[0] for target in entry.lora.keys() - _names(motion_module)
            )
            line += "; skipped, because this motion module has none there: " + ", ".join(
                f"{count} in {block}" for block, count in sorted(missing.items())
            )
        lines.append(line)
    return "\n".join(lines)


def _names(motion_module: LoadedMotionModule) -> set[str]:
    return set(motion_module.patcher.model.state_dict())
