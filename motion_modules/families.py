"""The families of motion modules: how each is recognised by its file, and how it was trained.

A row for each; a new family is one row more. What differs in the network itself (channels, blocks, positions) is read
off the file, see checkpoint.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

PIA_INPUT = "mask and image beside the latents"  # five channels of the UNet's first convolution (arXiv 2312.13964)
ENCODER_INPUT = "an image encoder"  # features for the down blocks (AnimateLCM-I2V, arXiv 2402.00769)


@dataclass(frozen=True)
class BetaSchedule:
    """A discrete noise schedule in the host's words (the host's "linear" is diffusers' "scaled_linear").

    v_prediction, zero_snr: what the model predicts, and whether its last step is noise alone; None leaves the model's.
    """

    beta_schedule: str
    linear_start: float
    linear_end: float
    lcm_timesteps: int | None = None  # original steps of a consistency-distilled model
    averaged_with: str | None = None  # noise levels half way to those of this schedule with the same ends
    v_prediction: bool | None = None
    zero_snr: bool | None = None


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
    # by the names that AnimateDiff-Evolved's users know
    "avg(sqrt_linear,linear)": replace(LINEAR, averaged_with="sqrt_linear"),
    "lcm avg(sqrt_linear,linear)": replace(LCM, averaged_with="sqrt_linear"),
    "lcm[100_ots]": replace(LCM, lcm_timesteps=100),
    "lcm >> sqrt_linear": replace(LCM_SQRT_LINEAR, lcm_timesteps=50),
}


@dataclass(frozen=True)
class Marks:
    """What a family is recognised by. positions: rows of the position tables, None if the file has none."""

    unet: str
    positions: int | None
    has_mid_block: bool
    image_input: str | None
    has_hotshot_names: bool


@dataclass(frozen=True)
class Family:
    """How a kind of motion module was trained.

    name: as users call it. recognised_by: whether a file's marks are this family's; the first row that says so counts.
    unet_norm_over_frames: with the UNet's ResBlock and output norms taken over all frames.
    motion_norm_over_frames: with the motion module's own norm taken over all frames.
    image_input: how it takes a still, if it does.
    max_frames: the longest clip of a file without position tables.
    """

    name: str
    recognised_by: Callable[[Marks], bool]
    beta_schedule: BetaSchedule = SQRT_LINEAR
    unet_norm_over_frames: bool = False
    motion_norm_over_frames: bool = False
    image_input: str | None = None
    max_frames: int = 64

    def __str__(self) -> str:
        return self.name


V2 = Family("AnimateDiff v2", lambda marks: marks.has_mid_block)
FAMILIES = (
    Family(
        "HotShotXL",
        lambda marks: marks.unet == "SDXL" and (marks.has_hotshot_names or marks.positions == 24),
        LINEAR,
        unet_norm_over_frames=True,
    ),
    Family("AnimateDiff SDXL", lambda marks: marks.unet == "SDXL", LINEAR_SDXL, motion_norm_over_frames=True),
    Family(
        "PIA",
        lambda marks: marks.image_input == PIA_INPUT,
        unet_norm_over_frames=True,
        image_input=PIA_INPUT,
    ),
    Family("AnimateLCM-I2V", lambda marks: marks.image_input == ENCODER_INPUT, LCM_I2V, image_input=ENCODER_INPUT),
    Family("AnimateLCM", lambda marks: marks.positions is None, LCM),
    Family("LongAnimateDiff", lambda marks: marks.positions > 32),
    V2,
    Family("AnimateDiff v1", lambda marks: marks.positions == 24, unet_norm_over_frames=True),
    Family("AnimateDiff v3", lambda marks: True),
)
SPARSE_CTRL = Family("SparseCtrl", lambda marks: False)  # told by the ControlNet around it


def family_of(marks: Marks) -> Family:
    return next(family for family in FAMILIES if family.recognised_by(marks))
