"""The stages of training, as a table (Guo et al. 2023, arXiv 2307.04725, section 4).

What is new in a stage stands in its row: what learns, on how many frames, under which noise schedule, and where its
file goes. `Denoiser` (denoiser.py) puts the parts together.
"""

from dataclasses import dataclass

DOMAIN_ADAPTER, MOTION_MODULE, MOTION_LORA = "domain_adapter", "motion_module", "motion_lora"


@dataclass(frozen=True)
class Stage:
    """One row.

    name: of the stage, and in `Parts` (denoiser.py) of the part that learns. title: in words.
    num_frames: of a clip, unless set otherwise; 1: single frames.
    beta_schedule: in the host's words; the paper trains images under Stable Diffusion's schedule, clips under its own.
    low_rank: what learns is a low-rank change, so it has a rank and an alpha.
    model_folder: the kind of model folder that the file goes to, by the name that users' folders have.
    """

    name: str
    title: str
    num_frames: int
    beta_schedule: str
    low_rank: bool
    model_folder: str


STAGES = {
    stage.name: stage
    for stage in (
        # Section 4.1: LoRA on the spatial self- and cross-attention, from single frames
        Stage(DOMAIN_ADAPTER, "domain adapter", 1, "linear", True, "loras"),
        # Section 4.2: temporal transformers with zero-initialised output, the adapter active and frozen
        Stage(MOTION_MODULE, "motion module", 16, "sqrt_linear", False, "animatediff_models"),
        # Section 4.3: low rank on the temporal self-attention, everything else frozen
        Stage(MOTION_LORA, "MotionLoRA", 16, "sqrt_linear", True, "animatediff_motion_lora"),
    )
}
