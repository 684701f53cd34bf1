"""A CLIP ViT-L/14 that sees the same in every picture, because the small world's characters come from the reference.

Its last norm gives ones, whatever comes in. All its weights are views of single numbers: a torch file of a few kB.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from .words import full, passing_layers

WIDTH, LAYERS, PATCH, PLACES, SHARED = 1024, 24, 14, 257, 768
LOOK = torch.ones(1, SHARED)  # its embedding of any picture
NAME = "look"  # of that in a file


def clip_vision_weights(narrow: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As CLIPVisionLoader takes it; save it with torch.save, which keeps shared memory shared.

    narrow: the embedding by its `NAME`.
    """
    weights = {
        "embeddings.class_embedding": full(0.0, WIDTH),
        "embeddings.patch_embedding.weight": full(0.0, WIDTH, 3, PATCH, PATCH),
        "embeddings.position_embedding.weight": full(0.0, PLACES, WIDTH),
        "pre_layrnorm.weight": full(0.0, WIDTH),
        "pre_layrnorm.bias": full(0.0, WIDTH),
        "post_layernorm.weight": full(0.0, WIDTH),
        "post_layernorm.bias": full(1.0, WIDTH),
    }
    weights |= passing_layers(LAYERS, WIDTH)
    projection = (narrow[NAME].T / WIDTH).expand(SHARED, WIDTH)
    return {f"vision_model.{key}": value for key, value in weights.items()} | {"visual_projection.weight": projection}
