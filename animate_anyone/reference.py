"""ReferenceNet (arXiv 2311.17117, section 3.2): what is kept of a picture, and how the denoiser reads it.

The paper puts a self-attention's own tokens and the ReferenceNet's side by side, lets all attend to all, and keeps the
first half. That is attention of the own queries to keys and values from both: `with_reference`. The tokens are what
goes into the ReferenceNet's self-attentions, after their norm; the denoiser's own layers make keys and values of them.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..motion_modules.changed_forward import Forward, changed_forwards

Attentions = Mapping[str, nn.Module]  # self-attentions by the name of their block


def reference_tokens(attentions: Attentions, run: Callable[[], object]) -> dict[str, Tensor]:
    """What goes into each of these self-attentions, (rows, tokens, C), while `run` lets their network run once."""
    tokens: dict[str, Tensor] = {}

    def recording(name: str) -> Callable[[Forward], Forward]:
        def change(forward: Forward) -> Forward:
            def record(x: Tensor, *args, **kwargs) -> Tensor:
                tokens[name] = x
                return forward(x, *args, **kwargs)

            return record

        return change

    with changed_forwards((attention, recording(name)) for name, attention in attentions.items()):
        run()
    return tokens


def with_reference(
    attention: Forward,
    x: Tensor,
    tokens: Tensor,
    strength: float = 1.0,
    context: Tensor | None = None,
    value: Tensor | None = None,
    **options,
) -> Tensor:
    """What a self-attention gives when its queries see a reference too.

    x: own tokens, (rows, P, C). tokens: the reference's, (rows or 1, any, C); 1 is for all rows.
    strength: 0 without the reference, 1 as trained; between, and beyond, a mix of the two results.
    context, value: own tokens for keys and values, if they are not x; options go on to the attention.
    """
    context = x if context is None else context
    plain = {"context": context, "value": value, **options}
    if strength == 0:
        return attention(x, **plain)
    beside = tokens.to(x).expand(x.shape[0], -1, -1)
    seen = {**plain, "context": torch.cat([context, beside], dim=1)}
    if value is not None:
        seen["value"] = torch.cat([value, beside], dim=1)
    read = attention(x, **seen)
    return read if strength == 1 else torch.lerp(attention(x, **plain), read, strength)


def join_pictures(tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tokens of several pictures, (pictures, tokens, C), as those of one: (1, pictures * tokens, C)."""
    return {name: rows.flatten(0, 1)[None] for name, rows in tokens.items()}
