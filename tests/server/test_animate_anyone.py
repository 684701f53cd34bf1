"""Animate Anyone at the API: prompts queued one after the other, with other seeds and other reference pictures."""

import numpy as np
from PIL import Image
import pytest
from reference import relative_error
from render_demo import SMALL
import small_inputs
import small_models
import torch

NAMES = ("unet_name", "vae_name", "clip_name", "reference_net", "pose_guider")


@pytest.fixture(scope="module")
def files(host):
    small_models.write_animate_anyone_models(host.base / "models")
    small_inputs.write_character(host.base / "input", frames=6)
    other = np.asarray(Image.open(host.base / "input" / "reference.png"))[::-1]
    Image.fromarray(other).save(host.base / "input" / "other.png")


def test_the_reference_net_looks_once_at_each_picture(host, files, workflows):
    def latents(**changes):
        small = {name: SMALL["animate_anyone"][name] for name in NAMES}
        workflow = workflows.small("animate_anyone", **small, frame_load_cap=4, **changes)
        del workflow["14"], workflow["15"]
        save = {"samples": ["13", 0], "filename_prefix": "latents/test"}
        workflow["16"] = {"class_type": "SaveLatent", "inputs": save}
        return host.latents(workflow)["16"]

    def looks():
        return host.served.log().count("looks at 1 pictures")

    before = looks()
    first = latents(seed=1)
    assert looks() == before + 1
    assert not torch.equal(latents(seed=2), first) and looks() == before + 1
    assert not torch.equal(latents(seed=1, image="other.png"), first) and looks() == before + 2
    assert relative_error(latents(seed=1, strength=0.0), first) > 1e-3
    assert torch.equal(latents(seed=1), first) and looks() == before + 2
