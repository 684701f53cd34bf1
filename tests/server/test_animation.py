"""Text to animation through the API of a real ComfyUI."""

import json
import subprocess
import time

from api_workflows import api_workflow
import imageio_ffmpeg
import numpy as np
import psutil
from safetensors.torch import save_file
import small_models
import torch

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def decode(path, width, height):
    command = [FFMPEG, "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def test_text_to_animation_makes_a_video_that_holds_its_workflow(host, workflows):
    workflow = workflows.small("text_to_animation", batch_size=16, width=96)
    canvas = {"nodes": [], "note": "a=b; #\\"}
    workflow["2"]["inputs"]["weight_factor"] = 1.0  # what another test has left in the cache is in no history
    outputs = host.render(workflow, extra_data={"extra_pnginfo": {"workflow": canvas}})
    video = outputs["9"]["gifs"][0]["fullpath"]
    frames = decode(video, 96, 64)
    assert len(frames) == 16
    assert np.abs(frames[0].astype(int) - frames[8]).mean() > 0.5, "frames differ"
    tags = subprocess.run([FFMPEG, "-v", "error", "-i", video, "-f", "ffmetadata", "-"], capture_output=True).stdout
    text = tags.decode().replace("\\\\", "\0").replace("\\", "").replace("\0", "\\")
    assert json.dumps(canvas) in text and json.dumps(workflow["3"]) in text
    assert "AnimateDiff v3 for SD1.5" in outputs["2"]["text"][0]


def test_shipped_workflow_keeps_its_real_settings():
    assert api_workflow("text_to_animation")["6"]["inputs"] == {"width": 512, "height": 512, "batch_size": 16}


def test_again_another_seed_another_module_and_back(host, workflows):
    first = host.latents(workflows.latents())["10"]
    host.render(workflows.latents())  # cached by the host
    other_seed = host.latents(workflows.latents(seed=43))["10"]
    other_module = host.latents(workflows.latents(motion_module="second_v2.safetensors"))["10"]
    again = host.latents(workflows.latents())["10"]
    assert torch.equal(first, again)
    assert not torch.allclose(first, other_seed) and not torch.allclose(first, other_module)
    host.client.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(1)
    assert torch.equal(host.latents(workflows.latents())["10"], first)


def test_plain_model_in_the_same_graph_stays_plain(host, workflows):
    alone = workflows.latents(seed=5)
    alone["7"]["inputs"]["model"] = ["1", 0]
    del alone["2"], alone["3"]
    plain = host.latents(alone)["10"]
    graph = workflows.latents(seed=5)
    workflows.add_sampler(graph, 20, model=["1", 0])
    workflows.add_sampler(graph, 30, model=["1", 0], latent_image=["7", 0], denoise=0.5)  # after the animated one
    workflows.add_sampler(graph, 40, model=["1", 0])
    result = host.latents(graph)
    assert torch.equal(result["21"], plain) and torch.equal(result["41"], plain)
    assert not torch.allclose(result["10"], plain)


def test_effect_zero_is_plain(host, workflows):
    graph = workflows.latents(effect=0.0)
    workflows.add_sampler(graph, 20, model=["1", 0])
    result = host.latents(graph)
    assert torch.equal(result["10"], result["21"])


def test_advanced_halves_and_custom_sampler(host, workflows):
    graph = workflows.latents(steps=4)
    common = {
        key: graph["7"]["inputs"][key] for key in ("model", "positive", "negative", "cfg", "sampler_name", "scheduler")
    }
    for node, latent, noise, start, end, leftover in (
        ("50", ["6", 0], "enable", 0, 2, "enable"),
        ("51", ["50", 0], "disable", 2, 4, "disable"),
    ):
        graph[node] = {
            "class_type": "KSamplerAdvanced",
            "inputs": {
                **common,
                "add_noise": noise,
                "noise_seed": 42,
                "steps": 4,
                "latent_image": latent,
                "start_at_step": start,
                "end_at_step": end,
                "return_with_leftover_noise": leftover,
            },
        }
    guider = {"model": ["3", 0], "positive": ["4", 0], "negative": ["5", 0], "cfg": common["cfg"]}
    sigmas = {"model": ["3", 0], "scheduler": "normal", "steps": 4, "denoise": 1.0}
    graph["60"] = {"class_type": "CFGGuider", "inputs": guider}
    graph["61"] = {"class_type": "BasicScheduler", "inputs": sigmas}
    graph["62"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}}
    graph["63"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": 42}}
    custom = {
        "noise": ["63", 0],
        "guider": ["60", 0],
        "sampler": ["62", 0],
        "sigmas": ["61", 0],
        "latent_image": ["6", 0],
    }
    graph["64"] = {"class_type": "SamplerCustomAdvanced", "inputs": custom}
    for node, source in (("52", "51"), ("65", "64")):
        graph[node] = {
            "class_type": "SaveLatent",
            "inputs": {"samples": [source, 0], "filename_prefix": "latents/test"},
        }
    result = host.latents(graph)
    scale = result["10"].abs().max()
    assert (result["52"] - result["10"]).abs().max() / scale < 1e-4
    assert (result["65"] - result["10"]).abs().max() / scale < 1e-4


def test_a_stock_controlnet_steers_each_frame(host, workflows):
    folder = host.base / "models" / "controlnet"
    folder.mkdir(exist_ok=True)
    save_file(small_models.controlnet_state_dict(), folder / "small_controlnet.safetensors")
    graph = workflows.latents()
    graph["70"] = {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "small_controlnet.safetensors"}}
    graph["71"] = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 3, "color": 0}}
    graph["72"] = {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0xFFFFFF},
    }
    graph["73"] = {"class_type": "ImageBatch", "inputs": {"image1": ["71", 0], "image2": ["72", 0]}}
    steer = {"positive": ["4", 0], "negative": ["5", 0], "control_net": ["70", 0], "image": ["73", 0], "strength": 1.0}
    steer.update(start_percent=0.0, end_percent=1.0)
    graph["74"] = {"class_type": "ControlNetApplyAdvanced", "inputs": steer}
    black = {**steer, "image": ["71", 0]}
    graph["75"] = {"class_type": "ControlNetApplyAdvanced", "inputs": black}
    for number, source, model in ((80, "74", "3"), (90, "75", "3"), (100, "74", "1"), (110, "75", "1")):
        control = {"positive": [source, 0], "negative": [source, 1], "model": [model, 0]}
        workflows.add_sampler(graph, number, **control)
    result = host.latents(graph)
    moved = (result["81"] - result["91"]).abs().amax((1, 2, 3))
    still = (result["101"] - result["111"]).abs().amax((1, 2, 3))
    assert still[3] > 1e-3 and (still[:3] == 0).all(), "without motion, the white hint moves the last frame alone"
    assert (moved > 0).all() and moved[3] > moved[:3].max(), "with motion, the other frames follow it"


def test_interrupted_run_leaves_the_next_one_right(host, workflows):
    expected = host.latents(workflows.latents(seed=9))["10"]
    long = workflows.latents(seed=10, steps=200)
    host.interrupt(long, when=lambda message: message["type"] == "progress" and message["data"]["value"] >= 2)
    assert torch.equal(host.latents(workflows.latents(seed=9))["10"], expected)


def test_memory_does_not_grow(host, workflows):
    process = psutil.Process(host.served.process.pid)
    after = []
    for seed in range(100, 120):
        module = "small_sd15_v3.safetensors" if seed % 2 else "second_v2.safetensors"
        host.render(workflows.small("text_to_animation", seed=seed, motion_module=module))
        after.append(process.memory_info().rss)
    assert after[-1] < after[2] * 1.02
