"""Files that are no motion module: each gets its own message at the API, and the server goes on serving."""

import pickle
import re
import zipfile

import pytest
from safetensors.torch import save_file
import small_models
import torch

SITE = "down_blocks.0.motion_modules.0.temporal_transformer."


class Evil:
    def __reduce__(self):
        return (print, ("this ran",))


def evil_checkpoint(path):
    """A torch zip whose pickle calls a function."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": Evil()}, protocol=2))
        archive.writestr("archive/version", "3\n")


def truncated(path):
    save_file(small_models.motion_state_dict(), path)
    path.write_bytes(path.read_bytes()[:-1000])


def truncated_header(path):
    save_file(small_models.motion_state_dict(), path)
    path.write_bytes(path.read_bytes()[:900])


def truncated_ckpt(path):
    torch.save(small_models.motion_state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100000])


def saved(weights):
    return lambda path: save_file({key: value.contiguous() for key, value in weights().items()}, path)


def lora(name):
    return lambda: {f"{name}.down.weight": torch.zeros(4, 320), f"{name}.up.weight": torch.zeros(320, 4)}


def without(name):
    return lambda: {key: value for key, value in small_models.motion_state_dict().items() if key != name}


MOTION_LORA = f"{SITE}transformer_blocks.0.attention_blocks.0.processor.to_q_lora"
ADAPTER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora"
FILES = {
    "empty.ckpt": (lambda path: path.write_bytes(b""), "empty.ckpt is empty"),
    "empty.safetensors": (lambda path: path.write_bytes(b""), "empty.safetensors is empty"),
    "page.ckpt": (lambda path: path.write_text("<!DOCTYPE html><html>Log in</html>"), "is a web page, not a model"),
    "page.safetensors": (lambda path: path.write_text("\n<html><body>404</body></html>"), "is a web page, not a model"),
    "pointer.safetensors": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "is a Git LFS pointer",
    ),
    "noise.ckpt": (
        lambda path: path.write_bytes(bytes(range(256)) * 40),
        "is not a model file|is damaged or cut short",
    ),
    "noise.safetensors": (lambda path: path.write_bytes(b"\xff" * 4000), "is damaged or cut short"),
    "truncated.safetensors": (truncated, r"truncated.safetensors \(2\d.\d MB\) is damaged or cut short"),
    "header.safetensors": (truncated_header, "is damaged or cut short"),
    "truncated.ckpt": (truncated_ckpt, "is damaged or cut short"),
    "evil.ckpt": (evil_checkpoint, "holds more than weights, and loading it could run code"),
    "evil4.ckpt": (lambda path: path.write_bytes(pickle.dumps({"state_dict": Evil()}, protocol=4)), "could run code"),
    "safetensors.ckpt": (saved(small_models.motion_state_dict), "wrong ending.*safetensors file.*end in .safetensors"),
    "torch.safetensors": (
        lambda path: torch.save(small_models.motion_state_dict(), path),
        "wrong ending.*torch file.*end in .ckpt",
    ),
    "bom.ckpt": (lambda path: path.write_bytes(b"\xef\xbb\xbf\n<!-- x --><html>"), "is a web page"),
    "none.ckpt": (lambda path: torch.save(None, path), "no named weights"),
    "motion_lora.safetensors": (saved(lora(MOTION_LORA)), "is a MotionLoRA.*Load MotionLoRA"),
    "adapter.safetensors": (saved(lora(ADAPTER)), "domain adapter.*Apply Domain Adapter"),
    "sparsectrl.safetensors": (
        saved(lambda: {**small_models.motion_state_dict(), "controlnet_cond_embedding.weight": torch.zeros(1)}),
        "is a SparseCtrl model. Put it into models/controlnet",
    ),
    "checkpoint.safetensors": (
        saved(
            lambda: {
                "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3),
                "first_stage_model.x": torch.zeros(1),
            }
        ),
        "is a whole checkpoint.*Load Checkpoint",
    ),
    "missing.safetensors": (saved(without(f"{SITE}proj_in.bias")), rf"misses weights: {SITE}proj_in.bias"),
    "whole.safetensors": (
        saved(lambda: {key: value.to(torch.int8) for key, value in small_models.motion_state_dict().items()}),
        r"holds whole numbers \(int8\)",
    ),
    "other.safetensors": (saved(lambda: {"weight": torch.zeros(3)}), "no motion module"),
    "tensor.ckpt": (lambda path: torch.save({"a": 1, "b": 2}, path), "empty"),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_file_is_named_and_the_server_goes_on(host, workflows, name):
    make, message = FILES[name]
    path = host.base / "models" / "animatediff_models" / f"bad_{name}"
    make(path)
    try:
        failure = host.failure(workflows.small("text_to_animation", motion_module=path.name))
    finally:
        path.unlink()
    assert "AnimaticLoadMotionModule" in failure
    assert re.search(message, failure), failure
    assert path.name in failure
    assert host.client.get("/system_stats")["system"]
    assert "this ran" not in host.served.log()


def test_good_file_after_all_the_bad_ones(host, workflows):
    assert host.render(workflows.small("text_to_animation", seed=77))["9"]["gifs"]


def test_sd15_module_on_sdxl_names_both(host, workflows):
    small_models.write_sdxl_models(host.base / "models")
    workflow = workflows.small("text_to_animation", ckpt_name="small_sdxl.ckpt")
    failure = host.failure(workflow)
    assert "small_sd15_v3.safetensors does not fit this model" in failure
    assert "AnimateDiff v3 for SD1.5" in failure and "the model is SDXL" in failure


def test_sdxl_module_on_sd15_names_both(host, workflows):
    small_models.write_sdxl_models(host.base / "models")
    failure = host.failure(workflows.small("text_to_animation", motion_module="small_sdxl.safetensors"))
    assert "HotShotXL for SDXL" in failure and "the model is SD1.5" in failure


def test_file_outside_of_the_folder_is_refused(host, workflows):
    for name in ("../checkpoints/small_sd15.ckpt", "/etc/passwd", "nothing.ckpt"):
        assert "value_not_in_list" in host.failure(workflows.small("text_to_animation", motion_module=name))


def test_text_to_animation_on_sdxl(host, workflows):
    small_models.write_sdxl_models(host.base / "models")
    models = {"ckpt_name": "small_sdxl.ckpt", "motion_module": "small_sdxl.safetensors"}
    assert host.render(workflows.small("text_to_animation_sdxl", **models))["9"]["gifs"]
