"""Advanced-ControlNet's nodes: stock Apply ControlNet, and Control Strength for what changes along the clip."""

from collections.abc import Callable
from dataclasses import dataclass, field
import math
from typing import Any

from .graph import Input, Node, Out
from .work import Work

LOADERS = {
    "ControlNetLoaderAdvanced": "ControlNetLoader",
    "ACN_ControlNetLoaderAdvanced": "ControlNetLoader",
    "DiffControlNetLoaderAdvanced": "DiffControlNetLoader",
    "ACN_DiffControlNetLoaderAdvanced": "DiffControlNetLoader",
}
WITH_KEYFRAMES = (*LOADERS, "ACN_SparseCtrlLoaderAdvanced")

EASINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "ease-in": lambda x: x * x,
    "ease-out": lambda x: 1 - (1 - x) * (1 - x),
    "ease-in-out": lambda x: (1 - math.cos(x * math.pi)) / 2,
}


@dataclass
class Strengths:
    """What Control Strength is given. steps: position -> strength. frames: frame -> strength, None for all alike."""

    steps: dict[float, float] = field(default_factory=lambda: {0.0: 1.0})
    frames: dict[int, float] | None = None
    elsewhere: float = 0.0  # strength of frames without a number
    given: dict[str, Any] = field(default_factory=dict)

    def inputs(self) -> dict[str, Any]:
        """Inputs of Control Strength, none if it would change nothing."""
        inputs = dict(self.given)
        if set(self.steps.values()) != {1.0}:
            inputs["by_step"] = _written(self.steps)
        if self.frames is not None:
            inputs["by_frame"] = _written(_stepped(self.frames, self.elsewhere))
        if len(self.steps) > 1 or self.frames is not None:
            inputs["curve"] = "step"
        return inputs


def _written(numbers: dict[Any, float]) -> str:
    if len(set(numbers.values())) == 1:
        return f"{next(iter(numbers.values())):g}"
    return ", ".join(f"{at:g}: {value:g}" for at, value in sorted(numbers.items()))


def _stepped(frames: dict[int, float], elsewhere: float) -> dict[int, float]:
    """Numbers that hold until the next one, so that frames without one get `elsewhere`."""
    numbers = {0: elsewhere} | {frame + 1: elsewhere for frame in frames} | frames
    changes: dict[int, float] = {}
    for frame in sorted(numbers):
        if not changes or changes[max(changes)] != numbers[frame]:
            changes[frame] = numbers[frame]
    return changes


def strengths(work: Work, node: Node) -> Strengths:
    """All that a ControlNet's keyframes, masks and weights say, of the node that applies it and of its loader."""
    found = Strengths()
    loader = work.graph.node_behind(node.source("control_net"))
    names = [(node, "timestep_kf")]
    if loader and loader.type in WITH_KEYFRAMES:
        names.append((loader, "timestep_keyframe" if loader.type in LOADERS else "tk_optional"))
    for holder, name in names:
        if holder.input(name):
            _read_keyframes(work, holder, name, found)
            break
    override = work.carrier(node, "latent_kf_override")
    if override:
        _read_frames(work, override, found, elsewhere=0.0)
    weights = work.carrier(node, "weights_override")
    if weights:
        _read_weights(work, weights, found)
    if mask := node.source("mask_optional"):
        found.given["effect_mask"] = mask
    return found


def _read_keyframes(work: Work, holder: Node, name: str, found: Strengths) -> None:
    chain = work.chain(holder, name)
    if len(chain) == 1 and chain[0].type != "TimestepKeyframe":
        _read_weights(work, chain[0], found)
        return
    steps = {}
    for one in chain:
        if one.type != "TimestepKeyframe":
            work.lost(one, "write the strengths into Control Strength's by_step, e.g. '0: 1, 0.5: 0.3'")
            continue
        start, strength = work.value(one, "start_percent"), work.value(one, "strength")
        if start is None or strength is None:
            work.lost(one, "its numbers come by links; write Control Strength's by_step by hand")
            continue
        steps[float(start)] = float(strength)
        _read_one_keyframe(work, one, found, only=len(chain) == 1)
    if steps:
        found.steps = {0.0: steps.get(0.0, 1.0)} | steps


def _read_one_keyframe(work: Work, one: Node, found: Strengths, only: bool) -> None:
    latent, weights = work.carrier(one, "latent_keyframe"), work.carrier(one, "cn_weights")
    if not only and (latent or weights or one.input("mask_optional")):
        work.lost(one, "numbers by frame, weights and masks hold for the whole sampling range now, not from here on")
    if latent:
        _read_frames(work, latent, found, work.value(one, "null_latent_kf_strength") or 0.0)
    if weights:
        _read_weights(work, weights, found)
    if mask := one.source("mask_optional"):
        found.given["effect_mask"] = mask
    work.unlinked(one, {"t2i_adapter_weights": "Control Strength's soft_base acts on T2I-adapters too"})


def _read_frames(work: Work, last: Node, found: Strengths, elsewhere: float) -> None:
    """Latent keyframes; a later one of the same frame counts."""
    chain = [last]
    while (previous := work.carrier(chain[0], "prev_latent_kf")) and previous not in chain:
        chain.insert(0, previous)
    frames: dict[int, float] = {}
    for one in chain:
        numbers = _frame_numbers(work, one)
        if numbers is None or any(frame < 0 for frame in numbers):
            work.lost(one, "write its numbers into Control Strength's by_frame; frames without one had 0 there")
        else:
            frames |= numbers
    if frames:
        found.frames, found.elsewhere = frames, elsewhere


def _frame_numbers(work: Work, one: Node) -> dict[int, float] | None:
    """Frame -> strength of one latent keyframe node; None if they cannot be known."""
    if one.type == "LatentKeyframe":
        frame, strength = work.value(one, "batch_index"), work.value(one, "strength")
        return None if frame is None or strength is None else {int(frame): strength}
    if one.type != "LatentKeyframeTiming":
        return None
    names = ("batch_index_from", "batch_index_to_excl", "strength_from", "strength_to")
    first, end, low, high = (work.value(one, name) for name in names)
    easing = EASINGS.get(one.values["interpolation"])
    if None in (first, end, low, high) or easing is None or end <= first:
        return None
    first, end = int(first), int(end)
    last = max(end - first - 1, 1)
    return {first + i: round(low + (high - low) * easing(i / last), 4) for i in range(end - first)}


def _read_weights(work: Work, weights: Node, found: Strengths) -> None:
    if weights.type == "ACN_DefaultUniversalWeights":
        return
    if weights.type not in ("ScaledSoftControlNetWeights", "ACN_ScaledSoftControlNetWeights"):
        work.lost(weights, "only scaled soft weights have an equal: Control Strength's soft_base, 0.825 as a rule")
        return
    work.only(weights, {"uncond_multiplier": 1.0}, "0 is Apply ControlNet on the positive prompt alone")
    work.unlinked(weights, {"cn_extras": "soft weights keep the middle as it is"})
    found.given["soft_base"] = work.setting(weights, "base_multiplier")
    found.given["soft_flip"] = bool(weights.values.get("flip_weights"))


def picture(work: Work, node: Node) -> tuple[Out | None, Out | None]:
    """The image and VAE of a node that applies a ControlNet, past SparseCtrl's RGB node, which only carries both."""
    before = work.graph.node_behind(node.source("image"))
    if before and before.type == "ACN_SparseCtrlRGBPreprocessor":
        work.used.add(before.id)
        return before.source("image"), before.source("vae")
    return node.source("image"), node.source("vae_optional", "vae")


def apply(work: Work, node: Node) -> None:
    """Apply Advanced ControlNet: the stock node, and Control Strength where something changes along the clip."""
    image, vae = picture(work, node)
    numbers = strengths(work, node)
    given = {name: work.setting(node, name) for name in ("strength", "start_percent", "end_percent")}
    given |= {name: node.source(name) for name in ("positive", "negative", "control_net")}
    given |= {"image": image, "vae": vae}
    applied = work.add(
        "ControlNetApplyAdvanced", node, True, **{name: value for name, value in given.items() if value is not None}
    )
    last, names = applied, []
    if inputs := numbers.inputs():
        last = work.add("AnimaticControlStrength", node, positive=applied, negative=Out(applied.node, 1), **inputs)
        names = ["AnimaticControlStrength"]
    work.finish(node, {0: last, 1: Out(last.node, 1), 2: node.source("model_optional")}, names)


def after_stock(work: Work, node: Node) -> None:
    """Stock Apply ControlNet that reads one of ACN's loaders or its RGB node."""
    before = work.graph.node_behind(node.source("image"))
    if before and before.type == "ACN_SparseCtrlRGBPreprocessor":
        _take_picture(work, node)
    inputs = strengths(work, node).inputs()
    if not inputs:
        return
    if node.type != "ControlNetApplyAdvanced":
        work.lost(
            node, "its ControlNet's keyframes: use Apply ControlNet with positive and negative, then Control Strength"
        )
        return
    readers = [one for slot in (0, 1) for _, one in work.graph.readers(node.id, slot)]
    behind = work.add("AnimaticControlStrength", node, positive=Out(node.id, 0), negative=Out(node.id, 1), **inputs)
    for one in readers:
        one.source = Out(behind.node, one.source.slot)


def _take_picture(work: Work, node: Node) -> None:
    """Let the stock node read what the RGB node read."""
    image, vae = picture(work, node)
    node.input("image").source = image
    plug = next((one for one in node.inputs if one.name == "vae"), None)
    if plug is None and vae and node.type == "ControlNetApplyAdvanced":
        plug = Input("vae", "VAE")
        node.inputs.append(plug)
    if plug is None:
        work.lost(node, "SparseCtrl's RGB model needs a VAE: use stock Apply ControlNet, which has an input for it")
    else:
        plug.source = vae


def load(work: Work, node: Node) -> None:
    given = {"control_net_name": work.setting(node, "control_net_name")}
    if node.input("model"):
        given["model"] = node.source("model")
    work.finish(node, {0: work.add(LOADERS[node.type], node, True, **given)})


def load_sparse(work: Work, node: Node) -> None:
    """SparseCtrl, with the frames of its key images."""
    work.only(
        node, {"use_motion": True, "motion_strength": 1.0, "motion_scale": 1.0}, "SparseCtrl's own motion is as trained"
    )
    work.only(node, {"sparse_hint_mult": 1.0, "sparse_nonhint_mult": 1.0, "sparse_mask_mult": 1.0})
    frames: Any = ""
    method = work.carrier(node, "sparse_method")
    if method and method.type == "ACN_SparseCtrlIndexMethodNode":
        frames = work.setting(method, "indexes")
    elif method and method.values.get("spread") != "uniform":
        work.lost(method, "write the frames of the key images into Load SparseCtrl's key_frames; evenly spread now")
    name = work.setting(node, "sparsectrl_name")
    work.finish(node, {0: work.add("AnimaticLoadSparseCtrl", node, True, sparse_ctrl=name, key_frames=frames)})
