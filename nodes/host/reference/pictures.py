"""Reference pictures and what a ReferenceNet makes of them, once for each picture, model and size."""

from collections.abc import Hashable
from dataclasses import dataclass
import hashlib
import logging
import weakref

import comfy.model_management
from comfy.model_patcher import ModelPatcher
import torch
from torch import Tensor

from ....animate_anyone.reference import join_pictures, reference_tokens
from ..core.latents import encode_images
from ..core.progress import check_interrupted
from ..core.unet import require_unet, self_attentions
from .load import LoadedReferenceNet

logger = logging.getLogger(__name__)

CROPPED, STRETCHED, OWN_SIZE = "cropped to the clip", "stretched to the clip", "own size"
SIZES = (CROPPED, STRETCHED, OWN_SIZE)


@dataclass(frozen=True, eq=False)
class Reference:
    """images: (N, H, W, 3). embeddings: what CLIP Vision makes of each, (N, C). size: one of SIZES."""

    net: LoadedReferenceNet
    images: Tensor
    embeddings: Tensor
    vae: object
    size: str = CROPPED

    def tokens(self, height: int, width: int) -> dict[str, Tensor]:
        """What each self-attention may see of all pictures, (1, tokens, C), for latents of a clip of this size.

        Runs the ReferenceNet only if it has not seen these pictures at this size. What it gave stays on the processor,
        so that neither it nor its network takes a graphics card's memory from the clip.
        """
        if self.size == OWN_SIZE:
            pixels = self.vae.spacial_compression_encode()
            height, width = (max(1, side // pixels) for side in self.images.shape[1:3])
        key = self._key(height, width)
        tokens = self.net.kept.get(key)
        if tokens is None:
            tokens = self._read(height, width)
            self.net.kept.put(key, tokens)
        return tokens

    def _key(self, height: int, width: int) -> Hashable:
        content = hashlib.sha256()
        for tensor in (self.images, self.embeddings):
            content.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return content.digest(), tuple(self.images.shape), self.size, height, width, weakref.ref(self.vae)

    def _read(self, height: int, width: int) -> dict[str, Tensor]:
        patcher = self.net.patcher
        crop = "disabled" if self.size == STRETCHED else "center"
        process_in = patcher.model.process_latent_in
        logger.info("%s looks at %d pictures for latents of %d x %d", self.net.name, len(self.images), width, height)
        latents = [encode_images(self.vae, image[None], height, width, process_in, crop) for image in self.images]
        memory = patcher.model.memory_required(list(latents[0].shape))
        comfy.model_management.load_models_gpu([patcher], memory_required=memory)
        read = [self._read_one(*one) for one in zip(latents, self.embeddings, strict=True)]
        return join_pictures({name: torch.cat([tokens[name] for tokens in read]) for name in read[0]})

    @torch.no_grad()
    def _read_one(self, latent: Tensor, embedding: Tensor) -> dict[str, Tensor]:
        """One pass at time step 0, without noise, with the picture's embedding where a prompt would stand."""
        check_interrupted()
        patcher = self.net.patcher
        model, device = patcher.model, patcher.load_device
        dtype = model.manual_cast_dtype or model.get_dtype()
        context, steps = embedding[None, None].to(device, dtype), torch.zeros(1, device=device)
        unet, x = model.diffusion_model, latent.to(device, dtype)
        tokens = reference_tokens(
            self_attentions(unet), lambda: unet(x, steps, context=context, transformer_options={})
        )
        return {name: rows.cpu() for name, rows in tokens.items()}


def reference_of(
    model: ModelPatcher, net: LoadedReferenceNet, images: Tensor, vae, clip_vision, size: str
) -> Reference:
    """The pictures with CLIP's view of each, squeezed to a square as in training.

    Raises ValueError without a VAE, and for a CLIP Vision model of another width than the prompts of the model and its
    ReferenceNet.
    """
    require_unet(model, "Animate Anyone")
    if vae is None:
        raise ValueError("Animate Anyone: the checkpoint brings no VAE; load one with Load VAE and connect it.")
    width, wanted = (patcher.model.model_config.unet_config.get("context_dim") for patcher in (model, net.patcher))
    if width != wanted:
        raise ValueError(f"{net.name} does not fit this model: its prompts are {wanted} wide, the model's {width}.")
    embeddings = clip_vision.encode_image(images[..., :3], crop=False)["image_embeds"]
    if embeddings is None or embeddings.shape[-1] != width:
        found = "no embedding" if embeddings is None else f"embeddings of {embeddings.shape[-1]} numbers"
        raise ValueError(
            f"Animate Anyone: the CLIP Vision model gives {found}, but this model takes {width}. "
            "Load the image_encoder of Animate Anyone, a CLIP ViT-L/14."
        )
    return Reference(net, images[..., :3], embeddings, vae, size)
