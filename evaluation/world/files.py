"""The small world's files: narrow in half precision to keep, wide where ComfyUI finds its models.

In a folder of narrow files are `image_model` and `decoder`, which make a checkpoint; an image model for each style that
was trained, by its name; `motion_module`, `domain_adapter`; `depth_control`; and a MotionLoRA for each camera
move, by its name. Animate Anyone's are those of its release, its motion module, and a decoder for its characters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
import torch
from torch import Tensor

from ...training.atomic import write_file
from ...training.camera import MOVES
from ...training.low_rank import adapter_weights, motion_lora_weights
from ...training.stages import ANIMATE_ANYONE_MOTION, DENOISING_UNET, POSE_GUIDER, REFERENCE_UNET
from . import autoencoder, look, words
from .scenes import PLAIN, STYLES
from .widen import widened, widened_guider
from .world import DANCERS_DECODER, World

SHIPPED = Path(__file__).parent / "files"
IMAGE_MODEL, DECODER, MOTION_MODULE, DOMAIN_ADAPTER = "image_model", "decoder", "motion_module", "domain_adapter"
DEPTH_CONTROL, CLIP_VISION = "depth_control", "clip_vision"
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
    weights |= {f"first_stage_model.{key}": value for key, value in autoencoder.vae_weights(decoder).items()}
    return weights | words.checkpoint_weights()


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
    contents |= world.animate_files() | {CLIP_VISION: {look.NAME: look.LOOK}}
    contents |= {DANCERS_DECODER: world.dancers_decoder.state_dict()}
    for part, weights in contents.items():
        save_narrow(narrow_path(folder, part), weights, made_by)


@dataclass(frozen=True)
class WideFile:
    """part: of the narrow files. folder: of ComfyUI's model folders. make: its weights there."""

    part: str
    folder: str
    ending: str = ".safetensors"
    make: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = widened

    def path(self, models: Path) -> Path:
        return models / self.folder / f"{wide_name(self.part)}{self.ending}"


def write_models(models: Path, narrow: Path = SHIPPED) -> list[Path]:
    """Widen all files of a folder into ComfyUI's model folders; what stands there newer than they are is kept."""
    written = []
    for file in _wide_files(narrow):
        source, path = narrow_path(narrow, file.part), file.path(models)
        if not source.is_file():
            continue
        if not path.is_file() or path.stat().st_mtime < source.stat().st_mtime:
            save_wide(path, file.make(load_narrow(narrow, file.part)))
        written.append(path)
    return written


def wide_name(part: str) -> str:
    return NAME if part in (IMAGE_MODEL, MOTION_MODULE) else f"{NAME}_{part}"


def _wide_files(narrow: Path) -> list[WideFile]:
    def whole(unet: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return checkpoint(unet, load_narrow(narrow, DECODER))

    return [
        *(WideFile(part, "checkpoints", ".ckpt", whole) for part in (IMAGE_MODEL, *STYLES) if part != PLAIN),
        WideFile(MOTION_MODULE, "animatediff_models"),
        WideFile(DOMAIN_ADAPTER, "loras"),
        WideFile(DEPTH_CONTROL, "controlnet"),
        *(WideFile(move, "animatediff_motion_lora") for move in MOVES),
        WideFile(REFERENCE_UNET, "animate_anyone"),
        WideFile(POSE_GUIDER, "animate_anyone", make=widened_guider),
        WideFile(DENOISING_UNET, "diffusion_models"),
        WideFile(ANIMATE_ANYONE_MOTION, "animatediff_models"),
        WideFile(DANCERS_DECODER, "vae", make=autoencoder.vae_weights),
        WideFile(CLIP_VISION, "clip_vision", ".pth", look.clip_vision_weights),
    ]
