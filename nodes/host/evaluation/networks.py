"""What the small world (evaluation/world) needs of the host: its UNet class at a small width, and its tokenizer."""

from comfy import sd1_clip
import torch
from torch import Tensor

from ....evaluation.world.network import UNET
from ....training.base import Base
from ..training.models import PlainLayers, PlainUNet, base_of


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

    def tokenize(self, caption: str) -> Tensor:
        """A caption's tokens, (77,), as the stock CLIPTextEncode makes them."""
        return torch.tensor([token for token, _ in self.tokenizer.tokenize_with_weights(caption)["l"][0]])
