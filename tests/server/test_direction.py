"""Prompt travel, motion control, starts from images and ControlNet sequences through the API of a real ComfyUI."""

import numpy as np
from PIL import Image
import pytest
import small_models
import torch


def travel(workflow, **inputs):
    """The workflow with Prompt Travel in place of its two text encoders."""
    defaults = {
        "clip": ["1", 1],
        "prompts": "0: spring\n2: autumn",
        "negative_prompts": "blurry",
        "prefix": "",
        "suffix": "",
        "num_frames": 4,
        "curve": "linear",
        "loop": False,
    }
    workflow["20"] = {"class_type": "AnimaticPromptTravel", "inputs": {**defaults, **inputs}}
    workflow["7"]["inputs"].update(positive=["20", 0], negative=["20", 1])
    return workflow


def without_motion(workflow):
    """Frames that do not meet, so that each is what its own prompt makes of its own noise."""
    workflow["7"]["inputs"]["model"] = ["1", 0]
    return workflow


def test_prompts_travel_from_frame_to_frame(host, workflows):
    def latents(**inputs):
        return host.latents(without_motion(travel(workflows.latents(), **inputs)))["10"]

    still = latents(prompts="spring")
    moved = latents()
    assert torch.equal(moved[0], still[0])
    differences = [(moved[i] - still[i]).abs().max().item() for i in range(4)]
    assert differences[1] > 0 and torch.allclose(moved[2:], latents(prompts="autumn")[2:], atol=1e-5)
    assert torch.allclose(latents(prompts="0: spring\n2: autumn", curve="step")[1], still[1], atol=1e-5)
    looped = latents(loop=True)
    assert torch.allclose(looped[3], latents(prompts="0: spring\n2: autumn\n4: spring")[3], atol=1e-5)
    framed = latents(prompts="0: a (red:1.3) spring", prefix="best", suffix="lake")
    assert torch.equal(framed, latents(prompts="best, a (red:1.3) spring, lake"))


def test_expressions_and_single_frames(host, workflows):
    def latents(prompts, **inputs):
        return host.latents(without_motion(travel(workflows.latents(), prompts=prompts, **inputs)))["10"]

    moved = latents("a (red:`0.5 + pw_a * t / max_f`) spring", pw_a="0: 2, 3: 4")
    for frame, weight in ((0, "0.5"), (3, "3.5")):
        alone = latents(f"a (red:{weight}) spring")
        assert torch.allclose(moved[frame], alone[frame], atol=1e-5)
        assert (moved[1] - alone[1]).abs().max() > 1e-4
    assert torch.allclose(latents("0: spring\nmax_f / 2: autumn"), latents("0: spring\n2: autumn"), atol=1e-5)
    travelled = latents("0: spring\n2: autumn")
    assert torch.allclose(latents("0: spring\n2: autumn", current_frame=1)[1], travelled[1], atol=1e-5)
    assert torch.allclose(latents("0: spring\n2: autumn", current_frame=2), latents("autumn"), atol=1e-5)


def test_travel_equals_the_text_encoder(host, workflows):
    workflow = workflows.latents()
    prompt, negative = (workflow[workflow["7"]["inputs"][key][0]]["inputs"]["text"] for key in ("positive", "negative"))
    expected = host.latents(workflow)["10"]
    assert torch.equal(
        host.latents(travel(workflows.latents(), prompts=prompt, negative_prompts=negative))["10"], expected
    )
    twice = travel(
        workflows.latents(), prompts=f"0: {prompt}\n3: {prompt}", negative_prompts=f"0: {negative}\n1: {negative}"
    )
    assert torch.allclose(host.latents(twice)["10"], expected, atol=1e-4)


def test_long_and_short_prompts_travel_together(host, workflows):
    long = ", ".join(f"detail {i}" for i in range(60))

    def latents(prompts):
        workflow = travel(workflows.latents(), prompts=prompts, negative_prompts=f"0: {long}\n2: no")
        return host.latents(without_motion(workflow))["10"]

    travelled, only_long = latents(f"0: short\n3: {long}"), latents(long)
    assert torch.allclose(travelled[3], only_long[3], atol=1e-4)
    assert (travelled[0] - only_long[0]).abs().max() > 1e-2


def test_pooled_encodings_of_sdxl_travel(host, workflows):
    small_models.write_sdxl_models(host.base / "models")

    def latents(**inputs):
        workflow = workflows.small(
            "text_to_animation_sdxl", ckpt_name="small_sdxl.ckpt", motion_module="small_sdxl.safetensors"
        )
        del workflow["8"], workflow["9"]
        workflow["10"] = {
            "class_type": "SaveLatent",
            "inputs": {"samples": ["7", 0], "filename_prefix": "latents/test"},
        }
        return host.latents(without_motion(travel(workflow, **inputs)))["10"]

    moved = latents(prompts="0: spring\n3: autumn")
    assert torch.allclose(moved[0], latents(prompts="spring")[0], atol=1e-4)
    assert torch.allclose(moved[3], latents(prompts="autumn")[3], atol=1e-4)
    assert not torch.allclose(moved[3], moved[0], atol=1e-2)


@pytest.mark.parametrize("prompts, message", [("0: a\n0: b", "frame 0 stands there twice")])
def test_prompts_that_are_not_understood_are_named(host, workflows, prompts, message):
    assert message in host.failure(travel(workflows.latents(), prompts=prompts))


def control(workflow, name, node, **inputs):
    workflow[name] = {"class_type": node, "inputs": inputs}
    return [name, 0]


def test_motion_control_and_its_errors(host, workflows):
    defaults = {"curve": "linear", "start_percent": 0.0, "end_percent": 1.0, "block_effects": ""}

    def with_control(**inputs):
        workflow = workflows.latents()
        settings = {"motion_scale": "1", "effect": "1", **defaults, **inputs}
        workflow["3"]["inputs"]["motion_control"] = control(workflow, "30", "AnimaticMotionControl", **settings)
        return workflow

    plain = host.latents(workflows.latents())["10"]
    assert torch.equal(host.latents(with_control())["10"], plain)
    assert not torch.allclose(host.latents(with_control(effect="0: 1, 3: 0"))["10"], plain, atol=1e-3)
    assert "effect: 'x' is not understood" in host.failure(with_control(effect="1, x"))
    assert "no block mid_block" in host.failure(with_control(block_effects="mid_block = 0"))
    assert "is not a block and a number" in host.failure(with_control(block_effects="down"))
    assert torch.equal(host.latents(workflows.latents(seed=44))["10"], host.latents(workflows.latents(seed=44))["10"])


def test_start_from_image(host, workflows):
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (80, 64, 3), np.uint8)).save(
        host.base / "input" / "still.png"
    )
    workflow = workflows.latents()
    image = control(workflow, "40", "LoadImage", image="still.png")
    settings = {"vae": ["1", 2], "image_weight": "0: 0.2, 3: 0", "curve": "linear"}
    start = control(workflow, "41", "AnimaticStartFromImage", model=["3", 0], image=image, **settings)
    workflow["7"]["inputs"]["model"] = start
    started, plain = host.latents(workflow)["10"], host.latents(workflows.latents())["10"]
    assert not torch.allclose(started[0], plain[0], atol=1e-2)
    workflow["41"]["inputs"]["image_weight"] = "0"
    assert torch.equal(host.latents(workflow)["10"], plain)


@pytest.mark.parametrize(
    "family, schedule", [("pia", "sqrt_linear (AnimateDiff)"), ("i2v", "lcm sqrt_linear (AnimateLCM-I2V)")]
)
def test_motion_modules_with_an_image_input(host, workflows, family, schedule):
    extra = small_models.pia_input() if family == "pia" else small_models.image_encoder_state_dict()
    base = {"max_frames": None} if family == "i2v" else {}
    weights = small_models.motion_state_dict(mid=family == "i2v", **base) | extra
    small_models.write(host.base / "models" / "animatediff_models", f"small_{family}.safetensors", weights)
    Image.fromarray(np.random.default_rng(2).integers(0, 255, (64, 96, 3), np.uint8)).save(
        host.base / "input" / "wide.png"
    )
    workflow = workflows.latents(motion_module=f"small_{family}.safetensors")
    assert "connect Motion Image" in host.failure(workflow)
    image = control(workflow, "40", "LoadImage", image="wide.png")
    settings = {"pia_motion": "small", "pia_loop": False, "image_frame": 0, "drift": 0.5, "likeness": ""}
    still = control(workflow, "41", "AnimaticMotionImage", image=image, vae=["1", 2], **settings)
    workflow["3"]["inputs"]["motion_image"] = still
    outputs = host.latents(workflow)["10"]
    if family == "pia":  # the small UNet has no second motion module in a block, where the other's features go
        workflow["41"]["inputs"].update(pia_motion="large")
        assert not torch.allclose(host.latents(workflow)["10"], outputs, atol=1e-3)
    workflow["3"]["inputs"].update(effect=0.0, beta_schedule=schedule)
    assert (host.latents(workflow)["10"] - outputs).abs().max() > 1e-2


def test_preview_context_draws_the_windows(host, workflows):
    workflow = workflows.latents()
    settings = {
        "context_length": 16,
        "context_overlap": 4,
        "context_stride": 2,
        "fuse_method": "pyramid",
        "free_noise": True,
    }
    cut = control(
        workflow, "50", "AnimaticContextOptions", model=["3", 0], context_schedule="uniform looped", **settings
    )
    control(workflow, "51", "AnimaticPreviewContext", model=cut, num_frames=48, steps=3)
    output = host.render(workflow)["51"]
    picture = Image.open(host.base / "temp" / output["images"][0]["subfolder"] / output["images"][0]["filename"])
    assert picture.width == 28 + 48 * 20 and "48 frames, " in output["text"][0]
    assert len(set(picture.convert("RGB").getdata())) > 20
    workflow["51"]["inputs"]["model"] = ["3", 0]
    assert "no context windows" in host.failure(workflow)


def test_free_init_in_the_server(host, workflows):
    workflow = workflows.latents()
    workflow["7"]["inputs"]["model"] = control(workflow, "60", "AnimaticFreeInit", model=["3", 0], iterations=2)
    refined = host.latents(workflow)["10"]
    assert (refined - host.latents(workflows.latents())["10"]).abs().max() > 1e-2


def windowed(workflow, **settings):
    defaults = {"context_length": 4, "context_overlap": 1, "context_stride": 1, "context_schedule": "uniform looped"}
    options = {**defaults, "fuse_method": "overlap-linear", "free_noise": False, **settings}
    workflow["7"]["inputs"]["model"] = control(workflow, "50", "AnimaticContextOptions", model=["3", 0], **options)
    return workflow


def test_interrupt_between_windows_leaves_the_next_run_right(host, workflows):
    expected = host.latents(windowed(workflows.latents(seed=9, batch_size=11)))["10"]
    long = windowed(workflows.latents(seed=10, batch_size=40, steps=50))
    host.interrupt(long, when=lambda message: message["type"] == "progress" and message["data"]["value"] >= 1)
    assert torch.equal(host.latents(windowed(workflows.latents(seed=9, batch_size=11)))["10"], expected)


def test_controlnet_with_strength_by_frame_in_windows(host, workflows):
    small_models.write(
        host.base / "models" / "controlnet", "small_control.safetensors", small_models.controlnet_state_dict()
    )
    folder = host.base / "input" / "depth"
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(5):
        Image.fromarray(np.full((64, 64, 3), 50 * i, np.uint8)).save(folder / f"depth_{i}.png")

    def latents(by_frame, fewer_images="last one stays"):
        workflow = windowed(workflows.latents(batch_size=8))
        selection = {"frame_load_cap": 0, "skip_first_frames": 0, "select_every_nth": 1, "width": 0, "height": 0}
        images = control(workflow, "70", "AnimaticLoadImageSequence", folder="depth", **selection)
        net = control(workflow, "71", "ControlNetLoader", control_net_name="small_control.safetensors")
        conds = workflow["7"]["inputs"]
        settings = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
        conds_in = {"positive": conds["positive"], "negative": conds["negative"]}
        control(workflow, "72", "ControlNetApplyAdvanced", control_net=net, image=images, **conds_in, **settings)
        settings = {"by_frame": by_frame, "by_step": "1", "curve": "linear", "fewer_images": fewer_images}
        control(workflow, "73", "AnimaticControlStrength", positive=["72", 0], negative=["72", 1], **settings)
        conds.update(positive=["73", 0], negative=["73", 1])
        return host.latents(workflow)["10"]

    plain = host.latents(windowed(workflows.latents(batch_size=8)))["10"]
    assert torch.allclose(latents("0"), plain, atol=1e-4)
    fading = latents("0: 1, 7: 0")
    assert not torch.allclose(fading, plain, atol=1e-3) and not torch.allclose(fading, latents("1"), atol=1e-3)
    assert not torch.allclose(latents("1"), latents("1", "looped"), atol=1e-4)
