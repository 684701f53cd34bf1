"""Low-rank changes that learn, on the layers that inference runs them with (Hu et al. 2021, arXiv 2106.09685).

A change starts at nothing: `down` random, `up` zero. It acts beside its layer, scaled by alpha / rank, so that no
weight of the frozen layer is touched; in files, whose readers know no alpha, the scale is folded into `up`.
"""

from collections.abc import Mapping
import re

import torch
from torch import Tensor, nn

from ..lora.files import original_state_dict
from ..lora.layers import LowRankLayers
from ..lora.low_rank import LowRank, MotionLora
from ..motion_modules.motion_module import MotionModule

TEMPORAL_ATTENTION_LAYER = re.compile(r"\.attention_blocks\.\d+\.to_(?:q|k|v|out\.0)$")


def temporal_attention_layers(motion: MotionModule) -> list[str]:
    """The paths of a motion module's q, k, v and out layers, which a MotionLoRA changes (section 4.3)."""
    return [path for path, _ in motion.named_modules() if TEMPORAL_ATTENTION_LAYER.search(path)]


def fresh_low_rank(module: nn.Module, paths: list[str], rank: int, seed: int) -> LowRankLayers:
    """Layers for the nn.Linear at each path of `module`, in float32 and on its devices; together they change nothing.

    Raises ValueError for a rank that is no rank or for no layers at all.
    """
    if rank < 1:
        raise ValueError(f"rank {rank} holds nothing: choose 1 or more, for example 16.")
    if not paths:
        raise ValueError("there is no attention layer to train in this model: it is not a Stable Diffusion 1.5 UNet.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changes = {path: _fresh_change(module.get_submodule(path), rank) for path in paths}
    return low_rank_layers(changes)


def low_rank_layers(changes: Mapping[str, LowRank]) -> LowRankLayers:
    """Layers of given changes, by the path of the layer that each belongs to, in float32."""
    lora = {f"{path}.weight": change for path, change in changes.items()}
    layers = LowRankLayers(lora, nn)
    layers.load_state_dict(LowRankLayers.state_dict_of(lora))
    return layers.float()


def low_rank_of(layers: LowRankLayers, scale: float) -> MotionLora:
    """What layers have learnt, by the weight that it changes; on the CPU, with alpha = scale * rank."""
    return {
        target: LowRank(up.weight.detach().cpu().clone(), down.weight.detach().cpu().clone(), scale * down.out_features)
        for target, down, up in zip(layers.targets, layers.down, layers.up, strict=True)
    }


def motion_lora_weights(layers: LowRankLayers, scale: float) -> dict[str, Tensor]:
    """A MotionLoRA file in AnimateDiff's own keys."""
    return original_state_dict(low_rank_of(layers, scale))


def adapter_weights(layers: LowRankLayers, scale: float, diffusers_paths: Mapping[str, str]) -> dict[str, Tensor]:
    """A domain-adapter file in the keys of AnimateDiff v3's: diffusers' attention processors.

    diffusers_paths: path of each trained layer -> path in diffusers' UNet, as `Base.attention_layers` gives them.
    """
    weights = {}
    for target, change in low_rank_of(layers, scale).items():
        path = diffusers_paths[target.removesuffix(".weight")].removesuffix(".0")
        attention, _, layer = path.rpartition(".")
        name = f"{attention}.processor.{layer}_lora"
        weights[f"{name}.down.weight"] = change.down
        weights[f"{name}.up.weight"] = change.up * change.scale
    return weights


def _fresh_change(layer: nn.Linear, rank: int) -> LowRank:
    down = torch.empty(rank, layer.in_features)
    nn.init.kaiming_uniform_(down, a=5**0.5)
    return LowRank(torch.zeros(layer.out_features, rank), down)
