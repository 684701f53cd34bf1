"""Text2Video-Zero on the host's samplers, beside the authors' algorithm written out."""

from functools import partial

from animatic_pack.nodes.baselines import Text2VideoZero
from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.clip.text2video_zero import FRESH, WarpSettings, set_text2video_zero, warped
from comfy.ldm.modules.attention import BasicTransformerBlock
import comfy.sample
import comfy.samplers
import host_models
from host_models import conditioning, image_model
import pytest
from reference import relative_error
import torch
from torch.nn.functional import grid_sample, interpolate

SIZE, FRAMES, STEPS, SEED, CFG = (8, 12), 3, 5, 7, 4.0
SETTINGS = WarpSettings(60.0, -40.0, spread_at=0.2, warp_at=0.5)
sample = partial(host_models.sample, size=SIZE, steps=STEPS, frames=FRAMES, seed=SEED, cfg=CFG)


@pytest.fixture(scope="module")
def model():
    return image_model()


@pytest.fixture(scope="module")
def zero(model):
    return set_text2video_zero(model, SETTINGS)


def moved(latent: torch.Tensor, motion: tuple[float, float]) -> torch.Tensor:
    """(1, C, h, w), as the authors' code moves a latent: positions of 512 x 512 pixels, shrunk to the latent's size."""
    coordinates = torch.stack(torch.meshgrid(torch.arange(512.0), torch.arange(512.0), indexing="xy"))[None]
    coordinates = coordinates + torch.tensor(motion)[None, :, None, None]
    coordinates = interpolate(coordinates / 512 * 2 - 1, latent.shape[2:], mode="bilinear")
    grid = coordinates.permute(0, 2, 3, 1)
    return grid_sample(latent, grid, mode="nearest", padding_mode="reflection", align_corners=False)


def cross_frame(attention, x, num_frames):
    """A self-attention by the formula, keys and values of the first frame of each cond."""
    first = x.reshape(-1, num_frames, *x.shape[1:])[:, [0] * num_frames].reshape(x.shape)
    query, key, value = attention.to_q(x), attention.to_k(first), attention.to_v(first)
    heads = [part.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part in (query, key, value)]
    weights = (heads[0] @ heads[1].transpose(-1, -2) * attention.dim_head**-0.5).softmax(-1)
    return attention.to_out((weights @ heads[2]).transpose(1, 2).flatten(2))


def written_out(model, monkeypatch) -> torch.Tensor:
    """Algorithm 1 of the paper with DDIM, on latents of unit variance (x = sqrt(a) clean + sqrt(1 - a) noise)."""
    network, config = model.model, model.model.latent_format.scale_factor
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", STEPS)
    alphas = 1 / (1 + sigmas**2)
    contexts = [conditioning(seed=seed)[0][0] for seed in (1, 2)]

    def backward(x, first, last):
        for a, b, sigma in zip(alphas[first:last], alphas[first + 1 : last + 1], sigmas[first:last], strict=True):
            rows, frames = torch.cat((x, x)), len(x)
            text = torch.cat([context.expand(frames, -1, -1) for context in contexts])
            with monkeypatch.context() as patched:
                for module in network.diffusion_model.modules():
                    if isinstance(module, BasicTransformerBlock):
                        see = partial(cross_frame, module.attn1)
                        patched.setattr(module.attn1, "forward", lambda x, see=see, n=frames, **_: see(x, n))
                clean = network.apply_model(rows / a.sqrt(), sigma.expand(len(rows)), c_crossattn=text)
            positive, negative = clean.chunk(2)
            clean = negative + CFG * (positive - negative)
            noise = (x - a.sqrt() * clean) / (1 - a).sqrt()
            x = b.sqrt() * clean + (1 - b).sqrt() * noise
        return x

    noise = comfy.sample.prepare_noise(torch.zeros(FRAMES, 4, *SIZE), SEED)
    spread, warp = 1, 2
    scaled = noise[:1] * (1 + sigmas[0] ** 2).sqrt()  # as the host begins from the most noise that it knows
    at_spread = backward(scaled * alphas[0].sqrt(), 0, spread)
    at_warp = backward(at_spread, spread, warp)
    others = torch.cat([moved(at_warp, (60.0 * k, -40.0 * k)) for k in range(1, FRAMES)])
    fresh = torch.randn(others.shape, generator=torch.Generator().manual_seed(SEED ^ FRESH))
    kept = alphas[spread] / alphas[warp]  # the product of one minus beta over the steps between
    others = kept.sqrt() * others + (1 - kept).sqrt() * fresh
    return backward(torch.cat((at_spread, others)), spread, STEPS) / config


def test_it_is_the_authors_algorithm(model, zero, monkeypatch):
    assert relative_error(sample(zero), written_out(model, monkeypatch)) < 1e-5


@pytest.mark.parametrize("size", [(64, 64), (8, 12), (5, 9)])
@pytest.mark.parametrize("motion", [(12.0, 12.0), (-100.0, 37.0), (0.0, 0.0), (4.0, 20.0)])
def test_latents_are_moved_as_the_authors_move_them(size, motion):
    latent = torch.randn(1, 4, *size)
    found = warped(latent, WarpSettings(*motion), 5)
    for frame, ours in enumerate(found, 1):
        assert torch.equal(ours, moved(latent, (motion[0] * frame, motion[1] * frame))[0])


def test_the_first_frame_is_what_it_would_be_alone(model, zero):
    alone = comfy.sample.prepare_noise(torch.zeros(FRAMES, 4, *SIZE), SEED)[:1]
    conds = conditioning(seed=1), conditioning(seed=2)
    options = {"disable_pbar": True, "seed": SEED}
    latent = torch.zeros(1, 4, *SIZE)
    plain = comfy.sample.sample(model, alone, STEPS, CFG, "euler", "normal", *conds, latent, **options)
    clip = sample(zero)
    assert relative_error(clip[:1], plain) < 1e-5
    assert relative_error(clip[1:], sample(model)[1:]) > 0.1


def test_without_motion_frames_differ_by_their_fresh_noise_alone(model):
    still = set_text2video_zero(model, WarpSettings(0.0, 0.0, 0.5, 0.5))
    clip = sample(still)
    for frame in clip[1:]:
        assert relative_error(frame, clip[0]) < 0.05, "moved by nothing and noised by nothing"
    assert not torch.allclose(sample(set_text2video_zero(model, WarpSettings(60.0, 0.0, 0.5, 0.5)))[1], clip[1])


def test_what_is_no_clip_from_noise_is_sampled_once(model, zero):
    assert relative_error(sample(zero, frames=1), sample(model, frames=1)) < 1e-5
    latent = torch.randn(FRAMES, 4, *SIZE)
    calls = []
    sample(zero, latent=latent, denoise=0.5, callback=lambda step, x0, x, steps: calls.append((step, steps)))
    assert len(calls) == len(set(calls)) == STEPS


def test_steps_are_counted_over_the_whole_run(zero):
    calls = []
    sample(zero, callback=lambda step, x0, x, steps: calls.append((step, steps, len(x))))
    assert calls == [(i, STEPS, 1) for i in range(2)] + [(i, STEPS, FRAMES) for i in range(1, STEPS)]


def test_the_parts_of_few_steps():
    authors = WarpSettings()
    assert authors.steps(50) == (2, 5) and authors.steps(20) == (1, 2) and authors.steps(2) == (1, 1)
    assert WarpSettings(spread_at=1.0, warp_at=0.0).steps(8) == (7, 7)


def test_plain_model_stays_plain_and_windows_run(model, zero):
    before = sample(model)
    sample(zero)
    assert torch.equal(sample(model), before)
    windows = set_context_options(zero, ContextOptions(2, 1))
    assert torch.isfinite(sample(windows)).all()


def test_conds_in_one_batch_or_apart(zero, short_memory):
    expected = sample(zero)
    with short_memory():
        assert relative_error(sample(zero), expected) < 1e-5


def test_it_is_applied_once(zero):
    with pytest.raises(ValueError, match="already"):
        Text2VideoZero().apply(zero, motion_x=1.0, motion_y=1.0, spread_at=0.1, warp_at=0.2)
