"""What the small world (evaluation/world) needs of the host: its UNet and ControlNet at a small width, and tokens."""

from collections.abc import Callable
from functools import partial

from comfy import sd1_clip
from comfy.cldm.cldm import ControlNet
from comfy.ldm.modules.attention import SpatialTransformer
import torch
from torch import Tensor, nn

from ....evaluation.world.network import UNET
from ....training.base import Base
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


class NarrowNetworks:
    """`evaluation.world.programme.Host`."""

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

    def tokenize(self, caption: str) -> Tensor:
        """A caption's tokens, (77,), as the stock CLIPTextEncode makes them."""
        return torch.tensor([token for token, _ in self.tokenizer.tokenize_with_weights(caption)["l"][0]])
