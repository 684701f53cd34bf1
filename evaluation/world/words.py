"""A text encoder of Stable Diffusion's layout that gives each word a random direction, and its function in closed form.

Its layers pass everything through and its position table is zero, so an encoding is the word's own row of a random
table, normalised. Rows overlap in memory (stride 7): in a torch file the whole encoder takes 200 kB.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn

WORDS, WIDTH, LAYERS, TOKENS = 49408, 768, 12, 77
PREFIX = "cond_stage_model.transformer.text_model."
SEED = 20230710


@lru_cache(maxsize=1)
def table() -> Tensor:
    """(49408, 768): a random row for every token of CLIP's vocabulary."""
    numbers = torch.randn(WIDTH + 7 * WORDS, generator=torch.Generator().manual_seed(SEED))
    return numbers.as_strided((WORDS, WIDTH), (7, 1))


def encode_tokens(tokens: Tensor) -> Tensor:
    """(77,) token numbers to the encoding (77, 768) that the host computes with `checkpoint_weights`."""
    return nn.functional.layer_norm(table()[tokens], (WIDTH,))


def checkpoint_weights() -> dict[str, Tensor]:
    """The text encoder as a checkpoint holds it; save it with torch.save, which keeps shared memory shared."""

    weights = {
        "embeddings.token_embedding.weight": table(),
        "embeddings.position_embedding.weight": full(0.0, TOKENS, WIDTH),
        "final_layer_norm.weight": full(1.0, WIDTH),
        "final_layer_norm.bias": full(0.0, WIDTH),
    }
    weights |= passing_layers(LAYERS, WIDTH)
    return {PREFIX + key: value for key, value in weights.items()}


def passing_layers(count: int, width: int) -> dict[str, Tensor]:
    """CLIP's transformer layers that give what they get, of texts or pictures."""
    shapes = {f"self_attn.{name}_proj": (width, width) for name in ("q", "k", "v", "out")}
    shapes |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    weights = {}
    for layer in range(count):
        for name, shape in shapes.items():
            weights[f"encoder.layers.{layer}.{name}.weight"] = full(0.0, *shape)
            weights[f"encoder.layers.{layer}.{name}.bias"] = full(0.0, shape[0])
        for name in ("layer_norm1", "layer_norm2"):
            weights[f"encoder.layers.{layer}.{name}.weight"] = full(1.0, width)
            weights[f"encoder.layers.{layer}.{name}.bias"] = full(0.0, width)
    return weights


def full(value: float, *shape: int) -> Tensor:
    return torch.full((1,), value).expand(shape)
