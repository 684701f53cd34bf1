"""Clips are measured and laid out in a served ComfyUI."""

import numpy as np
from PIL import Image
import pytest
from small_inputs import write_video
from training_models import write_video as write_moving


def node(kind: str, **inputs) -> dict:
    return {"class_type": f"Animatic{kind}", "inputs": inputs}


@pytest.fixture
def workflow(host) -> dict:
    """Loads a clip that moves, and a frozen one."""
    folder = host.base / "input"
    write_moving(folder / "moves.mp4")
    write_video(folder / "frozen.mp4", np.full((4, 64, 64, 3), 90, np.uint8), 8)
    loaded = {"force_rate": 0.0, "width": 0, "height": 0, "skip_first_frames": 0, "select_every_nth": 1}
    loaded |= {"frame_load_cap": 4}
    return {str(n): node("LoadVideo", video=f"{name}.mp4", **loaded) for n, name in ((1, "moves"), (2, "frozen"))}


def test_every_node_of_the_theme_runs(host, workflow):
    clips, against = {"images_1": ["1", 0], "images_2": ["2", 0]}, {"prompt": "", "clip_folder": "(none)"}
    workflow["3"] = node("EvaluateAnimation", images=["1", 0], truth=["1", 0], **against)
    workflow["4"] = node("CompareAnimations", names="moves\nfrozen", **clips, **against)
    workflow["5"] = node("OpticalFlowPreview", images=["1", 0], full_colour=0.0)
    workflow["6"] = node("ContactSheet", images=["1", 0], columns=2, picture_width=64, every_nth=1, numbers=True)
    outputs = host.render(workflow)
    assert "SSIM: 1.0000" in outputs["3"]["text"][0]
    assert "| frozen | 0.000 | 0.000 |" in outputs["4"]["text"][0] and "frozen hardly moves" in outputs["4"]["text"][0]
    assert "motion " in outputs["5"]["text"][0] and outputs["5"]["animated"] == [True]
    for number in ("3", "6"):
        (shown,) = outputs[number]["images"]
        with Image.open(host.base / "temp" / shown["subfolder"] / shown["filename"]) as picture:
            assert picture.width == {"3": 960, "6": 2 * 64 + 12}[number]


def test_what_is_missing_is_said_in_the_graph(host, workflow):
    inputs = {"images": ["1", 0], "prompt": "a fish", "clip_folder": "(none)"}
    assert "choose a clip_folder" in host.failure({**workflow, "3": node("EvaluateAnimation", **inputs)})
