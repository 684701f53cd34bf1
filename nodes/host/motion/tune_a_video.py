"""Tune-A-Video (Wu et al. 2022, arXiv 2212.11565) on a MODEL: what was learnt from one clip, by any sampler."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from comfy.model_patcher import ModelPatcher
import torch
from torch import Tensor, nn

from ....motion_modules.file_kind import FileKind
from ....motion_modules.tune_a_video import (
    QUERIES,
    TuneAVideo,
    fit_problem,
    read_tune_a_video,
    sparse_causal,
    sparse_causal_frames,
    with_keys_of,
)
from ..controls.hints import follow_frames
from ..core.attached import attach, things_on
from ..core.attention import attention_over_frames
from ..core.call import WINDOWS, Answer, Call, WindowsOfStep
from ..core.file_advice import cannot_be_used
from ..core.folders import TUNED_VIDEOS
from ..core.patcher import patcher_of
from ..core.preview import show_the_clip
from ..core.unet import require_unet, transformer_blocks
from ..core.weight_files import load_weights

NAME = "Tune-A-Video"
Shapes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class TunedVideo:
    """An attached thing: self-attentions are sparse-causal, and transformer blocks end in attention over the frames.

    Norms are taken over all frames, as the authors' UNet does. name: of the file.
    """

    name: str

    def acts_at(self, sigma: float | Tensor, model_sampling) -> bool:
        return True

    def prepare(self, patcher: ModelPatcher, height: int, width: int) -> None:
        """Nothing holds for a whole run."""

    def answer(self, call: Call, models: list[ModelPatcher], prepared: None) -> Answer:
        blocks = models[0].model.blocks
        look = looking(call)
        return Answer(
            norm_over_frames=True,
            self_attentions={name: with_keys_of(partial(look, name)) for name in blocks},
            after_blocks={
                name: partial(block, num_frames=call.num_frames, attention=attention_over_frames)
                for name, block in blocks.items()
            },
        )


def looking(call: Call) -> Callable[[str, Tensor, str], Tensor]:
    """What a frame's self-attention looks at: the clip's first frame and the one before it.

    In windows those that are not at hand are kept from a window before, in the same step, if this pack cuts the
    windows; or else, and for others' windows, the window's own stand in for them.
    """
    step: WindowsOfStep | None = call.options.get(WINDOWS)
    at_hand = sparse_causal_frames(call.frames)
    frames = sparse_causal_frames(call.frames, *step.around(call.frames)) if step else at_hand
    conds = call.options.get("uuids") or ()

    def look(block: str, tokens: Tensor, which: str) -> Tensor:
        clip = tokens.unflatten(0, (-1, call.num_frames))
        if step is None or len(conds) != len(clip):
            return sparse_causal(clip, at_hand)
        found = [step.kept.get((block, which, cond, frame)) for cond in conds for frame in frames.stored]
        for cond, rows in zip(conds, clip, strict=True):
            for frame in frames.to_store:
                step.kept[block, which, cond, frame] = rows[call.frames.index(frame)].clone()
        if not found:
            return sparse_causal(clip, frames)
        if any(rows is None or rows.shape != clip.shape[2:] for rows in found):  # another node's patch adds tokens
            return sparse_causal(clip, at_hand)
        kept = torch.stack([rows.to(tokens) for rows in found]).unflatten(0, (len(conds), -1))
        return sparse_causal(torch.cat([clip, kept], dim=1), frames)

    return look


def apply_tune_a_video(model: ModelPatcher, name: str) -> ModelPatcher:
    """A clone of `model` with a file of the `tune_a_video` folders.

    Raises ValueError, naming the file, if it is anything else or does not fit the model, or if there is one already.
    """
    unet = require_unet(model, NAME)
    if any(isinstance(thing, TunedVideo) for thing in things_on(model)):
        raise ValueError(f"This MODEL has {NAME} already: apply it once.")
    blocks = transformer_blocks(unet)
    shapes = {block: (layer.attn1.to_q.in_features, layer.attn1.heads) for block, layer in blocks.items()}
    weights = read_file(name, shapes)
    paths = {module: path for path, module in unet.named_modules()}
    model = model.clone()
    # as the host's own LoRAs are patches: those that are put on after this one act on the new queries
    model.add_patches(
        {
            f"diffusion_model.{paths[layer]}.{query}.weight": ("set", (weights[f"{block}.{query}.weight"],))
            for block, layer in blocks.items()
            for query in QUERIES
        }
    )
    attach(model, TunedVideo(name), [tuned_patcher(name, shapes, model.load_device, weights=weights)])
    follow_frames(model)
    show_the_clip(model)
    return model


def read_file(name: str, shapes: Shapes) -> dict[str, Tensor]:
    """The weights for a UNet of these shapes. Raises ValueError that names the file."""
    content = load_weights(TUNED_VIDEOS, name)
    try:
        weights = read_tune_a_video(content)
    except ValueError as error:
        raise cannot_be_used(name, "a tuned video", FileKind.TUNED_VIDEO, content, error) from None
    if problem := fit_problem(shapes, weights):
        raise ValueError(f"{name} does not fit this model: {problem}. Take the checkpoint that it was trained on.")
    return weights


def tuned_patcher(
    name: str,
    shapes: Shapes,
    load_device: torch.device,
    disable_dynamic: bool = False,
    weights: Mapping[str, Tensor] | None = None,
) -> ModelPatcher:
    """A fresh patcher of what is added; newer hosts call this again to make a copy for another device.

    weights: of the file; None: they are read.
    """
    weights = weights or read_file(name, shapes)
    added = TuneAVideo(shapes, nn, device="meta").state_dict()
    patcher = patcher_of(
        partial(TuneAVideo, shapes), {key: weights[key] for key in added}, load_device, disable_dynamic
    )
    patcher.cached_patcher_init = (tuned_patcher, (name, shapes, load_device))
    return patcher
