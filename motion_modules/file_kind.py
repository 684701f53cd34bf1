"""What a weight file is, by its keys: a motion module, or one of the other things that lie in the same folders."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
import re

LORA_KEY = re.compile(r"_lora\.|\.lora_|\.lora\.|lora_up|lora_down|lora_A|lora_B")


class FileKind(Enum):
    """The value says it in words."""

    MOTION_MODULE = "a motion module"
    MOTION_LORA = "a MotionLoRA"
    SPARSE_CTRL = "a SparseCtrl model"
    CAMERA_CTRL = "a CameraCtrl model"
    IMAGE_LORA = "a LoRA for the image model (AnimateDiff's domain adapter is one)"
    LORA = "a LoRA"
    CHECKPOINT = "a whole checkpoint"
    CONTROLNET = "a ControlNet"
    POSE_GUIDER = "a Pose Guider of Animate Anyone"
    REFERENCE_NET = "a ReferenceNet of Animate Anyone"
    TUNED_VIDEO = "what Tune-A-Video has learnt from a clip"
    IMAGE_UNET = "a whole image UNet, such as Animate Anyone's denoising_unet"
    IMAGE_ENCODER = "a CLIP Vision model, such as Animate Anyone's image_encoder"
    MORE_THAN_MOTION = "a FancyVideo or MotionCtrl model"
    EMPTY = "empty"
    OTHER = "something else"


def is_motion_key(key: str) -> bool:
    return ".motion_modules." in key or ".temporal_attentions." in key


@dataclass(frozen=True)
class Keys:
    """What the table below asks of a file's keys."""

    names: tuple[str, ...]

    def any(self, pattern: str) -> bool:
        return any(re.search(pattern, name) for name in self.names)

    @cached_property
    def lora_names(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if LORA_KEY.search(name))

    @cached_property
    def motion(self) -> bool:
        return any(is_motion_key(name) for name in set(self.names) - set(self.lora_names))

    @cached_property
    def motion_lora(self) -> bool:
        return any(is_motion_key(name) or "motion_modules_" in name for name in self.lora_names)

    @cached_property
    def unet(self) -> bool:
        return self.any(r"^(down_blocks|up_blocks)\.\d+\.resnets\.")

    @cached_property
    def lora(self) -> bool:
        """Nothing but a LoRA; a whole motion module may be saved together with an adapter."""
        return bool(self.lora_names) and not self.motion


# The first row that holds counts.
KINDS: tuple[tuple[FileKind, Callable[[Keys], bool]], ...] = (
    (FileKind.SPARSE_CTRL, lambda keys: keys.motion and keys.any(r"controlnet_cond_embedding")),
    (FileKind.CAMERA_CTRL, lambda keys: keys.any(r"(^|\.)(pose_encoder|encoder_conv_in|encoder_down_conv_blocks)")),
    (FileKind.MOTION_LORA, lambda keys: keys.motion_lora),
    (FileKind.IMAGE_LORA, lambda keys: keys.lora and keys.any(r"attentions?[._]\d+[._]transformer_blocks")),
    (FileKind.LORA, lambda keys: keys.lora),
    (
        FileKind.CHECKPOINT,
        lambda keys: keys.any(r"^(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\."),
    ),
    (
        FileKind.CONTROLNET,
        lambda keys: keys.any(r"^(control_model|zero_convs|controlnet_down_blocks)\.|^controlnet_cond_embedding"),
    ),
    (
        FileKind.MORE_THAN_MOTION,
        lambda keys: "FancyVideo" in keys.names or keys.any(r"cc_projection|motion_embedding\.linear"),
    ),
    (FileKind.MOTION_MODULE, lambda keys: keys.motion),
    (FileKind.TUNED_VIDEO, lambda keys: keys.any(r"\.attn_temp\.")),
    (FileKind.IMAGE_ENCODER, lambda keys: keys.any(r"^vision_model\.|^visual\.")),
    (
        FileKind.POSE_GUIDER,
        lambda keys: keys.any(r"^conv_in\.") and keys.any(r"^blocks\.\d+\.(weight|bias)$"),
    ),
    (FileKind.IMAGE_UNET, lambda keys: keys.unet and keys.any(r"^conv_(norm_)?out\.")),
    (FileKind.REFERENCE_NET, lambda keys: keys.unet),  # which ends before the UNet's last layers
    (FileKind.OTHER, lambda keys: bool(keys.names)),
    (FileKind.EMPTY, lambda keys: True),
)


def file_kind(names: Iterable[str]) -> FileKind:
    """What a file is by the names of its weights, without a trainer's wrapping (see `checkpoint.unwrap`)."""
    keys = Keys(tuple(names))
    return next(kind for kind, holds in KINDS if holds(keys))
