"""MotionLoRA files of every spelling to one form, and back to the original one.

Known are the original files, MotionDirector's and its trainers' (with feed-forward), kohya's (underscores, alpha),
diffusers' and peft's.
"""

from collections.abc import Mapping
from itertools import product
import re

import torch
from torch import Tensor

from ..motion_modules.checkpoint import canonical_key
from ..motion_modules.file_kind import file_kind
from .low_rank import LowRank, MotionLora

# How a key says that it is half of a low-rank change, or its alpha. A is down and B is up.
HALVES = (
    re.compile(r"(?:_lora|\.lora|\.lora_linear_layer)\.(?P<half>up|down)(?:\.\w+)?\.weight$"),
    re.compile(r"\.lora_(?P<half>up|down|A|B)(?:\.\w+)?\.weight$"),
    re.compile(r"\.lora_(?P<half>A|B)$"),
    re.compile(r"(?:_lora)?\.(?P<half>alpha)$"),
)
NAMES = {"A": "down", "B": "up"}
PREFIXES = ("base_model.model.", "module.", "unet.", "diffusion_model.")
UNDERSCORES = re.compile(
    r"(?:lora_unet_)?(?:(down|up)_blocks_(\d+)|(mid)_block)_motion_modules_(\d+)_(?:temporal_transformer_)?(.+)$"
)


def _underscored_layers() -> dict[str, str]:
    """Layers of a temporal transformer by the names that underscores leave of them."""
    block = "transformer_blocks.0."
    layers = {"proj_in": "proj_in", "proj_out": "proj_out"}
    spellings = {f"{block}ff.net.0.proj": ("ff.net.0.proj", "ff.net.0.processor.proj")}
    spellings[f"{block}ff.net.2"] = ("ff.net.2", "ff.net.processor.2")
    for a, q in product((0, 1), ("to_q", "to_k", "to_v", "to_out")):
        target = f"{block}attention_blocks.{a}.{q}" + (".0" if q == "to_out" else "")
        names = [q, f"processor.{q}"] + ([f"{q}.0", f"{q}.processor.0"] if q == "to_out" else [])
        spellings[target] = tuple(f"{at}.{name}" for at in (f"attention_blocks.{a}", f"attn{a + 1}") for name in names)
    for target, names in spellings.items():
        for name in names:
            layers[f"{block}{name}".replace(".", "_")] = target
    return layers


UNDERSCORED_LAYERS = _underscored_layers()


def read_motion_lora(file_content: Mapping, metadata: Mapping[str, str] | None = None) -> MotionLora:
    """Bring a loaded MotionLoRA file to one form.

    metadata: a safetensors file's own; a rank-wide alpha of peft's is taken from it.
    Raises ValueError that says what the file is instead, or which weights are incomplete or unusable.
    """
    if not isinstance(file_content, Mapping):
        raise ValueError(f"this file holds a {type(file_content).__name__}, not named weights.")
    nested = file_content.get("state_dict")
    content = nested if isinstance(nested, Mapping) else file_content
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    halves: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        target, half = _split(key)
        if target:
            halves.setdefault(target, {})[half] = value
    if not halves:
        raise ValueError(f"this file is {file_kind(tensors).value}.")
    alpha = _peft_alpha(metadata)
    return {target: _change(target, parts, alpha) for target, parts in halves.items()}


def original_state_dict(lora: MotionLora) -> dict[str, Tensor]:
    """The keys of AnimateDiff's own MotionLoRA files, which know no alpha: it goes into `up`."""
    weights = {}
    for target, change in lora.items():
        name = _original_name(target)
        weights[f"{name}.down.weight"] = change.down.contiguous()
        weights[f"{name}.up.weight"] = (change.up * change.scale).contiguous()
    return weights


def _split(key: str) -> tuple[str | None, str]:
    """The weight that a key changes, and which half it is; (None, "") for a key of something else."""
    for pattern in HALVES:
        found = pattern.search(key)
        if found:
            return _target(key[: found.start()]), NAMES.get(found["half"], found["half"])
    return None, ""


def _target(path: str) -> str | None:
    for prefix in PREFIXES:
        path = path.removeprefix(prefix)
    flat = UNDERSCORES.match(path)
    if flat:
        layer = UNDERSCORED_LAYERS.get(flat[5])
        block = f"{flat[1]}_blocks.{flat[2]}" if flat[1] else "mid_block"
        return f"{block}.motion_modules.{flat[4]}.temporal_transformer.{layer}.weight" if layer else None
    path = canonical_key(path.replace(".processor.", ".") + ".")[:-1]
    if path.endswith(".to_out"):
        path += ".0"
    return f"{path}.weight" if ".motion_modules." in path else None


def _peft_alpha(metadata: Mapping[str, str] | None) -> float | None:
    found = re.search(r'"(?:\w+\.)?lora_alpha"\s*:\s*([\d.]+)', (metadata or {}).get("lora_adapter_metadata", ""))
    return float(found[1]) if found else None


def _change(target: str, parts: dict[str, Tensor], alpha: float | None) -> LowRank:
    name = target.removesuffix(".weight")
    for half, other in (("up", "down"), ("down", "up")):
        if half not in parts:
            raise ValueError(
                f"this MotionLoRA has no {half} weights for {name}, only {' and '.join(parts) or other}; it may be cut "
                "short. Download it again."
            )
    up, down = (parts[half].flatten(1) if parts[half].ndim > 2 else parts[half] for half in ("up", "down"))
    if up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0]:
        raise ValueError(
            f"this MotionLoRA's ranks do not match at {name}: up is {tuple(up.shape)}, down is {tuple(down.shape)}. "
            "Download it again, or choose another file."
        )
    if down.shape[0] == 0:
        raise ValueError(f"this MotionLoRA has rank 0 at {name}; it holds nothing. Choose another file.")
    if not (torch.isfinite(up).all() and torch.isfinite(down).all()):
        raise ValueError(
            f"this MotionLoRA holds values that are not numbers at {name}; its training failed. "
            "Choose an earlier state of it."
        )
    if "alpha" in parts:
        alpha = float(parts["alpha"].flatten()[0])
    return LowRank(up, down, alpha)


def _original_name(target: str) -> str:
    name = target.removesuffix(".weight")
    for plain, original in (
        (r"\.to_out\.0$", ".processor.to_out_lora"),
        (r"\.(to_[qkv])$", r".processor.\1_lora"),
        (r"\.ff\.net\.0\.proj$", ".ff.net.0.processor.proj_lora"),
        (r"\.ff\.net\.2$", ".ff.net.processor.2_lora"),
        (r"\.(proj_in|proj_out)$", r".\1_lora"),
    ):
        name = re.sub(plain, original, name)
    return name
