"""The small world's files: narrow in half precision to keep, wide where ComfyUI finds its models.

In a folder of narrow files are `image_model` and `decoder`, which make a checkpoint; an image model for each style that
was trained, by its name; `motion_module`, `domain_adapter`; `depth_control`; and a MotionLoRA for each camera
move, by its name.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
import torch
from torch import Tensor

from ...training.atomic import write_file
from ...training.camera import MOVES
from ...training.low_rank import adapter_weights, motion_lora_weights
from . import autoencoder, words
from .scenes import PLAIN, STYLES
from .widen import widened
from .world import World

SHIPPED = Path(__file__).parent / "files"
IMAGE_MODEL, DECODER, MOTION_MODULE, DOMAIN_ADAPTER = "image_model", "decoder", "motion_module", "domain_adapter"
DEPTH_CONTROL = "depth_control"
NAME = "small_world"  # of the wide files; a style's or a move's name follows


def narrow_path(folder: Path, part: str) -> Path:
    return folder / f"{part}.safetensors"


def save_narrow(path: Path, weights: Mapping[str, Tensor], made_by: Mapping[str, str]) -> None:
    """made_by: how, for the file's header."""
    halves = {key: value.detach().half().contiguous() for key, value in weights.items()}
    write_file(path, lambda part: save_file(halves, part, metadata=dict(made_by)))


def load_narrow(folder: Path, part: str) -> dict[str, Tensor]:
    return {key: value.float() for key, value in load_file(narrow_path(folder, part)).items()}


def checkpoint(unet: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A wide SD1.5 checkpoint of a narrow UNet, for `save_wide`."""
    weights = {f"model.diffusion_model.{key}": value.half() for key, value in widened(unet).items()}
    return weights | autoencoder.checkpoint_weights(decoder) | words.checkpoint_weights()


def save_wide(path: Path, weights: Mapping[str, Tensor]) -> None:
    """As safetensors, or a checkpoint as a torch file, which keeps the text encoder's shared memory shared."""
    if path.suffix == ".safetensors":
        write_file(path, lambda part: save_file({key: value.contiguous() for key, value in weights.items()}, part))
    else:
        write_file(path, lambda part: torch.save({"state_dict": dict(weights)}, part))


def save_files(world: World, folder: Path, made_by: Mapping[str, str]) -> None:
    """Everything that has been trained, narrow."""
    base, motion = world.image_model(), world.motion_module()
    contents = {part: world.weights(part) for part in (IMAGE_MODEL, *STYLES[1:], DEPTH_CONTROL)}
    contents |= {DECODER: world.decoder.state_dict()}
    contents |= {MOTION_MODULE: motion.state_dict()}
    contents |= {DOMAIN_ADAPTER: adapter_weights(world.adapter(base), 1.0, base.attention_layers())}
    contents |= {move: motion_lora_weights(world.motion_lora(move, motion), 1.0) for move in MOVES}
    for part, weights in contents.items():
        save_narrow(narrow_path(folder, part), weights, made_by)


def write_models(models: Path, narrow: Path = SHIPPED) -> list[Path]:
    """Widen all files of a folder into ComfyUI's model folders; what stands there newer than they are is kept."""
    written = []
    for part, kind, ending in _wide_files():
        source = narrow_path(narrow, part)
        if not source.is_file():
            continue
        path = models / kind / f"{wide_name(part)}{ending}"
        if not path.is_file() or path.stat().st_mtime < source.stat().st_mtime:
            weights = load_narrow(narrow, part)
            wide = checkpoint(weights, load_narrow(narrow, DECODER)) if kind == "checkpoints" else widened(weights)
            save_wide(path, wide)
        written.append(path)
    return written


def wide_name(part: str) -> str:
    return NAME if part in (IMAGE_MODEL, MOTION_MODULE) else f"{NAME}_{part}"


def _wide_files() -> list[tuple[str, str, str]]:
    """Each part, its model folder and its file's ending."""
    checkpoints = [(part, "checkpoints", ".ckpt") for part in (IMAGE_MODEL, *STYLES) if part != PLAIN]
    loras = [(move, "animatediff_motion_lora", ".safetensors") for move in MOVES]
    module = (MOTION_MODULE, "animatediff_models", ".safetensors")
    control = (DEPTH_CONTROL, "controlnet", ".safetensors")
    return [*checkpoints, module, (DOMAIN_ADAPTER, "loras", ".safetensors"), control, *loras]
