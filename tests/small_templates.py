"""Every shipped workflow on small models and inputs, at a small size."""

from pathlib import Path
import shutil

from api_workflows import WORKFLOWS, api_workflow, set_input
import numpy as np
from PIL import Image
import small_inputs
import small_models

TEMPLATES = sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json"))
LONG = {"depth_controlnet_long", "prompt_travel_loop", "animate_anyone_long", "lora_from_frame"}  # with context windows
SMALL = {
    "DreamShaper_8_pruned.safetensors": "small_sd15.ckpt",
    "sd_xl_base_1.0.safetensors": "small_sdxl.ckpt",
    "v3_sd15_mm.ckpt": "small_sd15_v3.safetensors",
    "mm_sd_v15_v2.ckpt": "second_v2.safetensors",
    "hsxl_temporal_layers.f16.safetensors": "small_sdxl.safetensors",
    "v2_lora_ZoomIn.ckpt": "zoom.safetensors",
    "v2_lora_PanLeft.ckpt": "pan.safetensors",
    "v3_sd15_adapter.ckpt": "small_adapter.safetensors",
    "pixel_art_style.safetensors": "small_adapter.safetensors",
    "0: 0, 44: 0, 56: 1": "0: 0, 2: 0, 5: 1",
    "control_v11f1p_sd15_depth_fp16.safetensors": "small_controlnet.safetensors",
    "denoising_unet.pth": "small_denoising_unet.safetensors",
    "motion_module.pth": "second_v2.safetensors",
    "reference_unet.pth": "small_reference_unet.safetensors",
    "pose_guider.pth": "small_pose_guider.safetensors",
    "pytorch_model.bin": "small_image_encoder.pth",
    "vae-ft-mse-840000-ema-pruned.safetensors": "small_vae.safetensors",
}


def small_template(name: str) -> tuple[dict, int]:
    """The workflow, for /prompt, and how many frames its clips have."""
    workflow = api_workflow(name)
    for node in workflow.values():
        node["inputs"] = {key: SMALL.get(v, v) if isinstance(v, str) else v for key, v in node["inputs"].items()}
    frames = 8 if name in LONG else 4  # eight are three windows of four, and more than the depth video's six
    small = {"width": 64, "height": 64, "steps": 2, "context_length": 4, "context_overlap": 1}
    small |= {"batch_size": frames, "num_frames": frames, "frame_load_cap": frames}
    for key, value in small.items():
        set_input(workflow, key, value)
    return workflow, frames


def write_what_templates_name(base: Path) -> None:
    """Models and inputs into a host's folders."""
    models, inputs = base / "models", base / "input"
    small_models.write_demo_models(models)
    small_models.write_sdxl_models(models)
    small_models.write_second_module(models)
    for file, seed in (("zoom.safetensors", 1), ("pan.safetensors", 2)):
        small_models.write(
            models / "animatediff_motion_lora", file, small_models.motion_lora_state_dict(mid=True, seed=seed)
        )
    small_models.write(models / "loras", "small_adapter.safetensors", small_models.domain_adapter_state_dict())
    small_models.write(models / "controlnet", "small_controlnet.safetensors", small_models.controlnet_state_dict())
    small_models.write_animate_anyone_models(models)
    small_inputs.write_character(inputs, frames=6)
    ramp = np.linspace(0, 255, 80, dtype=np.uint8)
    frames = np.stack([np.broadcast_to(np.roll(ramp, 4 * i)[None, :, None], (60, 80, 3)) for i in range(18)])
    Image.fromarray(frames[0]).save(inputs / "image.png")
    (inputs / "training_videos").mkdir(exist_ok=True)
    small_inputs.write_video(inputs / "training_videos" / "ramp.mp4", frames, 8)
    shutil.rmtree(base / "output" / "animatic_training", ignore_errors=True)  # of an earlier run of the tests
    for trained in ("animatediff_motion_lora/my_zoom_in", "tune_a_video/my_clip"):
        (models / f"{trained}.safetensors").unlink(missing_ok=True)
    # force_rate 8 takes every third: six of eighteen
    small_inputs.write_video(inputs / "depth.mp4", frames, 24)
    small_inputs.write_video(inputs / "video.mp4", frames, 24, "-f", "lavfi", "-i", "sine=440:d=0.75")
