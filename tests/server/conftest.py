"""One served ComfyUI for all tests here, driven over /prompt and /ws as a client would."""

from collections.abc import Callable
import copy
from dataclasses import dataclass
from pathlib import Path

from animatic_pack import dev
from api_client import ApiClient
from api_workflows import api_workflow, set_input
import in_process_host
import pytest
from safetensors.torch import load_file
from served_host import ServedHost, serve
import small_models

in_process_host.make_importable()


@dataclass
class Host:
    served: ServedHost
    base: Path

    @property
    def client(self) -> ApiClient:
        return self.served.client

    def render(self, workflow: dict, **options) -> dict:
        return self.client.render(workflow, **options)["outputs"]

    def latents(self, workflow: dict) -> dict:
        """Render and read back what the workflow's SaveLatent nodes wrote, by node."""
        outputs = self.render(workflow)
        found = {}
        for node, output in outputs.items():
            for item in output.get("latents", []):
                path = self.base / "output" / item["subfolder"] / item["filename"]
                found[node] = load_file(path)["latent_tensor"]
        return found

    def failure(self, workflow: dict, **options) -> str:
        with pytest.raises(RuntimeError) as caught:
            self.render(workflow, **options)
        return str(caught.value)

    def interrupt(self, workflow: dict, when: Callable[[dict], bool]) -> None:
        """Render, but interrupt it as soon as a message of the server calls for it."""

        def watch(message: dict) -> None:
            if when(message):
                self.client.post("/interrupt", {})

        assert self.failure(workflow, watch=watch) == "the prompt was interrupted"


@pytest.fixture(scope="session")
def host():
    base = dev.base_directory("test")
    small_models.write_demo_models(base / "models")
    motion = base / "models" / "animatediff_models"
    small_models.write(motion, "second_v2.safetensors", small_models.motion_state_dict(mid=True, seed=5))
    with serve(dev.find_host(), base) as served:
        yield Host(served, base)


def small(name: str, **changes) -> dict:
    """A shipped API workflow on the small models, at a small size."""
    workflow = api_workflow(name)
    defaults = {"ckpt_name": "small_sd15.ckpt", "motion_module": "small_sd15_v3.safetensors"}
    for key, value in {**defaults, "width": 64, "height": 64, "batch_size": 4, "steps": 2, **changes}.items():
        set_input(workflow, key, value)
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
