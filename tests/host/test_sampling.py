"""Motion modules on a MODEL, sampled by the host's own samplers."""

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

from animatic_pack.motion_modules.families import BETA_SCHEDULES, LINEAR, LINEAR_SDXL, SQRT_LINEAR
from animatic_pack.nodes.host.core.attached import KEY, attached_to
from animatic_pack.nodes.host.motion.attach import KEEP_SCHEDULE, apply_motion_module
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
import comfy.model_management
import comfy.model_sampling
from comfy.patcher_extension import WrappersMP
import comfy.samplers
import comfy.sd
from comfy_extras.nodes_model_advanced import LCM, ModelSamplingDiscreteDistilled
from host_models import conditioning, image_model, motion_file, sample
import pytest
from reference import relative_error, temporal_transformer
import torch

FULL = MotionSettings("v3")


@pytest.fixture(scope="module")
def model():
    return image_model()


@pytest.fixture(scope="module")
def v3():
    return load_motion_module(motion_file("v3.safetensors"))


@pytest.fixture(scope="module")
def v2():
    return load_motion_module(motion_file("v2.safetensors", mid=True, seed=5))


@pytest.fixture(scope="module")
def animated(model, v3):
    return apply_motion_module(model, v3, FULL)


@pytest.fixture(scope="module")
def still(model, v3):
    """The plain model, with the noise schedule that `animated` has."""
    return apply_motion_module(model, v3, MotionSettings("v3", effect=0.0), "sqrt_linear (AnimateDiff)")


def changes_on(model) -> int:
    return sum("forward" in module.__dict__ for module in model.model.modules())


def test_motion_connects_the_frames(model, animated, still):
    moving = sample(animated)
    assert relative_error(moving, sample(still)) > 0.01
    latent = torch.zeros(6, 4, 8, 12)
    latent[0] = 3.0
    changed = sample(animated, latent=latent)
    assert not torch.allclose(
        changed[5], sample(animated, latent=torch.zeros(6, 4, 8, 12).index_fill(0, torch.tensor([0]), 1e-9))[5]
    )
    assert torch.equal(
        sample(model, latent=latent)[5],
        sample(model, latent=torch.zeros(6, 4, 8, 12).index_fill(0, torch.tensor([0]), 1e-9))[5],
    )


@pytest.mark.parametrize("schedule", ["auto", KEEP_SCHEDULE])
def test_effect_zero_is_the_plain_model(model, v3, schedule):
    assert torch.equal(
        sample(apply_motion_module(model, v3, MotionSettings("v3", effect=0.0), schedule)), sample(model)
    )


def test_plain_model_stays_plain_before_between_and_after(model, animated):
    before = sample(model)
    first = sample(animated)
    between = sample(model)
    second = sample(animated)
    assert torch.equal(before, between) and torch.equal(before, sample(model))
    assert torch.equal(first, second)
    assert changes_on(model) == 0


def test_two_motion_modules_on_two_clones_do_not_meet(model, v3, v2):
    first, second = apply_motion_module(model, v3, FULL), apply_motion_module(model, v2, MotionSettings("v2"))
    a, b = sample(first), sample(second)
    assert relative_error(a, b) > 0.01
    assert torch.equal(sample(first), a) and torch.equal(sample(second), b)
    assert KEY not in model.attachments


def test_reloaded_after_unloading_everything(animated):
    before = sample(animated)
    comfy.model_management.unload_all_models()
    assert torch.equal(sample(animated), before)


def test_chained_modules_act_one_after_another(model, v3, v2):
    steps = 4  # of the normal schedule, two lie above the middle of the range
    first = apply_motion_module(model, v3, MotionSettings("v3", end_percent=0.5), KEEP_SCHEDULE)
    both = apply_motion_module(first, v2, MotionSettings("v2", start_percent=0.5), KEEP_SCHEDULE)
    alone = [apply_motion_module(model, module, MotionSettings("x"), KEEP_SCHEDULE) for module in (v3, v2)]
    half = sample(alone[0], steps=steps, start_step=0, last_step=2, force_full_denoise=False)
    rest = sample(alone[1], steps=steps, start_step=2, last_step=steps, disable_noise=True, latent=half)
    assert relative_error(sample(both, steps=steps), rest) < 1e-4
    assert relative_error(sample(first, steps=steps), rest) > 1e-3


def test_chained_modules_act_at_once(model, v3, v2):
    half = MotionSettings("x", effect=0.5)
    twice = apply_motion_module(apply_motion_module(model, v3, half), v2, half)
    one = apply_motion_module(model, v3, half)
    assert len(list(attached_to(twice))) == 2 and len(list(attached_to(one))) == 1
    a, b = sample(twice), sample(one)
    assert relative_error(a, b) > 1e-3
    assert torch.equal(sample(twice), a) and torch.equal(sample(one), b)


def test_the_same_module_twice_over_the_range_is_the_module_once(model, v3):
    early = apply_motion_module(model, v3, MotionSettings("v3", end_percent=0.5))
    both = apply_motion_module(early, v3, MotionSettings("v3", start_percent=0.5))
    assert torch.equal(sample(both, steps=4), sample(apply_motion_module(model, v3, FULL), steps=4))
    assert torch.equal(sample(both, steps=4), sample(both, steps=4))


def test_range_outside_of_what_is_sampled_changes_nothing(model, v3):
    late = apply_motion_module(model, v3, MotionSettings("v3", start_percent=0.9), KEEP_SCHEDULE)
    part = dict(steps=4, start_step=0, last_step=2, force_full_denoise=False)
    assert torch.equal(sample(late, **part), sample(model, **part))


@pytest.mark.parametrize(
    "sampler", ["euler", "euler_ancestral", "heun", "dpm_2", "dpmpp_2m", "dpmpp_sde", "ddim", "uni_pc", "lcm"]
)
def test_samplers(animated, still, sampler):
    result = sample(animated, sampler=sampler)
    assert torch.equal(result, sample(animated, sampler=sampler))
    assert relative_error(result, sample(still, sampler=sampler)) > 0.01


def test_halves_and_guider_agree_with_one_pass(animated):
    whole = sample(animated, steps=4)
    half = sample(animated, steps=4, start_step=0, last_step=2, force_full_denoise=False)
    rest = sample(animated, steps=4, start_step=2, last_step=4, disable_noise=True, latent=half)
    assert relative_error(rest, whole) < 1e-5
    guider = comfy.samplers.CFGGuider(animated)  # what SamplerCustomAdvanced is given
    guider.set_conds(conditioning(seed=1), conditioning(seed=2))
    guider.set_cfg(4.0)
    latent = torch.zeros(6, 4, 8, 12)
    sigmas = comfy.samplers.calculate_sigmas(animated.get_model_object("model_sampling"), "normal", 4)
    custom = guider.sample(
        comfy.sample.prepare_noise(latent, 7), latent, comfy.samplers.sampler_object("euler"), sigmas, seed=7
    )
    assert relative_error(custom, whole) < 1e-5


@contextmanager
def written_out(module, num_frames):
    """Every temporal transformer gives what its description gives, in clips of so many frames."""

    def instead(site, args, result):
        return temporal_transformer(site.state_dict(), args[0], num_frames).to(result)

    handles = [site.register_forward_hook(instead) for site in module.patcher.model.sites.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("frames", [1, 2, 7, 32])
@pytest.mark.parametrize("size", [(8, 8), (6, 10), (9, 7)])
def test_frame_counts_and_sizes(v3, animated, still, frames, size, short_memory):
    clip = partial(sample, frames=frames, size=size, steps=1)
    together = clip(animated)
    with short_memory():
        assert relative_error(clip(animated), together) < 1e-5
    with written_out(v3, frames):
        assert relative_error(clip(animated), together) < 1e-4
    assert relative_error(clip(still), together) > 0.01


def test_without_cfg(animated):
    assert relative_error(sample(animated, cfg=1.0), sample(animated, cfg=4.0)) > 1e-4


def test_conds_run_one_by_one_when_memory_is_short(animated, short_memory):
    """A small card: the host cannot batch cond and uncond, so every call holds one clip."""
    together = sample(animated)
    rows = []
    watched = animated.clone()
    watched.set_model_input_block_patch(lambda h, options: rows.append(len(h)) or h)
    with short_memory():
        assert relative_error(sample(watched, frames=6), together) < 1e-5
    assert set(rows) == {6}


@pytest.mark.parametrize(
    "file_dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["file32", "file16", "fileb16"]
)
@pytest.mark.parametrize(
    "unet_dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["unet32", "unet16", "unetb16"]
)
def test_precisions_mix(unet_dtype, file_dtype):
    name = motion_file(f"v1_{file_dtype}.safetensors".replace("torch.", ""), dtype=file_dtype, max_frames=24)
    module = load_motion_module(name)
    exact = load_motion_module(motion_file("v1_float32.safetensors", max_frames=24))
    result = sample(apply_motion_module(image_model(dtype=unet_dtype), module, FULL), steps=2)
    expected = sample(apply_motion_module(image_model(), exact, FULL), steps=2)
    bound = (
        0.05
        if torch.bfloat16 in (unet_dtype, file_dtype)
        else 0.01
        if torch.float16 in (unet_dtype, file_dtype)
        else 1e-5
    )
    assert relative_error(result, expected) < bound


@pytest.mark.parametrize("weights_dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_half_precision_weights_of_the_module_itself(animated, v3, weights_dtype):
    """What a graphics card holds, where a processor would convert to float32 at load."""
    half = load_motion_module("v3.safetensors")
    half.patcher.model.to(weights_dtype)
    result = sample(apply_motion_module(image_model(), half, FULL))
    assert relative_error(result, sample(animated)) < 0.05


def lora_for(model) -> dict:
    generator = torch.Generator().manual_seed(9)
    keys = [
        k
        for k in model.model.diffusion_model.state_dict()
        if k.endswith(("proj_in.weight", "proj_out.weight", "to_q.weight", "to_out.0.weight"))
    ]
    keys += [
        k
        for k in model.model.diffusion_model.state_dict()
        if k.startswith(("middle_block.2.", "output_blocks.2.1.", "output_blocks.5.2.")) and k.endswith("weight")
    ]
    lora = {}
    for key in keys:
        weight = model.model.diffusion_model.state_dict()[key]
        name = "diffusion_model." + key.removesuffix(".weight")
        if weight.ndim < 2:
            continue
        lora[f"{name}.lora_up.weight"] = 0.05 * torch.randn(
            weight.shape[0], 4, *([1] * (weight.ndim - 2)), generator=generator
        )
        lora[f"{name}.lora_down.weight"] = 0.05 * torch.randn(4, *weight.shape[1:], generator=generator)
    return lora


def test_lora_on_the_unet_loads_all_its_keys_in_either_order(model, v3, caplog):
    lora = lora_for(model)
    before = apply_motion_module(comfy.sd.load_lora_for_models(model, None, lora, 1.0, 1.0)[0], v3, FULL)
    after = comfy.sd.load_lora_for_models(apply_motion_module(model, v3, FULL), None, lora, 1.0, 1.0)[0]
    assert "not loaded" not in caplog.text
    assert len(before.patches) == len(after.patches) == len(lora) // 2
    a, b = sample(before), sample(after)
    assert torch.equal(a, b)
    assert relative_error(a, sample(apply_motion_module(model, v3, FULL))) > 1e-4
    assert "could not" not in caplog.text.lower()


@pytest.mark.parametrize(
    "failure",
    [comfy.model_management.InterruptProcessingException, torch.cuda.OutOfMemoryError],
    ids=["interrupt", "out of memory"],
)
def test_a_run_that_ends_early_leaves_the_next_one_right(model, animated, failure):
    expected, plain = sample(animated), sample(model)

    def stop(step, *_):
        if step == 1:
            raise failure()

    with pytest.raises(failure):
        sample(animated, callback=stop)
    assert changes_on(model) == 0
    assert torch.equal(sample(animated), expected) and torch.equal(sample(model), plain)


def test_a_failure_inside_the_unet_leaves_nothing_changed(model, animated):
    expected = sample(animated)
    broken = animated.clone()

    def fail(h, options):
        raise RuntimeError("broken patch")

    broken.set_model_input_block_patch(fail)
    with pytest.raises(RuntimeError, match="broken patch"):
        sample(broken)
    assert changes_on(model) == 0
    assert torch.equal(sample(animated), expected)


def test_motion_that_is_lost_on_the_way_is_an_error(animated):
    lost = animated.clone()
    lost.set_model_unet_function_wrapper(lambda apply_model, options: torch.zeros_like(options["input"]))
    with pytest.raises(RuntimeError, match="v3 was applied but never ran"):
        sample(lost)


def test_too_many_frames_is_an_error(animated):
    with pytest.raises(ValueError, match="knows 32 frames, but the batch has 33"):
        sample(animated, frames=33)


def test_unet_of_another_kind_is_an_error_that_names_both(model, v3):
    xl = load_motion_module(motion_file("hotshot.safetensors", kind="SDXL", max_frames=24))
    with pytest.raises(ValueError, match="HotShotXL for SDXL, 3 levels .*but the model is SD1.5, 4 levels"):
        apply_motion_module(model, xl, FULL)


def test_percents_the_wrong_way_round():
    with pytest.raises(ValueError, match="must be smaller"):
        MotionSettings("v3", start_percent=0.6, end_percent=0.4)


class StockDistilled(ModelSamplingDiscreteDistilled, LCM):
    """What the stock node ModelSamplingDiscrete puts on a MODEL for lcm."""


class Stock(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
    pass


def stock_sampling(schedule, **options):
    settings = vars(schedule).copy()
    timesteps, other = settings.pop("lcm_timesteps"), settings.pop("averaged_with")
    kind = type("", (StockDistilled,), {"original_timesteps": timesteps}) if timesteps else Stock
    sampling = kind(SimpleNamespace(sampling_settings=settings), **options)
    if other:
        halfway = sigmas_of(replace(schedule, beta_schedule=other, averaged_with=None), **options)
        sampling.set_sigmas(torch.lerp(sampling.sigmas, halfway, 0.5))
    return sampling


def sigmas_of(schedule, **options):
    return stock_sampling(schedule, **options).sigmas


def test_schedule_comes_from_the_family_or_the_choice(model, v3):
    auto = apply_motion_module(model, v3, FULL).get_model_object("model_sampling")
    assert torch.equal(auto.sigmas, sigmas_of(SQRT_LINEAR)) and isinstance(auto, comfy.model_sampling.EPS)
    chosen = apply_motion_module(model, v3, FULL, "linear (AnimateDiff SDXL)").get_model_object("model_sampling")
    assert torch.equal(chosen.sigmas, sigmas_of(LINEAR_SDXL))
    kept = apply_motion_module(model, v3, FULL, KEEP_SCHEDULE).get_model_object("model_sampling")
    assert kept is model.get_model_object("model_sampling")


@pytest.mark.parametrize("schedule", list(BETA_SCHEDULES))
def test_every_schedule_samples(model, v3, schedule):
    """Each gives the frames of a MODEL that has the host's own; Stable Diffusion's has it from the start."""
    sampler = "lcm" if "lcm" in schedule else "euler"
    result = sample(apply_motion_module(model, v3, FULL, schedule), sampler=sampler)
    kept = sample(apply_motion_module(model, v3, FULL, KEEP_SCHEDULE), sampler=sampler)
    assert torch.equal(result, kept) == (BETA_SCHEDULES[schedule] == LINEAR)
    stock = model.clone()
    stock.add_object_patch("model_sampling", stock_sampling(BETA_SCHEDULES[schedule]))
    expected = sample(apply_motion_module(stock, v3, FULL, KEEP_SCHEDULE), sampler=sampler)
    assert relative_error(result, expected) < 1e-6


def test_prediction_type_and_zero_snr_of_the_model_stay(model, v3):
    class Velocity(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.V_PREDICTION):
        pass

    velocity = model.clone()
    velocity.add_object_patch("model_sampling", Velocity(model.model.model_config, zsnr=True))
    result = apply_motion_module(velocity, v3, FULL).get_model_object("model_sampling")
    assert isinstance(result, comfy.model_sampling.V_PREDICTION) and torch.equal(
        result.sigmas, sigmas_of(SQRT_LINEAR, zsnr=True)
    )


def test_lcm_schedule_is_distilled(model):
    lcm = load_motion_module(motion_file("lcm.safetensors", max_frames=None, mid=True))
    sampling = apply_motion_module(model, lcm, MotionSettings("lcm")).get_model_object("model_sampling")
    kinds = [kind.__name__ for kind in type(sampling).__mro__]
    assert len(sampling.sigmas) == 50 and "ModelSamplingDiscreteDistilled" in kinds


def test_schedule_after_lcm_is_the_models_own_kind_again(model, v3):
    lcm = apply_motion_module(model, v3, FULL, "lcm (AnimateLCM)")
    again = apply_motion_module(lcm, v3, FULL).get_model_object("model_sampling")
    assert isinstance(again, type(model.get_model_object("model_sampling")))
    assert not isinstance(again, type(lcm.get_model_object("model_sampling")))
    assert torch.equal(again.sigmas, sigmas_of(SQRT_LINEAR))


def test_wrappers_stand_once_however_long_the_chain(model, v3):
    chained = apply_motion_module(apply_motion_module(model, v3, FULL), v3, FULL)
    for wrapper_type in (WrappersMP.OUTER_SAMPLE, WrappersMP.APPLY_MODEL):
        assert len(chained.get_wrappers(wrapper_type, KEY)) == 1
