"""A temporal transformer written out from its description, in float64, to check the real one against.

It shares no code with the pack: weights come in by checkpoint key, shapes are (B*F, C, H, W).
"""

import math

import torch

# What float16 may change in a frame, as `errors_by_frame` counts it: a few steps of a random UNet with cfg.
FP16_BOUND = 0.02


def group_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
    """x: (N, C, anything), 32 groups."""
    n, c = x.shape[:2]
    groups = x.reshape(n, 32, -1)
    mean = groups.mean(dim=2, keepdim=True)
    variance = ((groups - mean) ** 2).mean(dim=2, keepdim=True)
    normal = ((groups - mean) / (variance + eps).sqrt()).reshape(x.shape)
    shape = (1, c) + (1,) * (x.ndim - 2)
    return normal * weight.reshape(shape) + bias.reshape(shape)


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def temporal_transformer(
    weights: dict,
    x: torch.Tensor,
    num_frames: int,
    norm_over_frames: bool = False,
    key_scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """weights: keys after `temporal_transformer.`; x: (B*F, C, H, W), cond by cond. Returns float64.

    key_scale: (F, H, W), on the attention keys.
    """
    w = {key: value.double() for key, value in weights.items()}
    x = x.double()
    rows, c, height, width = x.shape
    video = x.reshape(rows // num_frames, num_frames, c, height, width)
    if norm_over_frames:
        normal = group_norm(video.permute(0, 2, 1, 3, 4), w["norm.weight"], w["norm.bias"], 1e-6).permute(0, 2, 1, 3, 4)
    else:
        normal = group_norm(x, w["norm.weight"], w["norm.bias"], 1e-6).reshape(video.shape)
    h = normal.permute(0, 3, 4, 1, 2)  # every pixel is a sequence of frames: (B, H, W, F, C)
    h = h @ w["proj_in.weight"].T + w["proj_in.bias"]
    block = "transformer_blocks.0."
    for a in range(2):
        attention = f"{block}attention_blocks.{a}."
        n = layer_norm(h, w[f"{block}norms.{a}.weight"], w[f"{block}norms.{a}.bias"])
        n = n + positions(num_frames, c)
        q, k, v = (n @ w[f"{attention}to_{name}.weight"].T for name in "qkv")
        if key_scale is not None:
            k = k * key_scale.double().permute(1, 2, 0)[..., None]
        heads = []
        for part in range(8):
            one = slice(part * c // 8, (part + 1) * c // 8)
            scores = q[..., one] @ k[..., one].transpose(-1, -2) / math.sqrt(c // 8)
            heads.append(torch.softmax(scores, dim=-1) @ v[..., one])
        h = h + torch.cat(heads, dim=-1) @ w[f"{attention}to_out.0.weight"].T + w[f"{attention}to_out.0.bias"]
    n = layer_norm(h, w[f"{block}ff_norm.weight"], w[f"{block}ff_norm.bias"])
    n = n @ w[f"{block}ff.net.0.proj.weight"].T + w[f"{block}ff.net.0.proj.bias"]
    value, gate = n[..., : 4 * c], n[..., 4 * c :]
    n = value * 0.5 * gate * (1 + torch.erf(gate / math.sqrt(2)))
    h = h + n @ w[f"{block}ff.net.2.weight"].T + w[f"{block}ff.net.2.bias"]
    h = h @ w["proj_out.weight"].T + w["proj_out.bias"]
    return (video + h.permute(0, 3, 4, 1, 2)).reshape(x.shape)


def positions(num_frames: int, c: int) -> torch.Tensor:
    table = torch.zeros(num_frames, c, dtype=torch.float64)
    for frame in range(num_frames):
        for column in range(0, c, 2):
            angle = frame / 10000 ** (column / c)
            table[frame, column], table[frame, column + 1] = math.sin(angle), math.cos(angle)
    return table


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference over the largest expected magnitude."""
    return ((result.double() - expected.double()).abs().max() / expected.double().abs().max()).item()


def errors_by_frame(result: torch.Tensor, expected: torch.Tensor) -> list[float]:
    """Of each frame, the root mean square of the difference over that of what is expected."""
    difference, whole = ((t.double() ** 2).flatten(1).mean(1) for t in (result - expected, expected))
    return (difference / whole).sqrt().tolist()
