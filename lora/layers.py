"""Low-rank changes as layers, for a strength that changes while the weights stay."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from ..motion_modules.changed_forward import Change, Forward
from .low_rank import MotionLora


class LowRankLayers(nn.Module):
    """down and up of every target as linear layers without bias; alpha is folded into up."""

    def __init__(self, lora: MotionLora, operations, dtype=None, device=None):
        super().__init__()
        self.targets = list(lora)
        options = {"bias": False, "dtype": dtype, "device": device}
        self.down = nn.ModuleList(operations.Linear(c.shape[1], c.rank, **options) for c in lora.values())
        self.up = nn.ModuleList(operations.Linear(c.rank, c.shape[0], **options) for c in lora.values())

    @staticmethod
    def state_dict_of(lora: MotionLora) -> dict[str, Tensor]:
        weights = {}
        for number, change in enumerate(lora.values()):
            weights[f"down.{number}.weight"] = change.down
            weights[f"up.{number}.weight"] = change.up.float() * change.scale
        return weights


@dataclass(frozen=True)
class LowRankUse:
    """Layers that change `module` at a strength."""

    module: nn.Module
    layers: LowRankLayers
    strength: float

    def changes(self) -> Iterator[Change]:
        """For `changed_forwards`: each target layer of the module also gives strength * up(down(x))."""
        for target, down, up in zip(self.layers.targets, self.layers.down, self.layers.up, strict=True):
            yield self.module.get_submodule(target.removesuffix(".weight")), low_rank_added(down, up, self.strength)


def low_rank_added(down: nn.Module, up: nn.Module, strength: float) -> Callable[[Forward], Forward]:
    return lambda forward: lambda x: forward(x) + strength * up(down(x))
