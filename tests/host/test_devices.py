"""Motion modules on other devices, in other precisions and attentions than the usual ones."""

from collections import Counter
from dataclasses import replace

from animatic_pack.nodes.host.core.attached import attached_to
from animatic_pack.nodes.host.core.unet import feed_forward_slices
from animatic_pack.nodes.host.motion import control
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.control import MotionControl
from animatic_pack.nodes.host.motion.loras import load_motion_lora
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.nodes.timeline.keyframes import Keyframes
import comfy.cli_args
import comfy.ldm.modules.attention
import folder_paths
from host_models import CHANNELS, answering, image_model, motion_file, sample
import pytest
from reference import relative_error
from safetensors.torch import save_file
from small_models import motion_lora_state_dict
import torch

CPU = torch.device("cpu")
V3 = MotionSettings("v3")


@pytest.fixture(scope="module")
def model():
    return image_model()


@pytest.fixture(scope="module")
def v3():
    return load_motion_module(motion_file("v3.safetensors"))


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    """A MotionLoRA of small numbers, which 8 bits cannot hold, with a strength that changes while sampling."""
    folder = tmp_path_factory.mktemp("motion_loras")
    weights = motion_lora_state_dict(channels=CHANNELS["SD1.5"], modules=2, rank=4)
    save_file({key: value * 2e-3 for key, value in weights.items()}, folder / "small.safetensors")
    folder_paths.add_model_folder_path("animatediff_motion_lora", str(folder), is_default=True)
    loaded = load_motion_lora("small.safetensors", 2000.0)
    return replace(loaded, schedule=Keyframes((0.0, 1.0), (1.0, 1.0 + 1e-6)))


def test_attention_over_frames_is_pytorchs(model, v3, monkeypatch):
    """Whatever the user chose for pictures, as a flag or as an override on the MODEL."""
    animated = apply_motion_module(model, v3, V3)
    frames = 5  # no layer of the UNet has as many tokens
    expected = sample(animated, frames)

    def for_pictures(original):
        def attention(q, k, v, heads, *args, **kwargs):
            assert k.shape[1] != frames, "the kernel that was chosen for pictures got frames"
            return original(q, k, v, heads, *args, **kwargs)

        return attention

    chosen = for_pictures(comfy.ldm.modules.attention.optimized_attention)
    monkeypatch.setattr(comfy.ldm.modules.attention, "optimized_attention", chosen)
    overridden = animated.clone()
    overridden.model_options["transformer_options"]["optimized_attention_override"] = lambda func, *args, **kwargs: (
        for_pictures(func)(*args, **kwargs)
    )
    assert torch.equal(sample(animated, frames), expected) and torch.equal(sample(overridden, frames), expected)


def test_networks_are_where_their_model_is(v3, lora):
    here, there = image_model(), image_model(device=torch.device("meta"))
    for model in (here, there):
        animated = apply_motion_module(model, v3, V3, motion_loras=(lora,))
        ((_, models),) = attached_to(animated)
        assert len(models) == 2
        assert {patcher.load_device for patcher in models} == {model.load_device}
    ((_, (elsewhere, _)),) = attached_to(animated)
    assert elsewhere.model is not v3.patcher.model, "one network cannot be on two devices"


def test_eight_bits_are_for_large_linear_layers_alone(model, v3, lora, monkeypatch):
    fixed = replace(lora, schedule=None)
    expected = sample(apply_motion_module(model, v3, V3, motion_loras=(fixed,)))
    without = sample(apply_motion_module(model, v3, V3))
    monkeypatch.setattr(comfy.cli_args.args, "fp8_e4m3fn_unet", True)
    small = load_motion_module("v3.safetensors")
    for name, parameter in small.patcher.model.named_parameters():
        wanted = torch.float8_e4m3fn if parameter.ndim == 2 else torch.float16
        assert parameter.dtype == wanted, name
    monkeypatch.undo()
    wide = apply_motion_module(model, v3, V3, motion_loras=(lora,))
    assert relative_error(sample(wide), expected) < 1e-4
    monkeypatch.setattr(comfy.cli_args.args, "fp8_e4m3fn_unet", True)
    in_eight_bits = apply_motion_module(model, v3, V3, motion_loras=(lora,))
    effect, error = relative_error(without, expected), relative_error(sample(in_eight_bits), expected)
    assert effect > 1e-3 and error < 0.05 * effect, "its factors are kept in 16 bits"


def test_tables_and_masks_are_made_once_in_a_run(model, v3, monkeypatch):
    resized, tables = Counter(), []
    interpolate = torch.nn.functional.interpolate

    def counted(value, size=None, **options):
        if value.shape[1] == 1:  # the UNet's own have many channels
            resized[value.device.type, tuple(size)] += 1
        return interpolate(value, size, **options)

    monkeypatch.setattr(control.nn.functional, "interpolate", counted)

    def watch(settings, call, models, run):
        answer = settings.answer(call, models, run)
        tables.append(
            [run.positions.of(models[0].model, site, CPU, torch.float32)[1] for site in models[0].model.sites]
        )
        return answer

    mask = torch.rand(6, 40, 40)
    masked = replace(V3, controls=(MotionControl(effect_mask=mask),))
    sample(answering(apply_motion_module(model, v3, masked), watch), steps=3, size=(8, 12))
    assert resized == {("cpu", size): 1 for size in ((8, 12), (4, 6), (2, 3), (1, 2))}
    assert len(tables) == 3 and len({id(table) for call in tables for table in call}) == len(set(CHANNELS["SD1.5"]))


def test_a_mask_stays_on_the_card_that_it_was_brought_to():
    sizes, mask = control.MaskSizes(), torch.rand(6, 40, 40)
    there = sizes.of(mask, torch.Size((4, 6)), torch.device("meta"))
    assert there.device.type == "meta" and sizes.of(mask, torch.Size((4, 6)), torch.device("meta")) is there
    assert sizes.of(mask, torch.Size((4, 6)), CPU).device == CPU


def test_a_network_that_is_on_a_model_twice_acts_twice_on_another_card(v3):
    """The host gives its copy of a MODEL for another card one of each network, however often it is on the MODEL."""
    model = image_model()
    if not hasattr(model, "match_multigpu_clones"):
        pytest.skip("this ComfyUI uses one graphics card")
    model.cached_patcher_init = (lambda **_: image_model(), ())
    other = model.deepclone_multigpu(new_load_device=CPU)
    other.is_multigpu_base_clone = True
    model.set_additional_models("multigpu", [other])
    early, late = MotionSettings("early", end_percent=0.5), MotionSettings("late", start_percent=0.5)
    model = apply_motion_module(apply_motion_module(model, v3, early), v3, late)
    model.match_multigpu_clones()
    (other,) = model.get_additional_models_with_key("multigpu")
    (first,), (second,) = (models for _, models in attached_to(other))
    assert first is second and first.model is not v3.patcher.model
    assert [len(models) for _, models in attached_to(model)] == [1, 1]


@pytest.mark.parametrize("kind, sliced", [("SD1.5", 0), ("SDXL", 5)])
def test_feed_forward_runs_in_slices_only_beyond_the_unets_own(kind, sliced):
    slices = feed_forward_slices(image_model(kind).model.diffusion_model)
    assert len(slices) == sliced and set(slices.values()) <= {3}
    assert all(site.split(".motion")[0] in ("down_blocks.0", "up_blocks.2") for site in slices)


def test_feed_forwards_of_sdxl_run_as_often_as_said():
    module = load_motion_module(motion_file("hotshot.safetensors", kind="SDXL", max_frames=24))
    calls = Counter()
    for site, transformer in module.patcher.model.sites.items():
        layer = transformer.transformer_blocks[0].ff.net[2]
        layer.register_forward_hook(lambda *args, site=site: calls.update([site]))
    model = image_model("SDXL")
    sample(apply_motion_module(model, module, MotionSettings("hotshot")), kind="SDXL", steps=1, size=(8, 8))
    sliced = {site: count for site, count in calls.items() if count > 1}
    assert sliced == feed_forward_slices(model.model.diffusion_model) and set(calls.values()) == {1, 3}
