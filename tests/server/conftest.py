"""One served ComfyUI for all tests here, driven over /prompt and /ws as a client would."""

import copy
from dataclasses import dataclass
import json
from pathlib import Path

from animatic_pack import dev
import in_process_host
import pytest
from safetensors.torch import load_file
import small_models

in_process_host.make_importable()

WORKFLOWS = dev.ROOT / "workflows"


@dataclass
class Host:
    server: dev.Server
    base: Path

    def render(self, workflow: dict, **options) -> dict:
        return self.server.render(workflow, **options)["outputs"]

    def latents(self, workflow: dict) -> dict:
        """Render and read back what the workflow's SaveLatent nodes wrote, by node."""
        outputs = self.render(workflow)
        found = {}
        for node, output in outputs.items():
            for item in output.get("latents", []):
                path = self.base / "output" / item["subfolder"] / item["filename"]
                found[node] = load_file(path)["latent_tensor"]
        return found

    def failure(self, workflow: dict) -> str:
        with pytest.raises(RuntimeError) as caught:
            self.render(workflow)
        return str(caught.value)


@pytest.fixture(scope="session")
def host():
    base = dev.base_directory("test")
    small_models.write_demo_models(base / "models")
    motion = base / "models" / "animatediff_models"
    small_models.write(motion, "second_v2.safetensors", small_models.motion_state_dict(mid=True, seed=5))
    with dev.serving("test") as (server, base):
        yield Host(server, base)


def small(name: str, **changes) -> dict:
    """A shipped API workflow on the small models, at a small size."""
    workflow = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text())
    defaults = {"ckpt_name": "small_sd15.ckpt", "motion_module": "small_sd15_v3.safetensors"}
    for key, value in {**defaults, "width": 64, "height": 64, "batch_size": 4, "steps": 2, **changes}.items():
        dev.set_input(workflow, key, value)
    return workflow


def latent_workflow(**changes) -> dict:
    """text_to_animation that ends in latents instead of a video."""
    workflow = small("text_to_animation", **changes)
    del workflow["8"], workflow["9"]
    workflow["10"] = {"class_type": "SaveLatent", "inputs": {"samples": ["7", 0], "filename_prefix": "latents/test"}}
    return workflow


def add_sampler(workflow: dict, number: int, **inputs) -> None:
    """A second KSampler and SaveLatent, like the first but for `inputs`."""
    sampler = copy.deepcopy(workflow["7"])
    sampler["inputs"].update(inputs)
    workflow[str(number)] = sampler
    workflow[str(number + 1)] = {
        "class_type": "SaveLatent",
        "inputs": {"samples": [str(number), 0], "filename_prefix": "latents/test"},
    }


@pytest.fixture(scope="session")
def workflows():
    """The helpers above, for the tests."""
    from types import SimpleNamespace

    return SimpleNamespace(small=small, latents=latent_workflow, add_sampler=add_sampler)
