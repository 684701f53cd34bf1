"""Clips that begin from an image: blended noise, PIA, AnimateLCM-I2V, and FreeInit, on the real host."""

from dataclasses import replace
from functools import partial

from animatic_pack.motion_modules.image_encoder import with_image_channels
from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.clip.noise import StartImage, set_noise_options
from animatic_pack.nodes.host.frames.pieces import DecodedFrames
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.image import LIKENESS, MotionImage
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.nodes.timeline.keyframes import parse_numbers
from comfy.patcher_extension import WrappersMP
import comfy.sd
import host_models
from host_models import CHANNELS, answering, image_model, motion_file
import pytest
from reference import relative_error
from small_models import image_encoder_state_dict, pia_input, vae_state_dict
import torch
from torch.nn import Linear

SIZE = (5, 8)


def start_from_image(model, start):
    return set_noise_options(model, start=start)


def free_init(model, iterations):
    return set_noise_options(model, iterations=iterations)


sample = partial(host_models.sample, size=SIZE, steps=2, frames=6)


@pytest.fixture(scope="module")
def model():
    return image_model()


@pytest.fixture(scope="module")
def vae():
    return comfy.sd.VAE(sd={key.removeprefix("first_stage_model."): value for key, value in vae_state_dict().items()})


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 50, 64, 3, generator=torch.Generator().manual_seed(3))


def latent_of(model, vae, image):
    """The image cropped to the clip's shape (40 x 64), encoded and scaled."""
    return model.model.process_latent_in(vae.encode(image[:, 5:45]))


def first_input(model):
    """What the UNet's first call of a run gets."""
    seen = []

    def watch(executor, *args, **kwargs):
        seen.append(args[0].clone())
        return executor(*args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", watch)
    return model, seen


def test_noise_is_blended_with_the_image(model, vae, image):
    plain, before = first_input(model)
    sample(plain)
    started, after = first_input(start_from_image(model, StartImage(image, vae, parse_numbers("0: 0.5, 5: 0", "w"))))
    sample(started)
    sigma = model.model.model_sampling.sigma_max
    scale = (1 + sigma**2) ** 0.5
    weight = torch.tensor([0.5, 0.4, 0.3, 0.2, 0.1, 0.0])[:, None, None, None].repeat(2, 1, 1, 1)
    expected = (1 - weight) * before[0] / scale + weight * latent_of(model, vae, image)
    assert relative_error(after[0] / scale, expected) < 1e-4


def test_only_runs_from_pure_noise_are_changed(model, vae, image):
    started = start_from_image(model, StartImage(image, vae, parse_numbers("0.5", "w")))
    latent = torch.randn(6, 4, *SIZE)
    assert torch.equal(sample(started, latent=latent), sample(model, latent=latent))
    assert relative_error(sample(started, scheduler="ddim_uniform"), sample(model, scheduler="ddim_uniform")) > 1e-3
    assert relative_error(sample(started), sample(model)) > 1e-3


def test_an_image_for_each_frame_and_the_last_stays(model, vae, image):
    several = torch.cat([image, 1 - image])
    _, seen = started = first_input(start_from_image(model, StartImage(several, vae, parse_numbers("1", "w"))))
    sample(started[0])
    scale = (1 + model.model.model_sampling.sigma_max**2) ** 0.5
    expected = torch.cat([latent_of(model, vae, image), latent_of(model, vae, 1 - image).expand(5, -1, -1, -1)])
    assert relative_error(seen[0][:6] / scale, expected) < 5e-3  # the host's lanczos rounds to 8 bits


def extra_file(name, extra):
    from host_models import _folder
    from safetensors.torch import load_file, save_file

    path = _folder / name
    if not path.exists():
        base = (
            motion_file("lcm.safetensors", max_frames=None, mid=True)
            if "i2v" in name
            else motion_file("v3.safetensors")
        )
        save_file(load_file(_folder / base) | extra, path)
    return name


@pytest.fixture(scope="module")
def pia():
    return load_motion_module(extra_file("pia.safetensors", pia_input(CHANNELS["SD1.5"][0])))


@pytest.fixture(scope="module")
def i2v():
    return load_motion_module(extra_file("i2v.safetensors", image_encoder_state_dict(CHANNELS["SD1.5"])))


def test_pia_is_the_checkpoints_convolution_widened_to_nine_channels(model, vae, image, pia):
    """Against the released way: a 9-channel convolution in the UNet, fed with noise, mask and image."""
    still = MotionImage(image, vae, LIKENESS["moderate"], image_frame=2)
    animated = apply_motion_module(model, pia, MotionSettings("pia", still=still))
    result = sample(animated)
    switched = apply_motion_module(model, pia, MotionSettings("pia", still=MotionImage(image, vae, (0.0,))))
    assert relative_error(sample(switched), result) > 1e-4
    likeness = [0.8, 0.8, 1, 0.8, 0.8, 0.8]
    conv = model.model.diffusion_model.input_blocks[0][0]
    extra = torch.cat(
        [
            torch.tensor(likeness)[:, None, None, None].expand(6, 1, *SIZE),
            latent_of(model, vae, image).expand(6, -1, -1, -1),
        ],
        1,
    )
    wide = torch.cat([conv.weight, pia_input(CHANNELS["SD1.5"][0])["conv_in.weight"][:, 4:]], dim=1)

    def nine_channels(layer, args, output):
        x = torch.cat([args[0], extra.repeat(args[0].shape[0] // 6, 1, 1, 1)], dim=1)
        return torch.nn.functional.conv2d(x, wide, conv.bias, padding=1)

    handle = conv.register_forward_hook(nine_channels)
    try:
        expected = sample(answering(animated, lambda thing, *args: replace(thing.answer(*args), first_conv=None)))
    finally:
        handle.remove()
    assert relative_error(result, expected) < 5e-4


def test_likeness_by_distance_and_on_a_circle():
    still = MotionImage(None, None, LIKENESS["small"], image_frame=0)
    assert still.likeness_of([0, 1, 2, 5, 40], 64).tolist() == pytest.approx([1, 0.9, 0.85, 0.8, 0.8])
    looped = MotionImage(None, None, LIKENESS["small"], loop=True)
    expected = [1, 0.9, 0.85, 0.85, 0.85, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.85, 0.85, 0.85, 0.9, 1]
    assert looped.likeness_of(list(range(16)), 16).tolist() == pytest.approx(expected)


def test_i2v_features_go_into_the_second_module_of_each_down_block(model, vae, image, i2v):
    still = MotionImage(image, vae, drift=0.8)
    animated = apply_motion_module(model, i2v, MotionSettings("i2v", still=still))
    seen = {}
    sites = i2v.patcher.model.sites
    handles = [
        site.register_forward_hook(
            lambda m, args, kwargs, out, name=name: seen.update({name: args[0]}), with_kwargs=True
        )
        for name, site in sites.items()
    ]
    try:
        sample(animated, sampler="lcm", cfg=1.0, steps=1)
        with_image = dict(seen)
        for level in range(4):
            i2v.patcher.model.img_encoder.body[2 * level + 1].register_forward_hook(lambda m, a, o: o * 0)
        sample(animated, sampler="lcm", cfg=1.0, steps=1)
    finally:
        for handle in handles:
            handle.remove()
        for block in i2v.patcher.model.img_encoder.body:
            block._forward_hooks.clear()
    latents = latent_of(model, vae, image).expand(6, -1, -1, -1)
    first = i2v.patcher.model.img_encoder(latents, 0.8)[0]
    site = "down_blocks.0.motion_modules.1"
    assert relative_error(with_image[site] - seen[site], first) < 1e-3
    assert torch.equal(with_image["down_blocks.0.motion_modules.0"], seen["down_blocks.0.motion_modules.0"])


def test_what_is_kept_of_an_image_is_in_the_precision_of_the_unet(vae, image, i2v):
    settings = MotionSettings("i2v", still=MotionImage(image, vae))
    kinds = set()

    def watch(thing, call, models, prepared):
        answer = thing.answer(call, models, prepared)
        kinds.update(feature.dtype for feature in prepared.still.features(models[0].model, call).values())
        return answer

    half = apply_motion_module(image_model(dtype=torch.float16), i2v, settings)
    sample(answering(half, watch), scheduler="sgm_uniform", steps=1)
    assert kinds == {torch.float16}


def test_image_and_motion_module_must_belong_together(model, vae, image, pia):
    v3 = load_motion_module(motion_file("v3.safetensors"))
    with pytest.raises(ValueError, match="takes no image.*Start From Image"):
        apply_motion_module(model, v3, MotionSettings("v3", still=MotionImage(image, vae)))
    with pytest.raises(ValueError, match="connect Motion Image"):
        apply_motion_module(model, pia, MotionSettings("pia"))


def test_image_inputs_in_windows(model, vae, image, pia, i2v, short_memory):
    for module in (pia, i2v):
        still = MotionImage(image, vae, LIKENESS["large"])
        animated = apply_motion_module(model, module, MotionSettings("x", still=still))
        assert torch.equal(sample(set_context_options(animated, ContextOptions(8, 2))), sample(animated))
        cut = set_context_options(animated, ContextOptions(8, 3, 1, "uniform looped"))
        with short_memory():
            one_by_one = sample(cut, frames=19)
        assert relative_error(sample(cut, frames=19), one_by_one) < 1e-5
        in_order = sample(set_context_options(animated, ContextOptions(8, 3)), frames=19)
        alone = sample(animated, frames=8)
        assert relative_error(in_order[:5], alone[:5]) < 1e-5, "frames of the first window only, from the same noise"
        assert relative_error(in_order, one_by_one) > 1e-3


def test_free_init_refines_the_noise(model):
    refined, seen = first_input(free_init(model, 3))
    result = sample(refined, steps=2, cfg=1.0)
    assert torch.equal(sample(free_init(model, 1)), sample(model))
    assert len(seen) == 6
    assert torch.equal(result, sample(free_init(model, 3), steps=2, cfg=1.0))
    starts = [x / (1 + model.model.model_sampling.sigma_max**2) ** 0.5 for x in seen[::2]]
    for start in starts:
        assert abs(start.std().item() - 1) < 0.15
    slow = [start.mean((0, 2, 3)) for start in starts]  # the slowest frequency comes from the run before
    assert (slow[1] - slow[0]).abs().max() < 0.5
    assert relative_error(starts[1], starts[0]) > 0.1
    assert relative_error(sample(model, steps=2, cfg=1.0), result) > 0.1


def test_free_init_leaves_runs_that_start_from_a_clip(model):
    latent = torch.randn(6, 4, *SIZE)
    assert torch.equal(sample(free_init(model, 3), latent=latent), sample(model, latent=latent))


def test_noise_options_do_not_depend_on_the_order_of_nodes(model, vae, image):
    start = StartImage(image, vae, parse_numbers("0: 0.5, 5: 0", "w"))
    shared = ContextOptions(4, 1, use_free_noise=True)
    one = free_init(start_from_image(set_context_options(model, shared), start), 2)
    other = set_context_options(start_from_image(free_init(model, 2), start), shared)
    assert torch.equal(sample(one), sample(other))
    without = set_context_options(one, ContextOptions(4, 1))
    assert relative_error(sample(without), sample(one)) > 1e-3


def test_free_init_keeps_the_layout_of_the_result(model):
    """A denoiser that always gives one picture: the next pass starts from its slow parts and not from its fast ones."""
    picture = torch.randn(6, 4, *SIZE, generator=torch.Generator().manual_seed(5)) * 30
    slow, seen = picture.mean((0, 2, 3)), []

    def denoiser(executor, x, *args, **kwargs):
        seen.append(x.clone())
        return picture.repeat(x.shape[0] // 6, 1, 1, 1)

    sure = free_init(model, 2)
    sure.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", denoiser)
    sample(sure)
    sigma = model.model.model_sampling.sigma_max
    scale = (1 + sigma**2) ** 0.5
    first, second = (seen[i][:6] / scale for i in (0, 2))
    expected = (slow + sigma * first.mean((0, 2, 3))) / scale
    assert relative_error(second.mean((0, 2, 3)), expected) < 1e-3
    assert relative_error(second, (picture + sigma * first) / scale) > 0.2


def test_free_init_waits_for_a_finished_run(model):
    half = {"steps": 4, "start_step": 0, "last_step": 2, "force_full_denoise": False}
    assert torch.equal(sample(free_init(model, 3), **half), sample(model, **half))


def test_pia_weights_are_those_of_the_whole_clip(model, vae, image, pia):
    still = MotionImage(image, vae, LIKENESS["large"], loop=True)
    animated = apply_motion_module(model, pia, MotionSettings("pia", still=still))
    seen = []

    def watch(thing, call, models, prepared):
        answer = thing.answer(call, models, prepared)
        likeness = still.likeness_of(call.frames, 16)
        expected = with_image_channels(models[0].model.conv_in, likeness, prepared.still.latent)
        seen.append((call.frames, torch.equal(answer.first_conv, expected)))
        return answer

    sample(set_context_options(answering(animated, watch), ContextOptions(8, 0)), frames=16, steps=1)
    assert seen == [(tuple(range(8)), True), (tuple(range(8, 16)), True)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(vae, image, pia, i2v, dtype):
    for module in (pia, i2v):
        still = MotionSettings("x", still=MotionImage(image, vae))
        results = [
            sample(apply_motion_module(image_model(dtype=kind), module, still), scheduler="sgm_uniform", steps=1)
            for kind in (dtype, torch.float32)
        ]
        assert relative_error(*results) < 0.1


def test_other_kinds_of_models_are_refused():
    parts = {"get_model_object": lambda self, name: Linear(1, 1), "model": object(), "model_options": {}}
    flux = type("Flux", (), parts)()
    flux.clone = lambda: flux
    with pytest.raises(ValueError, match="Stable Diffusion 1.5 or SDXL kind"):
        free_init(flux, 2)
    with pytest.raises(ValueError, match="Stable Diffusion 1.5 or SDXL kind"):
        set_context_options(flux, ContextOptions())


def test_image_inputs_beside_conds_with_an_area(model, vae, image, pia, i2v, short_memory):
    from host_models import conditioning

    part = [conditioning(seed=4)[0][0], {"area": (4, 4, 0, 2), "strength": 1.0}]
    for module in (pia, i2v):
        animated = apply_motion_module(model, module, MotionSettings("x", still=MotionImage(image, vae)))
        both = sample(animated, positive=[*conditioning(seed=1), part], steps=1)
        with short_memory():
            assert relative_error(sample(animated, positive=[*conditioning(seed=1), part], steps=1), both) < 1e-5
        alone = sample(animated, positive=conditioning(seed=1), steps=1)
        inside = torch.zeros(SIZE, dtype=torch.bool)
        inside[0:4, 2:6] = True
        assert relative_error(both[..., inside], alone[..., inside]) > 1e-3
        assert torch.equal(both[..., ~inside], alone[..., ~inside])


@pytest.mark.parametrize("shape", [(16, 5, 8), (16, 1, 5, 8)], ids=["Flux", "video"])
def test_a_vae_of_another_kind_of_model_is_refused(model, image, shape):
    class OtherVae:
        def spacial_compression_encode(self):
            return 8

        def encode(self, pixels):
            return torch.zeros(len(pixels), *shape)

    started = start_from_image(model, StartImage(image, OtherVae(), parse_numbers("0.1", "weight")))
    with pytest.raises(ValueError, match="This VAE belongs to another kind of model"):
        sample(started)


def test_a_latent_of_another_kind_of_model_is_not_decoded(vae):
    with pytest.raises(ValueError, match="This latent has 16 channels, and the vae takes 4"):
        DecodedFrames({"samples": torch.zeros(2, 16, 5, 8)}, vae)
