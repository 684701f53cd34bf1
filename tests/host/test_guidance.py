"""CFG by step and by frame, and noise by frame, with the host's own guider and samplers."""

from functools import partial

from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.clip.guidance import set_cfg_schedule
from animatic_pack.nodes.host.clip.noise import set_noise_options, travelled
from animatic_pack.nodes.noise import FrameNoise
from animatic_pack.nodes.timeline.keyframes import parse_numbers
from comfy.patcher_extension import WrappersMP
import comfy.sample
import comfy.samplers
from comfy_extras.nodes_custom_sampler import Guider_Basic
import host_models
from host_models import conditioning, image_model
import pytest
from reference import relative_error
import torch

sample = partial(host_models.sample, size=(4, 6), steps=2, frames=4)


def scheduled(model, by_step="", by_frame="1", curve="linear"):
    steps = parse_numbers(by_step, "x", curve, end=1.0) if by_step else None
    return set_cfg_schedule(model, steps, parse_numbers(by_frame, "x", curve))


@pytest.fixture(scope="module")
def model():
    return image_model()


def test_a_number_is_the_samplers_cfg(model):
    assert torch.equal(sample(scheduled(model, "7"), cfg=2.0), sample(model, cfg=7.0))
    assert torch.equal(sample(scheduled(model), cfg=2.0), sample(model, cfg=2.0))
    assert torch.equal(sample(scheduled(scheduled(model, "7", "2")), cfg=2.0), sample(model, cfg=2.0))


def test_each_frame_has_the_cfg_of_a_run_of_its_own(model):
    """Without motion frames do not meet. Also in windows, and where the whole is 1."""
    runs = [sample(model, cfg=cfg) for cfg in (1.0, 3.0, 7.0)]
    expected = torch.stack([runs[0][0], runs[1][1], runs[2][2], runs[2][3]])
    assert relative_error(sample(scheduled(model, "", "1, 3, 7"), cfg=1.0), expected) < 1e-5
    cut = set_context_options(scheduled(model, "2", "0.5, 1.5, 3.5"), ContextOptions(2, 1))
    assert relative_error(sample(cut, cfg=5.0), expected) < 1e-5


def test_each_step_has_its_own(model):
    seen = []

    def watch(args):
        seen.append((args["cond_scale"], args["uncond_denoised"] is None or args["uncond"] is None))
        return args["denoised"]

    watched = scheduled(model, "0: 8, 0.5: 1").clone()
    watched.set_model_sampler_post_cfg_function(watch)
    sample(watched, steps=4, cfg=3.0, scheduler="sgm_uniform")
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "sgm_uniform", 4)[:-1]
    points = [1 - float(sampling.timestep(sigma)) / 999 for sigma in sigmas]
    assert [cfg for cfg, _ in seen] == pytest.approx([max(1.0, 8 - 14 * point) for point in points], abs=1e-4)


def rows_per_call(model):
    rows = []

    def watch(executor, *args, **kwargs):
        rows.append(next(a for a in [*args, *kwargs.values()] if isinstance(a, torch.Tensor)).shape[0])
        return executor(*args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", watch)
    return model, rows


def test_the_negative_prompt_is_skipped_where_cfg_is_one(model):
    watched, rows = rows_per_call(scheduled(model, "0: 4, 0.4: 1"))
    sample(watched, steps=2, scheduler="sgm_uniform")
    assert rows == [8, 4]


def guided(guider, model, *conds):
    guider = guider(model)
    guider.set_conds(*conds)
    return guider


def run(guider):
    sigmas = torch.tensor([5.0, 1.0, 0.0])
    noise, latent = torch.ones(2, 4, 4, 6), torch.zeros(2, 4, 4, 6)
    return guider.sample(noise, latent, comfy.samplers.sampler_object("euler"), sigmas, seed=1)


def test_the_guider_is_as_it_was_after_an_error(model):
    scales = []

    def fail(args):
        scales.append(args["cond_scale"])
        raise RuntimeError("stopped")

    failing = scheduled(model, "7")
    failing.set_model_sampler_cfg_function(fail)
    guider = guided(comfy.samplers.CFGGuider, failing, conditioning(seed=1), conditioning(seed=2))
    guider.set_cfg(3.0)
    with pytest.raises(RuntimeError, match="stopped"):
        run(guider)
    assert scales == [7.0] and guider.cfg == 3.0


def test_guiders_without_cfg_are_left_alone(model, caplog):
    plain, same = (run(guided(Guider_Basic, target, conditioning(seed=1))) for target in (model, scheduled(model, "7")))
    assert torch.equal(same, plain) and "CFG Schedule does nothing" in caplog.text
    by_frame = set_cfg_schedule(model, None, parse_numbers("0: 1, 3: 0.5", "x"))
    assert torch.equal(run(guided(Guider_Basic, by_frame, conditioning(seed=1))), plain)


def with_noise(model, seeds="", curve="linear", **options):
    return set_noise_options(model, seeds=parse_numbers(seeds, "x", curve) if seeds else None, **options)


@pytest.mark.parametrize("seeds", ["1.5", "0: 1, 8: -2", "9007199254740993000"])
def test_seeds_are_whole_numbers(model, seeds):
    with pytest.raises(ValueError, match="seeds: a seed is a whole number"):
        FrameNoise().set(model, "sampler", seeds, "linear")


def test_one_seed_is_the_samplers(model):
    assert torch.equal(sample(with_noise(model, "11"), seed=3), sample(model, seed=11))
    assert torch.equal(sample(with_noise(model), seed=3), sample(model, seed=3))


def test_seeds_at_their_frames_and_blended_between(model):
    first, second = (sample(model, seed=seed) for seed in (5, 6))
    travel = sample(with_noise(model, "0: 5, 3: 6"), seed=1)
    assert relative_error(travel[0], first[0]) < 1e-6 and relative_error(travel[3], second[3]) < 1e-6
    assert relative_error(travel[1], first[1]) > 1e-3 and relative_error(travel[1], second[1]) > 1e-3
    jump = sample(with_noise(model, "0: 5, 2: 6", "step"), seed=1)
    assert torch.equal(jump[:2], first[:2]) and torch.equal(jump[2:], second[2:])


def test_noise_that_holds_its_seed_is_that_seeds():
    noise = travelled(torch.zeros(9, 4, 8, 8), parse_numbers("0: 1, 4: 1, 8: 2", "x"))
    assert torch.equal(noise[:5], comfy.sample.prepare_noise(torch.zeros(9, 4, 8, 8), 1)[:5])


def test_blended_noise_is_as_strong_as_any():
    noise = travelled(torch.zeros(9, 4, 64, 64), parse_numbers("0: 1, 8: 2", "x"))
    assert ((noise.flatten(1).var(dim=1) - 1).abs() < 0.03).all()
    shares = [i / 8 for i in range(9)]
    rows = [comfy.sample.prepare_noise(torch.zeros(9, 4, 64, 64), seed) for seed in (1, 2)]
    for frame, w in enumerate(shares):
        wanted = ((1 - w) * rows[0][frame] + w * rows[1][frame]) / ((1 - w) ** 2 + w**2) ** 0.5
        assert torch.allclose(noise[frame], wanted, atol=1e-5)


def test_constant_and_empty_noise(model):
    def noise_of(kind, **options):
        seen = []

        def keep(executor, noise, *args, **kwargs):
            seen.append(noise)
            return executor(noise, *args, **kwargs)

        watched = with_noise(model, kind=kind).clone()
        watched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "test", keep)
        sample(watched, **options)
        return seen[0]

    plain = noise_of("sampler")
    assert torch.equal(noise_of("constant"), plain[:1].expand_as(plain))
    assert not noise_of("empty").any()
    assert not noise_of("constant", disable_noise=True).any()
