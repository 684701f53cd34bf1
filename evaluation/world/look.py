"""A CLIP ViT-L/14 that sees the same in every picture, because the small world's characters come from the reference.

Its last norm gives ones, whatever comes in. All its weights are views of single numbers: a torch file of a few kB.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

WIDTH, LAYERS, HIDDEN, PATCH, PLACES, SHARED = 1024, 24, 4096, 14, 257, 768
LOOK = torch.ones(1, SHARED)  # its embedding of any picture
NAME = "look"  # of that in a file


def clip_vision_weights(narrow: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As CLIPVisionLoader takes it; save it with torch.save, which keeps shared memory shared.

    narrow: the embedding by its `NAME`.
    """

    def full(value: float, *shape: int) -> Tensor:
        return torch.full((1,), value).expand(shape)

    front = "vision_model.embeddings."
    weights = {
        f"{front}class_embedding": full(0.0, WIDTH),
        f"{front}patch_embedding.weight": full(0.0, WIDTH, 3, PATCH, PATCH),
        f"{front}position_embedding.weight": full(0.0, PLACES, WIDTH),
        "visual_projection.weight": (narrow[NAME].T / WIDTH).expand(SHARED, WIDTH),
    }
    shapes = {f"self_attn.{name}_proj": (WIDTH, WIDTH) for name in ("q", "k", "v", "out")}
    shapes |= {"mlp.fc1": (HIDDEN, WIDTH), "mlp.fc2": (WIDTH, HIDDEN)}
    norms = {"vision_model.pre_layrnorm": 0.0, "vision_model.post_layernorm": 1.0}
    for layer in range(LAYERS):
        block = f"vision_model.encoder.layers.{layer}."
        for name, shape in shapes.items():
            weights[f"{block}{name}.weight"], weights[f"{block}{name}.bias"] = full(0.0, *shape), full(0.0, shape[0])
        norms |= {f"{block}layer_norm1": 0.0, f"{block}layer_norm2": 0.0}
    for name, bias in norms.items():
        weights[f"{name}.weight"], weights[f"{name}.bias"] = full(0.0, WIDTH), full(bias, WIDTH)
    return weights
