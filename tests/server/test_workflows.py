"""Every shipped workflow renders, and its canvas form says the same as its API form."""

import json
import shutil

from api_workflows import WORKFLOWS, api_workflow, set_input
import imageio_ffmpeg
import numpy as np
from PIL import Image
import pytest
import small_inputs
import small_models

NAMES = sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json"))
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


@pytest.fixture(scope="module")
def files(host):
    """The models and inputs that the workflows name, at a small size."""
    models, inputs = host.base / "models", host.base / "input"
    small_models.write_sdxl_models(models)
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
    shutil.rmtree(host.base / "output" / "animatic_training", ignore_errors=True)  # of an earlier run of the tests
    for trained in ("animatediff_motion_lora/my_zoom_in", "tune_a_video/my_clip"):
        (models / f"{trained}.safetensors").unlink(missing_ok=True)
    # force_rate 8 takes every third: six of eighteen
    small_inputs.write_video(inputs / "depth.mp4", frames, 24)
    small_inputs.write_video(inputs / "video.mp4", frames, 24, "-f", "lavfi", "-i", "sine=440:d=0.75")


@pytest.mark.parametrize("name", NAMES)
def test_workflow_renders(host, files, name):
    workflow = api_workflow(name)
    for node in workflow.values():
        node["inputs"] = {key: SMALL.get(v, v) if isinstance(v, str) else v for key, v in node["inputs"].items()}
    frames = 8 if name in LONG else 4  # eight are three windows of four, and more than the depth video's six
    small = {"width": 64, "height": 64, "steps": 2, "context_length": 4, "context_overlap": 1}
    small |= {"batch_size": frames, "num_frames": frames, "frame_load_cap": frames}
    for key, value in small.items():
        set_input(workflow, key, value)
    outputs = host.render(workflow)
    saved = [file for output in outputs.values() for file in output.get("gifs", [])]
    kinds = [node["class_type"] for node in workflow.values()]
    expected = [frames] * kinds.count("AnimaticVideoCombine")
    assert [imageio_ffmpeg.count_frames_and_secs(file["fullpath"])[0] for file in saved] == expected
    if name == "video_to_video":
        assert next(imageio_ffmpeg.read_frames(saved[0]["fullpath"]))["audio_codec"] == "aac"
    if name == "compare_methods":
        (table,) = outputs["40"]["text"]
        rows = [line.split("|")[1].strip() for line in table.splitlines()[2:5]]
        assert rows == ["AnimateDiff", "Text2Video-Zero", "stills"]


@pytest.mark.parametrize("name", NAMES)
def test_canvas_and_api_form_agree(name):
    canvas = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    assert (WORKFLOWS / f"{name}.jpg").stat().st_size > 10_000
    links = {link[0]: [str(link[1]), link[2]] for link in canvas["links"]}
    expected = api_workflow(name)
    drawn = {str(node["id"]): node for node in canvas["nodes"] if node["type"] != "MarkdownNote"}
    assert {key: node["type"] for key, node in drawn.items()} == {key: n["class_type"] for key, n in expected.items()}
    for key, node in drawn.items():
        inputs, values = {}, list(node["widgets_values"])
        for declared in node["inputs"]:
            if "widget" in declared:
                inputs[declared["name"]] = values.pop(0)  # it stands there even if the widget is linked
            if declared.get("link") is not None:
                inputs[declared["name"]] = links[declared["link"]]
            if declared["name"] == "seed":
                values.pop(0)  # control_after_generate, which only the canvas has
        inputs.pop("upload", None)  # the button of Load Image and Load Video, likewise
        assert inputs == expected[key]["inputs"] and not values, node["type"]
