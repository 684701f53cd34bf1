"""Training in a served ComfyUI, between renders."""

from pathlib import Path
import shutil

from PIL import Image
import pytest
from safetensors import safe_open
from safetensors.torch import load_file
import small_models
import torch
from training_models import write_video

TRAINED = [f"animatediff_motion_lora/{name}.safetensors" for name in ("served_zoom", "uncancelled", "cancelled")]
TRAINED += [f"animatediff_motion_lora/{name}.safetensors" for name in ("from_images", "before_stock", "after_stock")]
TRAINED += [f"animatediff_motion_lora/{name}.safetensors" for name in ("from_three", "moves/blank")]
TRAINED += ["loras/served_adapter.safetensors", "animatediff_models/served_module.safetensors"]
TRAINED += ["tune_a_video/served_clip.safetensors"]
OWN = {"zoom": 1.0, "pan": 0.0, "tilt": 0.0, "roll": 0.0}
APPLY = {"motion_scale": 1.0, "effect": 1.0, "start_percent": 0.0, "end_percent": 1.0, "beta_schedule": "auto"}


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


@pytest.fixture(scope="module")
def videos(host) -> Path:
    shutil.rmtree(host.base / "output" / "animatic_training", ignore_errors=True)  # of an earlier run of the tests
    for file in TRAINED:
        (host.base / "models" / file).unlink(missing_ok=True)
    folder = host.base / "input" / "served_videos"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("one", "two"):
        write_video(folder / f"{name}.mp4")
        (folder / f"{name}.txt").write_text(f"grey {name}")
    return folder


def training(stage: str, filename: str, steps: int = 2, **inputs) -> dict:
    """The nodes up to the training node, which is "20"; its curve and previews beside it."""
    dataset = {"table": "", "caption": "", "num_frames": 3, "stride": 1, "frame_rate": 0.0, "width": 64, "height": 64}
    dataset |= {"clips_per_video": 1, "flip": False, "clip_seed": 0}
    options = {"batch_size": 1, "text_dropout": 0.1, "precision": "fp32", "recompute": True, "eight_bit_adam": False}
    options |= {"save_every": 100, "validate_every": 0, "preview_every": 0, "half": False, "training_seed": 0}
    common = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "clips": ["16", 0], "filename": filename}
    common |= {"steps": steps, "learning_rate": 0.01, "options": ["17", 0]}
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name="small_sd15.ckpt"),
        "2": node("AnimaticLoadMotionModule", motion_module="small_sd15_v3.safetensors"),
        "15": node("AnimaticVideoDataset", folder="served_videos", **dataset),
        "16": node("AnimaticCameraMotionClips", clips=["15", 0], move="ZoomIn", speed=1.0, **OWN),
        "17": node("AnimaticTrainingOptions", **options),
        "20": node(stage, **{**common, **inputs}),
        "21": node("AnimaticTrainingCurve", curve=["20", 1]),
    }


def lora_training(filename: str, **options) -> dict:
    return training("AnimaticTrainMotionLora", filename, motion_module=["2", 0], rank=4, **options)


def loading(workflow: dict, file: str) -> dict:
    workflow["30"] = node("AnimaticLoadMotionLora", motion_lora=file, strength=1.0)
    workflow["3"]["inputs"]["motion_lora"] = ["30", 0]
    return workflow


def test_render_train_render(host, videos, workflows):
    plain = host.latents(workflows.latents())
    workflow = lora_training("served_zoom")
    workflow["17"]["inputs"].update(validate_every=1, preview_every=2)
    played = []

    def watch(message: dict) -> None:
        if message["type"] == "executed" and message["data"]["node"] == "20":
            played.append(message["data"]["output"]["images"][0]["filename"])

    outputs = host.render(workflow, watch=watch)
    assert len(played) == 2 and played[0] == played[1], "the preview plays before the node ends, and goes on"
    assert "step 2 of 2" in outputs["20"]["text"][0] and outputs["20"]["animated"] == [True]
    assert "2 clips of 3 frames, 64 x 64, from 2 videos" in outputs["16"]["text"][0]
    assert outputs["16"]["animated"] == [True], "the moving clips play in the node"
    picture = outputs["21"]["images"][0]
    with Image.open(host.base / picture["type"] / picture["subfolder"] / picture["filename"]) as image:
        assert image.size == (960, 4 * 230)
    trained = host.latents(loading(workflows.latents(seed=43), "served_zoom.safetensors"))
    direct = {**lora_training("served_zoom"), **workflows.latents(seed=43)}
    direct["3"]["inputs"]["motion_lora"] = ["20", 0]
    assert torch.equal(host.latents(direct)["10"], trained["10"]), "the output and the file are the same MotionLoRA"
    other = host.latents(workflows.latents(seed=43))
    assert not torch.allclose(trained["10"], other["10"], atol=1e-3)
    assert torch.equal(host.latents(workflows.latents())["10"], plain["10"]), "the checkpoint is as it was"


def test_cancel_keeps_what_was_learnt(host, videos):
    whole = lora_training("uncancelled", steps=9)
    cancelled = lora_training("cancelled", steps=9)
    host.render(whole)

    def after_some_steps(message: dict) -> bool:
        data = message.get("data", {})
        return message.get("type") == "progress" and data.get("max") == 9 and data["value"] >= 3

    host.interrupt(cancelled, after_some_steps)
    state = host.base / "output" / "animatic_training" / "motion_lora" / "cancelled"
    kept = [int(path.name.removeprefix("step-")) for path in state.glob("step-*")]
    assert len(kept) == 1 and 3 <= kept[0] < 9
    folder = host.base / "models" / "animatediff_motion_lora"
    assert not (folder / "cancelled.safetensors").exists()
    assert "step 9 of 9" in host.render(cancelled)["20"]["text"][0]
    assert f"going on from step {kept[0]}" in host.served.log()
    first, second = (load_file(folder / f"{name}.safetensors") for name in ("uncancelled", "cancelled"))
    assert first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())


def test_fewer_steps_than_were_made_are_another_training(host, videos):
    host.render(lora_training("from_three", steps=3))
    with pytest.raises(RuntimeError, match="has made 3 steps already, more than 2"):
        host.render(lora_training("from_three", steps=2))


def test_a_name_with_blanks_and_a_folder(host, videos, workflows):
    workflow = {**lora_training(" moves/blank "), **workflows.latents()}
    workflow["3"]["inputs"]["motion_lora"] = ["20", 0]
    host.latents(workflow)
    assert (host.base / "models" / "animatediff_motion_lora" / "moves" / "blank.safetensors").is_file()
    assert (host.base / "output" / "animatic_training" / "motion_lora" / "moves" / "blank" / "clips.jsonl").is_file()


def test_adapter_and_module_are_trained_and_rendered_in_one_prompt(host, videos, workflows):
    workflow = {**training("AnimaticTrainDomainAdapter", "served_adapter", rank=4)}
    module = training("AnimaticTrainMotionModule", "served_module", max_frames=16, mid_block=False)["20"]
    module["inputs"]["model"] = ["20", 0]
    workflow["22"] = module
    workflow |= workflows.latents()
    workflow["3"]["inputs"] |= {"motion_module": ["22", 0]}
    trained = host.latents(workflow)["10"]
    assert not torch.allclose(trained, host.latents(workflows.latents())["10"], atol=1e-3)
    with safe_open(host.base / "models" / "animatediff_models" / "served_module.safetensors", "pt") as file:
        assert file.metadata()["stage"] == "motion_module" and file.metadata()["steps"] == "2"
    with safe_open(host.base / "models" / "loras" / "served_adapter.safetensors", "pt") as file:
        assert file.metadata()["num_frames"] == "1"


def test_a_clip_is_tuned_and_rendered_as_often_as_asked(host, videos, workflows):
    plain = workflows.latents()
    plain["7"]["inputs"]["model"] = ["1", 0]
    before = host.latents(plain)["10"]
    direct = {**training("AnimaticTrainTuneAVideo", "served_clip"), **plain}
    direct["7"] = {**plain["7"], "inputs": {**plain["7"]["inputs"], "model": ["20", 0]}}
    tuned = host.latents(direct)["10"]
    assert not torch.allclose(tuned, before, atol=1e-3)
    read = {**plain, "30": node("AnimaticApplyTuneAVideo", model=["1", 0], tuned_video="served_clip.safetensors")}
    read["7"] = {**plain["7"], "inputs": {**plain["7"]["inputs"], "model": ["30", 0]}}
    assert torch.equal(host.latents(read)["10"], tuned)
    assert torch.equal(host.latents(plain)["10"], before)
    assert torch.equal(host.latents(read)["10"], tuned)
    with safe_open(host.base / "models" / "tune_a_video" / "served_clip.safetensors", "pt") as file:
        assert file.metadata() | {"stage": "tune_a_video", "prompt": "grey one", "num_frames": "3"} == file.metadata()


def test_images_of_the_graph_are_learnt(host, videos, workflows):
    workflow = lora_training("from_images")
    workflow["15"]["inputs"] |= {"folder": "(the images input)", "caption": "grey", "images": ["14", 0]}
    workflow["14"] = node("EmptyImage", width=80, height=72, batch_size=9, color=0x404040)
    assert "from 1 videos" in host.render(workflow)["15"]["text"][0]


def test_the_hosts_own_training_works_beside_it(host, videos, workflows):
    host.render(lora_training("before_stock"))
    info = host.client.get("/object_info/TrainLoraNode")["TrainLoraNode"]["input"]
    inputs = {key: default_of(declared) for kind in info.values() for key, declared in kind.items()}
    inputs |= {"model": ["1", 0], "positive": ["3", 0], "latents": ["2", 0], "steps": 2, "rank": 2}
    inputs |= {"training_dtype": "fp32", "lora_dtype": "fp32", "gradient_checkpointing": False}
    workflow = {
        "1": node("CheckpointLoaderSimple", ckpt_name="small_sd15.ckpt"),
        "6": node("EmptyLatentImage", width=64, height=64, batch_size=2),
        "2": node("RebatchLatents", latents=["6", 0], batch_size=1),  # it takes a list
        "3": node("CLIPTextEncode", text="grey", clip=["1", 1]),
        "4": node("TrainLoraNode", **inputs),
    }
    outputs = host.client.get("/object_info/TrainLoraNode")["TrainLoraNode"]["output"]
    workflow["5"] = node("LossGraphNode", loss=["4", outputs.index("LOSS_MAP")], filename_prefix="loss")
    assert host.render(workflow)["5"]["images"]
    assert "step 2 of 2" in host.render(lora_training("after_stock", steps=2))["20"]["text"][0]


def default_of(declared: list):
    options = declared[1] if len(declared) > 1 else {}
    choices = declared[0] if isinstance(declared[0], list) else options.get("options", [None])
    return options.get("default", choices[0])


@pytest.mark.parametrize(
    ("node_id", "changes", "message"),
    (
        ("15", {"folder": "../.."}, "outside of ComfyUI's folders"),
        ("15", {"folder": "served_videos", "table": "none.csv"}, "There is no table"),
        ("15", {"num_frames": 100}, "None of the 2 videos can be used.*has 20 frames"),
        ("15", {"width": 100}, "multiples of 8"),
        ("16", {"move": "own"}, "This camera stays where it is"),
        ("20", {"filename": "../outside"}, "is not a file name inside"),
        ("20", {"filename": "somebody_elses"}, "exists already, and there is no state to go on from"),
        ("20", {"filename": "too long", "motion_module": ["24", 0]}, "have 3 frames, but the motion module knows 2"),
        ("20", {"filename": "sdxl", "model": ["26", 0]}, "Training is for Stable Diffusion 1.5 models"),
        ("20", {"model": ["25", 0]}, "is applied to this MODEL already"),
        ("20", {"rank": 3, "filename": "served_zoom"}, "is of another run: rank was 4 and is now 3"),
    ),
)
def test_mistakes_are_said(host, videos, node_id, changes, message):
    if changes.get("filename") == "served_zoom":
        host.render(lora_training("served_zoom"))
    (host.base / "models" / "animatediff_motion_lora" / "somebody_elses.safetensors").write_bytes(b"theirs")
    workflow = lora_training("mistaken")
    workflow["25"] = node("AnimaticApplyMotionModule", model=["1", 0], motion_module=["2", 0], **APPLY)
    workflow["26"] = node("CheckpointLoaderSimple", ckpt_name="small_sdxl.ckpt")
    workflow["24"] = node(
        "AnimaticLoadMotionModule", motion_module="small_sd15_v3.safetensors", stretch_positions="2 -> 2"
    )
    small_models.write_sdxl_models(host.base / "models")
    workflow[node_id]["inputs"] |= changes
    with pytest.raises(RuntimeError, match=message):
        host.render(workflow)
