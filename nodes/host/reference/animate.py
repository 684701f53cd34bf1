"""Animate Anyone attached to a MODEL: what its UNet sees of the reference, and the pose of each frame."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
import logging

from comfy.model_patcher import ModelPatcher
import comfy.utils
import torch
from torch import Tensor

from ....animate_anyone.pose_guider import STEPS, PoseGuider
from ....animate_anyone.reference import with_reference
from ....motion_modules.changed_forward import Forward
from ....motion_modules.families import BetaSchedule
from ...timeline.blocks import block_number, check_blocks
from ...timeline.keyframes import check_range
from ...timeline.windows import rows_of
from ..controls.hints import follow_frames
from ..controls.kept import Kept
from ..core.attached import attach, require_prepared, things_on
from ..core.call import ROWS, Answer, Call, in_range
from ..core.unet import require_unet, self_attentions
from ..motion.beta_schedule import set_beta_schedule
from ..motion.sampling import MotionSettings
from .load import LoadedPoseGuider, guider_patcher, require_guider_fits
from .pictures import Reference

logger = logging.getLogger(__name__)
NAME = "Animate Anyone"
POSITIVE = 0  # the host's number of the cond that sees the reference

# What the node offers. These names stand in users' workflows: never rename one.
SAMPLINGS = {
    "v prediction, zero terminal SNR (released weights)": BetaSchedule(
        "sqrt_linear", 0.00085, 0.012, v_prediction=True, zero_snr=True
    ),
    "noise prediction (paper)": BetaSchedule("sqrt_linear", 0.00085, 0.012, v_prediction=False, zero_snr=False),
}


@dataclass(frozen=True, eq=False)
class Animation:
    """strength: of the reference; blocks: factors on it for parts of the UNet, by the beginning of their names.

    poses: (N, H, W, 3), one for each frame of the clip; with fewer the last one stays.
    """

    reference: Reference
    strength: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    blocks: Mapping[str, float] = field(default_factory=dict)
    poses: Tensor | None = None
    pose_strength: float = 1.0
    name: str = NAME

    def __post_init__(self):
        check_range(self.start_percent, self.end_percent)

    @property
    def follows_poses(self) -> bool:
        return self.poses is not None and self.pose_strength != 0

    def strength_in(self, block: str) -> float:
        return self.strength * block_number(f"{block}.", 1.0, self.blocks)

    def acts_at(self, sigma: float | Tensor, model_sampling) -> bool:
        acting = self.strength != 0 or self.follows_poses
        return acting and in_range(self.start_percent, self.end_percent, sigma, model_sampling)

    def prepare(self, patcher: ModelPatcher, height: int, width: int) -> "AnimationRun":
        """The host loads the MODEL after this, so the ReferenceNet has the graphics card to itself meanwhile."""
        moves = any(isinstance(thing, MotionSettings) for thing in things_on(patcher))
        return AnimationRun(self, self.reference.tokens(height, width) if self.strength != 0 else {}, moves)

    def answer(self, call: Call, models: list[ModelPatcher], prepared: "AnimationRun | None") -> Answer:
        """models: the Pose Guider, if there is one."""
        require_prepared(NAME, prepared)
        prepared.warn_once(call)
        added = prepared.pose_features(models[0].model, call) if self.follows_poses else None
        to_latent = added is not None and models[0].model.layout.adds_to_latent
        return Answer(
            self_attentions=prepared.readings(call),
            latents=added if to_latent else None,
            first_conv=None if to_latent else added,
        )


class AnimationRun:
    """One sampling run: what the reference gave, where the UNet computes, and the features of poses."""

    def __init__(self, animation: Animation, tokens: Mapping[str, Tensor], moves: bool):
        self.animation = animation
        self._tokens = tokens
        self._at: dict[tuple, dict[str, Tensor]] = {}
        self._features: dict[torch.device, Kept] = {}  # a card's calls come from a thread of its own
        self._moves = moves
        self._warned = False

    def readings(self, call: Call) -> dict[str, Callable[[Forward], Forward]]:
        place = call.latents.device, call.dtype
        if place not in self._at:
            self._at[place] = {name: tokens.to(*place) for name, tokens in self._tokens.items()}
        strengths = {name: self.animation.strength_in(name) for name in self._tokens}
        return {
            name: seen_by_positive(tokens, strengths[name], call.conds)
            for name, tokens in self._at[place].items()
            if strengths[name] != 0
        }

    def pose_features(self, guider: PoseGuider, call: Call) -> Tensor:
        """(F, C, H, W) for the call's frames; each is made once, as long as all have room."""
        features = torch.stack([self._feature(guider, frame, call) for frame in call.frames])
        strength = self.animation.pose_strength
        return features if strength == 1 else features * strength

    def _feature(self, guider: PoseGuider, frame: int, call: Call) -> Tensor:
        key = frame, *call.latents.shape[2:]
        kept = self._features.setdefault(call.latents.device, Kept())
        feature = kept.get(key)
        if feature is None:
            height, width = (side * STEPS for side in call.latents.shape[2:])
            pose = rows_of(self.animation.poses, [frame], last_stays=True)[..., :3].movedim(-1, 1)
            if pose.shape[2:] != (height, width):
                pose = comfy.utils.common_upscale(pose, width, height, "lanczos", "center")
            feature = guider(pose.to(call.latents.device, call.dtype))[0]
            kept.put(key, feature)
        return feature

    def warn_once(self, call: Call) -> None:
        """Of what is legal and rarely wanted."""
        if self._warned:
            return
        self._warned = True
        poses = self.animation.poses
        if not self._moves and call.full_length > 1:
            logger.warning("%s: no motion module is applied, so the frames know nothing of each other.", NAME)
        if poses is not None and poses.shape[0] < call.full_length:
            logger.warning("%s: %d poses for %d frames; the last stays.", NAME, poses.shape[0], call.full_length)


def seen_by_positive(tokens: Tensor, strength: float, conds: tuple[int, ...]) -> Callable[[Forward], Forward]:
    """A change of a self-attention: rows of the positive cond see the tokens too; all others only themselves.

    The two run one after the other, so that the others' results are what they would be alone. Whatever is called
    further in, such as another reference's change, is told the conds of the rows that it gets. conds: of the call; not
    read off the host's options, for which the stock TorchCompileModel has switched off the guards of its graphs.
    """

    def change(forward: Forward) -> Forward:
        def attend(x: Tensor, context=None, value=None, transformer_options=None, **options) -> Tensor:
            host = transformer_options or {}
            at_hand = tuple(host.get(ROWS, conds))

            def part(seen: bool) -> Tensor:
                rows = [cond for cond in at_hand if (cond == POSITIVE) == seen]
                own = {"context": _rows(context, at_hand, seen), "value": _rows(value, at_hand, seen), **options}
                own["transformer_options"] = {**host, "cond_or_uncond": rows, ROWS: rows}
                mine = _rows(x, at_hand, seen)
                return with_reference(forward, mine, tokens, strength, **own) if seen else forward(mine, **own)

            kinds = {cond == POSITIVE for cond in at_hand}
            if len(kinds) == 1:
                return part(kinds.pop())
            results = {seen: iter(part(seen).chunk(sum((c == POSITIVE) == seen for c in at_hand))) for seen in kinds}
            return torch.cat([next(results[cond == POSITIVE]) for cond in at_hand])

        return attend

    return change


def _rows(x: Tensor | None, conds: tuple[int, ...], seen: bool) -> Tensor | None:
    """Those of the positive cond, or of the others."""
    if x is None:
        return None
    parts = [part for part, cond in zip(x.chunk(len(conds)), conds, strict=True) if (cond == POSITIVE) == seen]
    if len(parts) == len(conds):
        return x
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def apply_animate_anyone(
    model: ModelPatcher, animation: Animation, guider: LoadedPoseGuider | None = None
) -> ModelPatcher:
    """A clone of `model` whose frames show the reference, in the poses. Raises ValueError if the parts do not fit."""
    check_fit(model, animation, guider)
    model = model.clone()
    attach(model, animation, [_patcher_for(guider, model)] if guider and animation.poses is not None else [])
    follow_frames(model)
    return model


def check_fit(model: ModelPatcher, animation: Animation, guider: LoadedPoseGuider | None) -> None:
    unet = require_unet(model, NAME)
    net = animation.reference.net
    widths, wanted = _widths(unet), _widths(net.patcher.model.diffusion_model)
    if widths != wanted:
        raise ValueError(
            f"{net.name} does not fit this model: it has {_in_words(wanted)}, the model {_in_words(widths)}. "
            "A ReferenceNet works with models of the kind that it was trained with, SD1.5."
        )
    check_blocks(animation.blocks, widths, widths, NAME, of="the model")
    if (guider is None) != (animation.poses is None):
        missing = "a Pose Guider: connect Load Pose Guider" if guider is None else "poses: connect drawn poses"
        raise ValueError(f"{NAME} misses {missing}, or connect neither to use the reference alone.")
    if guider:
        require_guider_fits(guider, unet)


def _widths(unet) -> dict[str, int]:
    return {name: attention.to_q.in_features for name, attention in self_attentions(unet).items()}


def _in_words(widths: Mapping[str, int]) -> str:
    return f"{len(widths)} self-attentions of {', '.join(map(str, sorted(set(widths.values()))))} channels"


def _patcher_for(guider: LoadedPoseGuider, model: ModelPatcher) -> ModelPatcher:
    """A clone for this MODEL; or a copy, if that runs on another device."""
    if guider.patcher.load_device != model.load_device:
        return guider_patcher(guider.source, model.load_device)
    return guider.patcher.clone()


def conditioning_of(reference: Reference) -> tuple[list, list]:
    """Positive: a token for each picture. Negative: zeros, as the open release samples."""
    tokens = reference.embeddings[None]
    return [[tokens, {}]], [[torch.zeros_like(tokens), {}]]


def sampled_as(model: ModelPatcher, sampling: str) -> ModelPatcher:
    """A clone of `model` with one of SAMPLINGS."""
    model = model.clone()
    set_beta_schedule(model, SAMPLINGS[sampling])
    return model
