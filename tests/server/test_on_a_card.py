"""The pack in a ComfyUI that has cards, if only pretended ones (tests/pretended_card)."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
import os
from pathlib import Path
import shutil
import subprocess
import sys
import sysconfig

from animatic_pack import ROOT, dev
from api_workflows import set_input
import imageio_ffmpeg
import pytest
from reference import relative_error
from rendering_host import RenderingHost
from served_host import serve
from small_templates import TEMPLATES, small_template, write_what_templates_name
import torch
from torch.utils.cpp_extension import is_ninja_available

CARD = ROOT / "tests" / "pretended_card"
TRAINING = {"train_camera_move", "tune_a_video"}
PRECISE = ("--force-fp32", "--fp32-vae", "--fp32-text-enc")


def why_not() -> str | None:
    if os.name == "nt":
        return "the pretended card is for Linux and macOS"
    if not shutil.which("c++") or not is_ninja_available():
        return "no C++ compiler or no ninja is here to build the pretended card with"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "this Python has no headers to build the pretended card with"
    return None


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "")


@contextmanager
def pretended_cards(**settings: str) -> Iterator[None]:
    """For processes that start meanwhile. settings: see tests/pretended_card/torch_npu."""
    build = dev.WORK / f"pretended_card_{torch.__version__}"
    build.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(CARD), prepend=os.pathsep)
        for name, value in {"PRETENDED_BUILD": str(build), **settings}.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def base():
    """The folder that all hosts with cards share."""
    folder = dev.base_directory(f"card{os.environ.get('PYTEST_XDIST_WORKER', '')}")
    write_what_templates_name(folder)
    return folder


@contextmanager
def host_with_cards(base: Path, *arguments: str, **settings: str) -> Iterator[RenderingHost]:
    with ExitStack() as stack:
        with pretended_cards(**settings):
            served = stack.enter_context(serve(dev.find_host(), base, arguments))
        devices = served.client.get("/system_stats")["devices"]
        assert "npu" in {device["type"] for device in devices}, devices
        yield RenderingHost(served, base)


@pytest.fixture(scope="module")
def precise(base):
    """Two cards, in float32, so that they can be compared with the processor."""
    with host_with_cards(base, *PRECISE, PRETENDED_CARDS="2") as host:
        yield host


@pytest.fixture(scope="module")
def processor(host):
    """What it renders is what a card should."""
    write_what_templates_name(host.base)
    return host


def ending_in_latents(name: str) -> dict:
    workflow, _ = small_template(name)
    for number, node in list(workflow.items()):
        if node["class_type"] == "KSampler":
            save = {"samples": [number, 0], "filename_prefix": "latents/card"}
            workflow[f"{number}.saved"] = {"class_type": "SaveLatent", "inputs": save}
    return workflow


def require_same(expected: dict, found: dict) -> None:
    assert expected.keys() == found.keys() and expected
    for node, latents in expected.items():
        assert relative_error(found[node], latents) < 1e-4


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name not in TRAINING])
def test_a_template_gives_the_processors_latents(processor, precise, name):
    require_same(processor.latents(ending_in_latents(name)), precise.latents(ending_in_latents(name)))


# ComfyUI's own ControlNets stay on the first card when a model is put on the second
@pytest.mark.parametrize(
    ("name", "behind", "kind", "settings"),
    [
        ("two_camera_moves", "loader", "SelectModelDevice", {"device": "gpu:1"}),
        ("animate_anyone_long", "loader", "SelectModelDevice", {"device": "gpu:1"}),
        ("depth_controlnet_long", "sampler", "MultiGPU_WorkUnits", {"max_gpus": 2}),
        ("animate_anyone_long", "sampler", "MultiGPU_WorkUnits", {"max_gpus": 2}),
    ],
)
def test_it_is_the_same_on_the_second_card_and_on_both(processor, precise, name, behind, kind, settings):
    if kind not in precise.client.get("/object_info"):
        pytest.skip("this ComfyUI uses one graphics card")
    workflow = ending_in_latents(name)
    expected = processor.latents(workflow)
    (sampler,) = [node["inputs"] for node in workflow.values() if node["class_type"] == "KSampler"]
    link = ["1", 0] if behind == "loader" else sampler["model"]
    for node in workflow.values():
        if node["inputs"].get("model") == link:
            node["inputs"]["model"] = ["between", 0]
    workflow["between"] = {"class_type": kind, "inputs": {"model": link, **settings}}
    require_same(expected, precise.latents(workflow))


@pytest.fixture(scope="module")
def half(base):
    """As ComfyUI runs on a card: in float16 and bfloat16."""
    with host_with_cards(base) as host:
        yield host


@pytest.mark.parametrize("name", [*sorted(TRAINING), "text_to_animation", "animate_anyone"])
def test_training_and_sampling_in_half_precision(half, name):
    workflow, frames = small_template(name)
    outputs = half.render(workflow)
    saved = [file["fullpath"] for output in outputs.values() for file in output.get("gifs", [])]
    assert saved and all(imageio_ffmpeg.count_frames_and_secs(file)[0] == frames for file in saved)


@pytest.fixture(scope="module")
def little(base):
    """Weights stay in the machine's memory and come for each layer."""
    with host_with_cards(base, *PRECISE, "--novram", PRETENDED_MB="256") as host:
        yield host


@pytest.mark.parametrize("name", ["two_camera_moves", "animate_anyone"])
def test_a_card_too_small_for_the_weights(processor, little, name):
    require_same(processor.latents(ending_in_latents(name)), little.latents(ending_in_latents(name)))


def test_a_clip_that_the_card_cannot_hold_leaves_room_for_the_next(processor, little):
    too_large = ending_in_latents("two_camera_moves")
    set_input(too_large, "width", 4096)  # one tensor of the UNet would be larger than the card
    set_input(too_large, "height", 4096)
    assert "out of memory" in little.failure(too_large)
    next_one = ending_in_latents("animate_anyone_long")
    require_same(processor.latents(next_one), little.latents(next_one))


def test_what_waits_for_a_real_card_runs():
    """Of tests/gpu what is small enough; it would fail of itself on the first day with a card."""
    files = [
        ROOT / "tests" / "gpu" / f"test_{name}.py" for name in ("eight_bits", "kept_hints", "positions", "schedules")
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, files)]
    with pretended_cards():
        done = subprocess.run(
            command, cwd=ROOT, env=dev.child_environment(dev.find_host()), capture_output=True, text=True
        )
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout
