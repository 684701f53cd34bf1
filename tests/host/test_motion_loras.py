"""MotionLoRAs and the domain adapter on the real host."""

from dataclasses import replace
import json
import os
import subprocess
import sys

from animatic_pack import ROOT
from animatic_pack.lora.low_rank import LowRank
from animatic_pack.nodes.host.core.attached import attached_to
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.loras import LoadedMotionLora, add_motion_loras, describe_fit, load_motion_lora
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.nodes.host.motion.save import save_motion_lora, save_motion_module
from animatic_pack.nodes.host.motion.tools import (
    bake_motion_loras,
    combine_motion_loras,
    extract_motion_lora,
    merge_motion_modules,
)
from animatic_pack.nodes.timeline.keyframes import Keyframes
import folder_paths
from host_models import CHANNELS, image_model, motion_file, sample
import pytest
from reference import relative_error
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from small_models import motion_lora_state_dict
import torch

SETTINGS = MotionSettings("module")


@pytest.fixture(scope="module", autouse=True)
def lora_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("animatediff_motion_lora")
    folder_paths.add_model_folder_path("animatediff_motion_lora", str(folder), is_default=True)
    for name, seed in (("zoom.safetensors", 1), ("pan.safetensors", 2)):
        save_file(motion_lora_state_dict(channels=CHANNELS["SD1.5"], modules=2, mid=True, seed=seed), folder / name)
    return folder


@pytest.fixture(scope="module")
def model():
    return image_model()


@pytest.fixture(scope="module")
def v2():
    return load_motion_module(motion_file("v2.safetensors", mid=True, seed=5))


@pytest.fixture(scope="module")
def v3():
    return load_motion_module(motion_file("v3.safetensors"))


def stack(*strengths):
    names = ("zoom.safetensors", "pan.safetensors")
    return tuple(load_motion_lora(name, strength) for name, strength in zip(names, strengths, strict=False))


def latents(model, module, loras=(), **options):
    return sample(apply_motion_module(model, module, SETTINGS, motion_loras=tuple(loras)), **options)


def test_patched_weights_are_the_formula(v2):
    patcher = v2.patcher.clone()
    zoom, pan = stack(0.7, -0.3)
    with_alpha = replace(pan, lora={key: replace(change, alpha=2.0) for key, change in pan.lora.items()})
    add_motion_loras(patcher, (zoom, with_alpha))
    plain = {key: value.clone() for key, value in v2.patcher.model.state_dict().items()}
    patcher.patch_model()
    try:
        for key, value in patcher.model.state_dict().items():
            expected = plain[key].double()
            for strength, scale, lora in ((0.7, 1.0, zoom.lora), (-0.3, 2.0 / 4, pan.lora)):
                if key in lora:
                    expected = expected + strength * scale * (lora[key].up.double() @ lora[key].down.double())
            assert relative_error(value, expected) < 1e-6, key
            assert torch.equal(value, plain[key]) == (key not in zoom.lora), key
    finally:
        patcher.unpatch_model()
    assert all(torch.equal(value, plain[key]) for key, value in patcher.model.state_dict().items())


def test_stack_combined_and_baked_are_the_same(model, v2):
    stacked = latents(model, v2, stack(0.7, 0.3))
    assert relative_error(stacked, latents(model, v2)) > 1e-3
    combined, report = combine_motion_loras(stack(0.7, 0.3), rank=0)
    assert combined.rank == 8 and "0.00e+00" in report
    assert relative_error(latents(model, v2, [combined]), stacked) < 1e-4
    assert relative_error(latents(model, bake_motion_loras(v2, stack(0.7, 0.3))), stacked) < 1e-4
    smaller, report = combine_motion_loras(stack(0.7, 0.3), rank=8)
    assert relative_error(latents(model, v2, [smaller]), stacked) < 1e-4


def test_order_does_not_matter_and_zero_is_none(model, v2):
    zoom, pan = stack(0.7, 0.3)
    assert torch.equal(latents(model, v2, (zoom, pan)), latents(model, v2, (pan, zoom)))
    assert torch.equal(latents(model, v2, stack(0.0, 0.0)), latents(model, v2))
    assert torch.equal(latents(model, v2, stack(0.0, 0.3)), latents(model, v2, [pan]))
    there, back = latents(model, v2, stack(0.7)), latents(model, v2, stack(-0.7))
    assert relative_error(there, back) > 1e-3


def test_module_without_the_stack_stays_as_it_was(model, v2):
    before = latents(model, v2)
    first = latents(model, v2, stack(0.7, 0.3))
    assert torch.equal(latents(model, v2), before)
    assert torch.equal(latents(model, v2, stack(0.7, 0.3)), first)


def test_same_module_with_other_stacks_on_one_model(model, v2):
    early = apply_motion_module(model, v2, MotionSettings("v2", end_percent=0.5), motion_loras=stack(1.0))
    both = apply_motion_module(early, v2, MotionSettings("v2", start_percent=0.5))
    part = dict(steps=4, force_full_denoise=False)
    half = sample(apply_motion_module(model, v2, SETTINGS, motion_loras=stack(1.0)), start_step=0, last_step=2, **part)
    rest = sample(
        apply_motion_module(model, v2, SETTINGS), start_step=2, last_step=4, disable_noise=True, latent=half, **part
    )
    assert relative_error(sample(both, steps=4), rest) < 1e-4
    assert relative_error(latents(model, v2, stack(1.0), steps=4), rest) > 1e-4
    assert len(list(attached_to(both))) == 2


def test_a_schedule_on_one_use_of_a_module_is_not_on_the_other(model, v2):
    loras = scheduled(stack(1.0), start_strength=1.0, end_strength=0.9)
    first = apply_motion_module(model, v2, replace(SETTINGS, effect=0.5), motion_loras=loras)
    both = apply_motion_module(first, v2, replace(SETTINGS, effect=0.5))
    copy = load_motion_module("v2.safetensors")
    apart = apply_motion_module(first, copy, replace(SETTINGS, effect=0.5))
    assert torch.equal(sample(both), sample(apart))


def test_v2_motion_lora_on_v3_uses_the_rest_and_says_so(model, v3):
    report = describe_fit(v3, stack(1.0))
    assert "160 of 168 layers" in report and "8 in mid_block" in report
    assert relative_error(latents(model, v3, stack(1.0)), latents(model, v3)) > 1e-3


def test_motion_lora_with_nothing_for_the_module_is_an_error(model, v3):
    zoom = stack(1.0)[0]
    only_mid = replace(zoom, lora={key: change for key, change in zoom.lora.items() if key.startswith("mid_block")})
    with pytest.raises(ValueError, match="zoom.safetensors changes no layer"):
        latents(model, v3, [only_mid])


def test_motion_lora_of_another_size_is_an_error(v2, model):
    narrow = motion_lora_state_dict(channels=tuple(c * 2 for c in CHANNELS["SD1.5"]), modules=2)
    from animatic_pack.lora.files import read_motion_lora

    wide = LoadedMotionLora("wide", 1.0, read_motion_lora(narrow), ())
    with pytest.raises(ValueError, match="wide does not fit this motion module"):
        latents(model, v2, [wide])


def scheduled(entries, start_strength=1.0, end_strength=1.0, end_percent=1.0, curve="linear"):
    schedule = Keyframes((0.0, end_percent), (start_strength, end_strength), curve)
    return tuple(replace(entry, schedule=schedule) for entry in entries)


def test_flat_schedule_changes_nothing(model, v2):
    flat = scheduled(stack(1.4, 0.6), start_strength=0.5, end_strength=0.5)
    assert torch.equal(latents(model, v2, flat), latents(model, v2, stack(0.7, 0.3)))


def test_layers_agree_with_patches(model, v2):
    nearly = scheduled(stack(0.7, 0.3), start_strength=1.0, end_strength=1.0 + 1e-7)
    applied = apply_motion_module(model, v2, SETTINGS, motion_loras=nearly)
    ((_, models),) = attached_to(applied)
    assert len(models) == 3, "the motion module, and layers for each of the two"
    assert relative_error(sample(applied), latents(model, v2, stack(0.7, 0.3))) < 1e-4


def test_step_curve_is_one_strength_and_then_the_other(model, v2):
    step = scheduled(stack(1.0), start_strength=1.0, end_strength=0.0, end_percent=0.5, curve="step")
    part = dict(steps=4, force_full_denoise=False)
    half = sample(apply_motion_module(model, v2, SETTINGS, motion_loras=stack(1.0)), start_step=0, last_step=2, **part)
    rest = sample(
        apply_motion_module(model, v2, SETTINGS), start_step=2, last_step=4, disable_noise=True, latent=half, **part
    )
    assert relative_error(latents(model, v2, step, steps=4), rest) < 1e-4
    assert relative_error(latents(model, v2, stack(1.0), steps=4), rest) > 1e-4


def test_schedules_leave_no_change_and_repeat(model, v2):
    loras = scheduled(stack(1.0, 0.5), start_strength=0.0, end_strength=1.0, curve="ease_in")
    applied = apply_motion_module(model, v2, SETTINGS, motion_loras=loras)
    first = sample(applied)
    assert torch.equal(sample(applied), first)
    ((_, (motion, *_)),) = attached_to(applied)
    assert not any("forward" in m.__dict__ for m in motion.model.modules())


def test_a_schedule_cannot_be_saved(v2):
    loras = scheduled(stack(1.0), start_strength=0.0, end_strength=1.0)
    for tool in (lambda: combine_motion_loras(loras, 0), lambda: bake_motion_loras(v2, loras)):
        with pytest.raises(ValueError, match="zoom.safetensors has a strength that changes"):
            tool()


def test_extraction_finds_the_baked_motion_lora(model, v2):
    tuned = bake_motion_loras(v2, stack(1.0))
    extracted, report = extract_motion_lora(tuned, v2, rank=4)
    assert "168 layers, rank 4" in report
    assert relative_error(latents(model, v2, [extracted]), latents(model, v2, stack(1.0))) < 1e-3
    with pytest.raises(ValueError, match="are the same in every layer"):
        extract_motion_lora(v2, v2, rank=4)


def test_motion_loras_of_different_kinds_are_not_combined():
    target = "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight"
    entries = [
        LoadedMotionLora(name, 1.0, {target: LowRank(torch.zeros(size, 2), torch.zeros(2, size))}, ())
        for name, size in (("small", 4), ("large", 8))
    ]
    for rank in (0, 1):
        with pytest.raises(ValueError, match="small and large are for different kinds of motion modules"):
            combine_motion_loras(tuple(entries), rank)


def test_merged_module_is_between_the_two(model, v2):
    other = load_motion_module(motion_file("v2_other.safetensors", mid=True, seed=6))
    assert torch.equal(latents(model, merge_motion_modules(v2, other, 0.0, "")), latents(model, v2))
    assert torch.equal(latents(model, merge_motion_modules(v2, other, 1.0, "")), latents(model, other))
    assert (
        relative_error(latents(model, merge_motion_modules(v2, other, 0.5, "mid_block = 0")), latents(model, v2)) > 1e-3
    )
    with pytest.raises(ValueError, match="block_shares: this motion module has no block mid; it has down_blocks.0.mot"):
        merge_motion_modules(v2, other, 0.5, "mid = 0")


def test_saved_files_load_again_to_the_same_bytes(model, v2, lora_folder):
    path, _ = save_motion_lora(stack(0.7, 0.3), "both", "float32", overwrite=False)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    sources = json.loads(metadata["sources"])
    assert [(s["name"], s["strength"]) for s in sources] == [("zoom.safetensors", 0.7), ("pan.safetensors", 0.3)]
    assert all(len(s["sha256"]) == 64 for s in sources) and metadata["rank"] == "8"
    again = load_motion_lora(path.name, 1.0)
    assert relative_error(latents(model, v2, [again]), latents(model, v2, stack(0.7, 0.3))) < 1e-4
    second, _ = save_motion_lora((again,), "again", "float32", overwrite=False)
    assert {k: v.tobytes() for k, v in numpy(second).items()} == {k: v.tobytes() for k, v in numpy(path).items()}

    module_path = save_motion_module(v2, stack(0.7, 0.3), "baked", "float32", overwrite=False)
    with safe_open(module_path, "pt") as file:
        sources = json.loads(file.metadata()["sources"])
    names = [(s["name"], s["strength"]) for s in sources]
    assert names == [("v2.safetensors", 1.0), ("zoom.safetensors", 0.7), ("pan.safetensors", 0.3)]
    assert all(len(s["sha256"]) == 64 for s in sources)
    baked = load_motion_module(module_path.name)
    assert relative_error(latents(model, baked), latents(model, v2, stack(0.7, 0.3))) < 1e-4
    copy = save_motion_module(baked, (), "baked_again", "float32", overwrite=False)
    assert {k: v.tobytes() for k, v in numpy(copy).items()} == {k: v.tobytes() for k, v in numpy(module_path).items()}


def numpy(path):
    return {key: value.numpy() for key, value in load_file(path).items()}


def test_saving_never_overwrites_silently_and_never_leaves_a_part(v2, lora_folder, monkeypatch):
    path, _ = save_motion_lora(stack(1.0), "once", "float16", overwrite=False)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="once.safetensors exists already"):
        save_motion_lora(stack(0.5), "once", "float16", overwrite=False)
    assert path.read_bytes() == before
    save_motion_lora(stack(0.5), "once", "float16", overwrite=True)
    changed = path.read_bytes()
    assert changed != before

    def full(weights, path, metadata):
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("animatic_pack.nodes.host.motion.save.save_file", full)
    with pytest.raises(OSError, match="The disk is full, so .*once.safetensors could not be written; .* Make room"):
        save_motion_lora(stack(1.0), "once", "float16", overwrite=True)
    assert path.read_bytes() == changed and not unfinished(lora_folder)


def unfinished(folder):
    return [path for path in folder.iterdir() if path.suffix != ".safetensors"]


def test_a_file_in_use_stays_whole_and_is_named(lora_folder, monkeypatch):
    """Windows refuses to replace a file that is mapped into memory."""
    path, _ = save_motion_lora(stack(1.0), "loaded", "float16", overwrite=True)
    before = path.read_bytes()

    def refuse(source, target):
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr("animatic_pack.training.atomic.os.replace", refuse)
    with pytest.raises(PermissionError, match="loaded.safetensors could not be written: .* in use"):
        save_motion_lora(stack(0.5), "loaded", "float16", overwrite=True)
    assert path.read_bytes() == before and not unfinished(lora_folder)


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out", "", "  "])
def test_saving_stays_in_its_folder(name):
    with pytest.raises(ValueError, match="is not a file name inside"):
        save_motion_lora(stack(1.0), name, "float16", overwrite=False)


MEMORY = """
import os
import in_process_host
in_process_host.make_importable()
import psutil, torch, folder_paths
from pathlib import Path
folder = Path({folder!r})
folder_paths.add_model_folder_path("animatediff_models", str(folder))
folder_paths.add_model_folder_path("animatediff_motion_lora", str(folder))
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.loras import add_motion_loras, load_motion_lora
module = load_motion_module("v2.safetensors")
process = psutil.Process()
before, stack = process.memory_info().rss, []
for number in range(4):
    (folder / f"lora{{number}}.safetensors").read_bytes()
    stack.append(load_motion_lora(f"lora{{number}}.safetensors", 0.5))
patcher = module.patcher.clone()
add_motion_loras(patcher, tuple(stack))
files = sum(os.path.getsize(folder / f"lora{{number}}.safetensors") for number in range(4))
print("RESULT", (process.memory_info().rss - before) / files, len(patcher.patches))
"""


def test_four_motion_loras_cost_their_files(tmp_path):
    from small_models import motion_state_dict

    full = (320, 640, 1280, 1280)
    module = motion_state_dict(full, modules=2, mid=True)
    save_file({key: value.half() for key, value in module.items()}, tmp_path / "v2.safetensors")
    del module
    for number in range(4):
        lora = motion_lora_state_dict(channels=full, modules=2, mid=True, rank=64, seed=number)
        save_file(lora, tmp_path / f"lora{number}.safetensors")
        assert os.path.getsize(tmp_path / f"lora{number}.safetensors") == pytest.approx(77.3e6, rel=0.01)
    code = MEMORY.format(folder=str(tmp_path))
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tests", capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    memory, patches = next(line for line in run.stdout.splitlines() if "RESULT" in line).split()[1:]
    assert int(patches) == 168 and float(memory) < 1.3


def test_the_hosts_own_reader_understands_what_we_save(lora_folder):
    """ComfyUI's LoRA parser, given aliases for the original layout, finds every change in a saved file."""
    import comfy.lora

    path, _ = save_motion_lora(stack(1.0), "for_others", "float32", overwrite=True)
    weights = comfy.utils.load_torch_file(str(path))
    names = {key.rsplit(".", 2)[0].removesuffix("_lora") for key in weights}
    found = comfy.lora.load_lora(weights, {name: name for name in names})
    assert len(found) == len(weights) // 2 == 168
