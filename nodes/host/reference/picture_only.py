"""A picture whose look a clip keeps, without any network but the checkpoint's own UNet ("reference-only" control).

In every call the UNet runs once more, on the picture with as much noise as the clip has, one row for each prompt; each
spatial self-attention of the clip then sees, beside a frame's own tokens, those of the picture at the same layer. The
idea is lllyasviel's (sd-webui-controlnet #1236).
"""

from collections.abc import Callable
from dataclasses import dataclass

from comfy.model_patcher import ModelPatcher
import torch
from torch import Tensor, nn

from ....animate_anyone.reference import reference_tokens
from ....motion_modules.changed_forward import Forward
from ...timeline.keyframes import check_range
from ..controls.hints import follow_frames
from ..core.attached import attach, require_prepared
from ..core.call import ROWS, Answer, Call, in_range
from ..core.latents import encode_images
from ..core.unet import require_unet, self_attentions

NAME = "Reference Image"
NEGATIVE = 1  # the host's number of the cond that fidelity is about
SEED = 0  # of the picture's noise, which is the same at every step


@dataclass(frozen=True, eq=False)
class PictureReference:
    """image: (1, H, W, 3). strength: how far what is seen is the picture's and not the frame's own.

    fidelity: of the negative prompt, how far it is left as it is, from 0 to 1.
    """

    image: Tensor
    vae: object
    strength: float = 1.0
    fidelity: float = 0.5
    start_percent: float = 0.0
    end_percent: float = 1.0
    name: str = NAME

    def __post_init__(self):
        check_range(self.start_percent, self.end_percent)

    def acts_at(self, sigma: float | Tensor, model_sampling) -> bool:
        return self.strength != 0 and in_range(self.start_percent, self.end_percent, sigma, model_sampling)

    def prepare(self, patcher: ModelPatcher, height: int, width: int) -> tuple[Tensor, Tensor]:
        """The picture's latent (1, 4, height, width) in the UNet's scale, and its noise."""
        latent = encode_images(self.vae, self.image, height, width, patcher.model.process_latent_in).float()
        return latent, torch.randn(latent.shape, generator=torch.Generator().manual_seed(SEED))

    def answer(self, call: Call, models: list[ModelPatcher], prepared: tuple[Tensor, Tensor] | None) -> Answer:
        require_prepared(NAME, prepared)
        picture = self._noisy(call, *prepared)
        rows = picture.expand(len(call.conds), -1, -1, -1)
        attentions = self_attentions(call.unet)
        tokens = reference_tokens(attentions, lambda: call.run_plain(rows))
        shares = [self.strength * (1 - self.fidelity if cond == NEGATIVE else 1) for cond in call.conds]
        return Answer(self_attentions={name: seeing_picture(kept, shares, call.conds) for name, kept in tokens.items()})

    def _noisy(self, call: Call, latent: Tensor, noise: Tensor) -> Tensor:
        latent, noise = (each.to(call.latents) for each in (latent, noise))
        noisy = call.model_sampling.noise_scaling(call.sigma.view(1, 1, 1, 1), noise, latent)
        if noisy.shape[2:] != call.latents.shape[2:]:  # a part of the picture that has a prompt of its own
            noisy = nn.functional.interpolate(noisy, call.latents.shape[2:], mode="nearest")
        return noisy


def seeing_picture(kept: Tensor, shares: list[float], conds: tuple[int, ...]) -> Callable[[Forward], Forward]:
    """A change of a self-attention: each cond's frames see its row of `kept`, (conds, P, C), too.

    shares: by cond, how far that is `kept` and not the frame's own tokens. At 0 a frame's own tokens stand there a
    second time, and doubled keys give what single ones do.
    """

    def change(forward: Forward) -> Forward:
        def attend(x: Tensor, context=None, value=None, **options) -> Tensor:
            # Animate Anyone hands over the positive conds' rows alone, and then the others'
            asked = options.get("transformer_options", {}).get(ROWS, conds)
            rows = [row for row, cond in enumerate(conds) if cond in asked]
            frames = x.shape[0] // len(rows)
            beside = kept[rows].repeat_interleave(frames, dim=0)
            share = torch.tensor([shares[row] for row in rows], dtype=x.dtype, device=x.device)
            share = share.repeat_interleave(frames).view(-1, 1, 1)

            def joined(own: Tensor) -> Tensor:
                return torch.cat([own, torch.lerp(own[:, : beside.shape[1]], beside.to(own), share)], dim=1)

            seen = joined(x if context is None else context)
            return forward(x, context=seen, value=None if value is None else joined(value), **options)

        return attend

    return change


def apply_reference_picture(model: ModelPatcher, reference: PictureReference) -> ModelPatcher:
    """A clone of `model` whose frames look at the picture. Raises ValueError for a model of another kind."""
    require_unet(model, NAME)
    model = model.clone()
    attach(model, reference, [])
    follow_frames(model)
    return model
