"""What a motion module is, in one frozen description that the network is built from."""

from dataclasses import dataclass

# Every released motion module has these; none stores them in its file.
NUM_HEADS = 8
NORM_GROUPS = 32
PIA = "PIA"
ANIMATELCM_I2V = "AnimateLCM-I2V"
DEFAULT_MAX_FRAMES = 64  # of files without position tables (AnimateLCM was trained with 64)


@dataclass(frozen=True)
class BetaSchedule:
    """A discrete noise schedule in the host's words (the host's "linear" is diffusers' "scaled_linear")."""

    beta_schedule: str
    linear_start: float
    linear_end: float
    lcm_timesteps: int | None = None  # original steps of a consistency-distilled model


SQRT_LINEAR = BetaSchedule("sqrt_linear", 0.00085, 0.012)
LINEAR = BetaSchedule("linear", 0.00085, 0.012)
LINEAR_SDXL = BetaSchedule("linear", 0.00085, 0.020)
LCM = BetaSchedule("linear", 0.00085, 0.012, lcm_timesteps=50)
LCM_SQRT_LINEAR = BetaSchedule("sqrt_linear", 0.00085, 0.012, lcm_timesteps=100)
LCM_I2V = BetaSchedule("sqrt_linear", 0.00085, 0.014, lcm_timesteps=200)

# What the node offers. These names stand in users' workflows: never rename one.
BETA_SCHEDULES = {
    "sqrt_linear (AnimateDiff)": SQRT_LINEAR,
    "linear (HotShotXL, Stable Diffusion)": LINEAR,
    "linear (AnimateDiff SDXL)": LINEAR_SDXL,
    "lcm (AnimateLCM)": LCM,
    "lcm sqrt_linear (AnimateLCM paper)": LCM_SQRT_LINEAR,
    "lcm sqrt_linear (AnimateLCM-I2V)": LCM_I2V,
}


@dataclass(frozen=True)
class MotionModuleConfig:
    """Everything about a motion module except its weights.

    family: as users call it, for example "AnimateDiff v2".
    unet: the UNet it was trained with, "SD1.5" or "SDXL".
    channels: width of each down level, from the top; the up levels mirror it.
    modules_per_block: temporal transformers per down block; an up block has one more.
    attentions: self-attentions per temporal transformer (2; a SparseCtrl has 1).
    max_frames: rows of the position table, so the longest clip (or context window).
    unet_norm_over_frames: trained with the UNet's ResBlock and output norms taken over all frames.
    motion_norm_over_frames: trained with the motion module's own norm taken over all frames.
    down_only: has no up blocks, as in a SparseCtrl, whose ControlNet is the first half of a UNet.
    custom_positions: the file's position table differs from the standard sinusoid and is kept.
    image_input: how it takes a still, if it does: PIA or ANIMATELCM_I2V.
    """

    family: str
    unet: str
    channels: tuple[int, ...]
    modules_per_block: int
    has_mid_block: bool
    max_frames: int
    beta_schedule: BetaSchedule
    unet_norm_over_frames: bool = False
    motion_norm_over_frames: bool = False
    attentions: int = 2
    custom_positions: bool = False
    image_input: str = ""
    down_only: bool = False

    @property
    def layout(self) -> str:
        """The UNet that this fits, in words, for messages."""
        widths = ", ".join(str(c) for c in self.channels)
        return f"{self.unet}, {len(self.channels)} levels ({widths} channels)"
