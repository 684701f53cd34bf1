"""Where a file belongs that was chosen in the wrong node."""

from collections.abc import Mapping

from ....motion_modules.checkpoint import unwrap
from ....motion_modules.file_kind import FileKind, file_kind

# Where a file of each kind belongs, and which node loads it.
ADVICE = {
    FileKind.MOTION_MODULE: "Put it into models/animatediff_models and load it with the node Load Motion Module",
    FileKind.MOTION_LORA: "Put it into models/animatediff_motion_lora, load it with the node Load MotionLoRA and "
    "connect that to Apply Motion Module",
    FileKind.SPARSE_CTRL: "Put it into models/controlnet and load it with the node Load SparseCtrl",
    FileKind.CAMERA_CTRL: "This pack cannot use it",
    FileKind.IMAGE_LORA: "Put it into models/loras and load it with the node Apply Domain Adapter",
    FileKind.LORA: "Put it into models/loras and load it with the node Load LoRA (Model Only)",
    FileKind.CHECKPOINT: "Put it into models/checkpoints and load it with the node Load Checkpoint",
    FileKind.CONTROLNET: "Put it into models/controlnet and load it with the node Load ControlNet Model",
    FileKind.POSE_GUIDER: "Put it into models/animate_anyone and load it with the node Load Pose Guider",
    FileKind.REFERENCE_NET: "Put it into models/animate_anyone and load it with the node Load Reference Net",
    FileKind.TUNED_VIDEO: "Put it into models/tune_a_video and load it with the node Apply Tune-A-Video",
    FileKind.IMAGE_UNET: "Put it into models/diffusion_models and load it with the node Load Diffusion Model",
    FileKind.IMAGE_ENCODER: "Put it into models/clip_vision and load it with the node Load CLIP Vision",
    FileKind.OTHER: "This pack does not know it; choose another file",
    FileKind.MORE_THAN_MOTION: "It needs more than a motion module; this pack cannot use it",
}


def cannot_be_used(name: str, use: str, wanted: FileKind, weights: Mapping, error: ValueError) -> ValueError:
    """The error for a file that could not be read as what it was chosen for: why, and where it belongs instead."""
    kind = file_kind(unwrap(weights)) if isinstance(weights, Mapping) else FileKind.EMPTY
    advice = "" if kind is wanted or kind not in ADVICE else f" {ADVICE[kind]}."
    return ValueError(f"{name} cannot be used as {use}: {error}{advice}")
