"""The shipped API workflows on the small models, at a small size."""

import copy

from api_workflows import api_workflow, set_input


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
