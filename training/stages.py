"""The stages of training, as a table (Guo et al. 2023, arXiv 2307.04725, section 4; Hu et al. 2023, arXiv 2311.17117;
Wu et al. 2022, arXiv 2212.11565).

What is new in a stage stands in its row: what learns, on how many frames, under which noise schedule, and where its
file goes. `Denoiser` (denoiser.py), `AnimateDenoiser` (animate_anyone.py) and `TuneDenoiser` (tune_a_video.py) put the
parts together.
"""

from dataclasses import dataclass, replace

DOMAIN_ADAPTER, MOTION_MODULE, MOTION_LORA = "domain_adapter", "motion_module", "motion_lora"
ANIMATE_ANYONE, ANIMATE_ANYONE_MOTION = "animate_anyone", "animate_anyone_motion"
TUNE_A_VIDEO = "tune_a_video"
REFERENCE_UNET, POSE_GUIDER, DENOISING_UNET = "reference_unet", "pose_guider", "denoising_unet"


@dataclass(frozen=True)
class Stage:
    """One row.

    name: of the stage, and in `Parts` (denoiser.py) of the part that learns. title: in words.
    num_frames: of a clip, unless set otherwise; 1: single frames.
    beta_schedule: in the host's words; the paper trains images under Stable Diffusion's schedule, clips under its own.
    low_rank: what learns is a low-rank change, so it has a rank and an alpha.
    model_folder: the kind of model folder that the file goes to, by the name that users' folders have.
    v_prediction: what is predicted is v (Salimans and Ho 2022, arXiv 2202.00512), not the noise. zero_snr: the last
        timestep is noise alone (Lin et al. 2023, arXiv 2305.08891).
    posed: it learns from clips that show a person's poses beside the person, with a frame of the clip as reference.
    files: if it writes several, what each is, and the kind of its folder.
    """

    name: str
    title: str
    num_frames: int
    beta_schedule: str
    low_rank: bool
    model_folder: str
    v_prediction: bool = False
    zero_snr: bool = False
    posed: bool = False
    files: tuple[tuple[str, str], ...] = ()

    def predicting_noise(self) -> "Stage":
        """The same stage as the paper's text has it, and AnimateDiff: it predicts noise, under unchanged betas."""
        return replace(self, v_prediction=False, zero_snr=False)


_FILES = ((REFERENCE_UNET, "animate_anyone"), (POSE_GUIDER, "animate_anyone"), (DENOISING_UNET, "diffusion_models"))
_MOTION = "animatediff_models"
_POSED = {"v_prediction": True, "zero_snr": True, "posed": True}  # as the weights that people have were trained
STAGES = {
    stage.name: stage
    for stage in (
        # Section 4.1: LoRA on the spatial self- and cross-attention, from single frames
        Stage(DOMAIN_ADAPTER, "domain adapter", 1, "linear", True, "loras"),
        # Section 4.2: temporal transformers with zero-initialised output, the adapter active and frozen
        Stage(MOTION_MODULE, "motion module", 16, "sqrt_linear", False, _MOTION),
        # Section 4.3: low rank on the temporal self-attention, everything else frozen
        Stage(MOTION_LORA, "MotionLoRA", 16, "sqrt_linear", True, "animatediff_motion_lora"),
        # Animate Anyone, section 3.4: ReferenceNet, Pose Guider and UNet from pairs of frames; then motion alone
        Stage(ANIMATE_ANYONE, "Animate Anyone", 24, "sqrt_linear", False, "animate_anyone", files=_FILES, **_POSED),
        Stage(ANIMATE_ANYONE_MOTION, "Animate Anyone's motion", 24, "sqrt_linear", False, _MOTION, **_POSED),
        # Tune-A-Video, section 3.3: queries and attention over the frames, from one clip, under the image model's betas
        Stage(TUNE_A_VIDEO, "Tune-A-Video", 24, "linear", False, "tune_a_video"),
    )
}
UNET_LEARNS = (ANIMATE_ANYONE, TUNE_A_VIDEO)  # layers of the UNet itself, which stays in float32
