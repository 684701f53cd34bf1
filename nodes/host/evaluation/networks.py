"""What the small world (evaluation/world) needs of the host: its UNet and ControlNet at a small width, and tokens."""

from collections.abc import Callable
from functools import partial

from comfy import sd1_clip
from comfy.cldm.cldm import ControlNet
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.model_patcher import ModelPatcher
import comfy.sample
from comfy.supported_models import SD15
import torch
from torch import Tensor, nn

from ....evaluation.world.network import UNET
from ....training.base import Base
from ..clip.text2video_zero import WarpSettings, set_text2video_zero
from ..training.animate import reference_names
from ..training.models import PlainLayers, PlainUNet, base_of, pytorch_attention


class PlainControlNet(ControlNet):
    """The host's ControlNet with attention that gradients go through."""

    def __init__(self, **config):
        super().__init__(**config)
        for layer in self.modules():
            if isinstance(layer, SpatialTransformer):
                layer.forward = partial(_attend, layer.forward)


def _attend(forward: Callable, x: Tensor, context: Tensor, *_) -> Tensor:
    return forward(x, context, transformer_options={"optimized_attention_override": pytorch_attention})


def narrow_patcher(base: Base, beta_schedule: str) -> ModelPatcher:
    """A MODEL of the host of a narrow UNet, which no checkpoint loader would recognise."""
    config = SD15({key: value for key, value in UNET.items() if key != "num_heads"})
    config.set_inference_dtype(torch.float32, None)
    config.sampling_settings["beta_schedule"] = beta_schedule
    model = config.get_model({}, device=base.device)
    model.diffusion_model.load_state_dict(base.unet.state_dict())
    return ModelPatcher(model.requires_grad_(False), load_device=base.device, offload_device=base.device)


class NarrowNetworks:
    """`evaluation.world.world.Host`."""

    def __init__(self):
        self.tokenizer = sd1_clip.SD1Tokenizer()

    def fresh_base(self, seed: int) -> Base:
        """A narrow UNet with the host's initial weights, in float32 on the CPU, and where motion goes in it."""
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            torch.manual_seed(seed)
            unet = PlainUNet(**UNET, operations=PlainLayers, device="cpu", dtype=torch.float32)
        return base_of(unet)

    def fresh_control(self, seed: int) -> nn.Module:
        """A narrow ControlNet with the host's initial weights, which its base's still have to go into."""
        config = {key: value for key, value in UNET.items() if key not in ("out_channels", "transformer_depth_output")}
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            torch.manual_seed(seed)
            return PlainControlNet(
                **config, hint_channels=3, operations=PlainLayers, device="cpu", dtype=torch.float32
            )

    def text2video_zero(
        self,
        base: Base,
        beta_schedule: str,
        contexts: tuple[Tensor, Tensor],
        noise: Tensor,
        steps: int,
        guidance: float,
        motion: tuple[float, float],
    ) -> Tensor:
        """A clip by the node's own patch and the stock sampler, latents (F, 4, h, w) in the UNet's scale.

        contexts: the encoded prompt and the empty one, (77, 768). motion: the node's motion_x and motion_y.
        """
        model = set_text2video_zero(narrow_patcher(base, beta_schedule), WarpSettings(*motion))
        positive, negative = ([[context[None], {}]] for context in contexts)
        asked = (steps, guidance, "ddim", "ddim_uniform", positive, negative, torch.zeros_like(noise))
        with torch.no_grad():
            clip = comfy.sample.sample(model, noise, *asked, disable_pbar=True, seed=0)
        return model.model.process_latent_in(clip.cpu())

    def tokenize(self, caption: str) -> Tensor:
        """A caption's tokens, (77,), as the stock CLIPTextEncode makes them."""
        return torch.tensor([token for token, _ in self.tokenizer.tokenize_with_weights(caption)["l"][0]])

    def reference_names(self) -> dict[str, str]:
        """The names of the narrow UNet's weights in a ReferenceNet's file."""
        return reference_names(narrow_patcher(self.fresh_base(0), "linear"))
