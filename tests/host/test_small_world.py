"""The small world's narrow networks against the wide files that the host's own loaders open."""

from animatic_pack.evaluation.world import autoencoder, files
from animatic_pack.evaluation.world.depth_control import begin_as, hint_of
from animatic_pack.evaluation.world.drawing import draw
from animatic_pack.evaluation.world.figures import unseen_scenes
from animatic_pack.evaluation.world.learning import cached_words
from animatic_pack.evaluation.world.measures import see_object
from animatic_pack.evaluation.world.models import SCHEDULE, Animator, Sampling, clip_noise, inverted, sampled
from animatic_pack.evaluation.world.scenes import draw_scene
from animatic_pack.evaluation.world.widen import NARROW, widened
from animatic_pack.motion_modules.checkpoint import read_motion_module
from animatic_pack.nodes.host.evaluation.networks import NarrowNetworks, narrow_patcher
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.module import motion_module_from
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.training.low_rank import adapter_weights, fresh_low_rank
from animatic_pack.training.motion import fresh_motion_module
from animatic_pack.training.motion import motion_module_from as motion_module
import comfy.controlnet
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
from host_models import CPU, sample
import pytest
from small_models import random_like
import torch

import nodes

HOST = NarrowNetworks()
CAPTION = "a red comet moving left over night"


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """Weights that file precision keeps, tables of positions as they are."""
    generator = torch.Generator().manual_seed(5)
    for key, value in module.state_dict().items():
        if not key.endswith(".pe"):
            value.copy_(random_like(value, key, generator).half())
    return module


@pytest.fixture(scope="module")
def narrow_unet():
    return randomised(HOST.fresh_base(0).unet)


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(1)
    return autoencoder.decoder()


@pytest.fixture(scope="module")
def stock(narrow_unet, decoder, tmp_path_factory):
    """MODEL, CLIP and VAE as CheckpointLoaderSimple gives them."""
    path = tmp_path_factory.mktemp("world") / "small_world.ckpt"
    files.save_wide(path, files.checkpoint(narrow_unet.state_dict(), decoder.state_dict()))
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(path))
    model.model.float()  # a processor may compute in halves
    model.model.manual_cast_dtype = None
    return model, clip, vae


@pytest.fixture(scope="module")
def narrow(narrow_unet):
    """The narrow UNet as a MODEL, which no loader of the host could open."""
    base = HOST.fresh_base(0)
    base.unet.load_state_dict(narrow_unet.state_dict())
    return narrow_patcher(base, "linear")


def animated(model, weights):
    module = motion_module_from("world", lambda: read_motion_module(weights), ())
    return apply_motion_module(model, module, MotionSettings("world"))


def conds(words) -> dict:
    return {"positive": [[words(CAPTION)[None], {}]], "negative": [[words("")[None], {}]]}


def test_the_wide_file_samples_what_the_narrow_network_samples(stock, narrow):
    sites = {site: NARROW for site in HOST.fresh_base(0).motion_sites if not site.startswith("mid")}
    motion = randomised(fresh_motion_module(sites, 32, 0)).state_dict()
    options = {"frames": 4, "size": (8, 8), "cfg": 1.5, "steps": 2, **conds(cached_words(HOST.tokenize))}
    still, moving = sample(narrow, **options), sample(animated(narrow, motion), **options)
    assert relative(sample(stock[0], **options), still) < 1e-5
    assert relative(sample(animated(stock[0], widened(motion)), **options), moving) < 1e-5
    assert relative(still, moving) > 0.05


def test_text2video_zero_begins_with_the_still_of_its_seed():
    """The narrow MODEL is the narrow network: the same still out of the host's sampler and of ours."""
    base, words = HOST.fresh_base(0), cached_words(HOST.tokenize)
    randomised(base.unet)
    sampling = Sampling(steps=5, num_frames=3, guidance=1.5)
    contexts = words(CAPTION), words("")
    with torch.no_grad():
        stills = Animator(base, words).sample(CAPTION, 3, sampling)
        noise = clip_noise(3, sampling)
        clip = HOST.text2video_zero(base, SCHEDULE, contexts, noise, sampling.steps, sampling.guidance, (24.0, 0.0))
    assert clip.shape == stills.shape
    assert relative(clip[0], stills[0]) < 0.02  # both are DDIM; the host's ends at sigma 0, ours at the first timestep
    assert relative(clip[1], stills[1]) > 0.5


def test_a_still_comes_back_from_its_own_noise():
    base, words, scene = HOST.fresh_base(0), cached_words(HOST.tokenize), draw_scene(5, 3)
    base.unet.load_state_dict(files.load_narrow(files.SHIPPED, files.IMAGE_MODEL))
    denoiser = Animator(base, words).denoiser()
    still, steps = autoencoder.encode(draw(scene).pictures), Sampling(steps=20, guidance=1.0)
    noise = inverted(denoiser, still, words(scene.caption), steps.steps)
    again = sampled(denoiser, words, scene.caption, noise, steps)
    other = sampled(denoiser, words, scene.caption, clip_noise(0, Sampling(num_frames=1)), steps)
    assert 0.7 < float(noise.std()) < 1.3
    assert relative(again, still) < 0.2 < relative(other, still)


def test_the_wide_controlnet_controls_as_the_narrow_one(stock, narrow, narrow_unet):
    """Through the host's own loader and node."""
    control = randomised(begin_as(HOST.fresh_control(0), narrow_unet))
    hint = hint_of(draw(draw_scene(0, 1, 2), 2))[..., :64, :64].movedim(1, -1)
    wide = comfy.controlnet.load_controlnet_state_dict(widened(control.state_dict()))
    wide.control_model.float()
    wide.manual_cast_dtype = None
    same = comfy.controlnet.ControlNet(
        control, load_device=CPU, compression_ratio=8, latent_format=wide.latent_format, manual_cast_dtype=None
    )
    options = {"frames": 2, "size": (8, 8), "cfg": 1.5, "steps": 2}
    words = conds(cached_words(HOST.tokenize))
    controlled = [
        sample(model, **options, **steered(words, network, hint))
        for model, network in ((narrow, same), (stock[0], wide))
    ]
    assert relative(controlled[1], controlled[0]) < 1e-5
    assert relative(sample(narrow, **options, **words), controlled[0]) > 0.01


def steered(words: dict, network, hint: torch.Tensor) -> dict:
    both = nodes.ControlNetApplyAdvanced().apply_controlnet(*words.values(), network, hint, 1.0, 0.0, 1.0)
    return dict(zip(words, both, strict=True))


def test_low_rank_changes_widen_with_what_they_change(stock, narrow):
    """A domain adapter through the stock loader's own function, in the keys of AnimateDiff v3's."""
    base = HOST.fresh_base(0)
    layers = fresh_low_rank(base.unet, list(base.attention_layers()), 4, 0)
    adapter = adapter_weights(randomised(layers), 0.2, base.attention_layers())
    options = {"frames": 2, "size": (8, 8), "cfg": 1.5, "steps": 2, **conds(cached_words(HOST.tokenize))}
    changed = [
        sample(comfy.sd.load_lora_for_models(model, None, weights, 1.0, 0.0)[0], **options)
        for model, weights in ((narrow, adapter), (stock[0], widened(adapter)))
    ]
    assert relative(changed[1], changed[0]) < 1e-5
    assert relative(sample(narrow, **options), changed[0]) > 0.01


def test_the_stock_text_encoder_says_what_training_reads(stock):
    _, clip, _ = stock
    words = cached_words(HOST.tokenize)
    for caption in (CAPTION, ""):
        encoded = clip.encode_from_tokens(clip.tokenize(caption))[0].float()
        assert torch.allclose(encoded, words(caption), atol=4e-3)  # the host keeps its table in half precision


def test_the_stock_autoencoder_is_the_small_worlds(stock, decoder):
    _, _, vae = stock
    pictures = draw(draw_scene(0, 1), 1).pictures
    latents = vae.encode(pictures)
    assert torch.allclose(latents * 0.18215, autoencoder.encode(pictures), atol=1e-5)
    drawn = decoder(autoencoder.encode(pictures)).permute(0, 2, 3, 1)
    assert torch.allclose(vae.decode(latents), drawn.clamp(0, 1), atol=1e-5)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Root mean square of the difference, in that of b."""
    return ((a - b).square().mean() / b.square().mean()).sqrt().item()


def test_the_shipped_files_are_whole():
    parts = {path.stem: files.load_narrow(files.SHIPPED, path.stem) for path in files.SHIPPED.glob("*.safetensors")}
    assert {files.IMAGE_MODEL, files.DECODER, files.MOTION_MODULE, files.DOMAIN_ADAPTER} <= parts.keys()
    assert all(value.isfinite().all() for weights in parts.values() for value in weights.values())
    HOST.fresh_base(0).unet.load_state_dict(parts[files.IMAGE_MODEL])
    autoencoder.decoder().load_state_dict(parts[files.DECODER])
    read_motion_module(widened(parts[files.MOTION_MODULE]))
    assert sum(path.stat().st_size for path in files.SHIPPED.iterdir()) < 12e6


def test_the_shipped_world_moves_as_its_prompts_say():
    """Two scenes that no training saw, by the pack's own sampler."""
    base = HOST.fresh_base(0)
    base.unet.load_state_dict(files.load_narrow(files.SHIPPED, files.IMAGE_MODEL))
    motion = motion_module(files.load_narrow(files.SHIPPED, files.MOTION_MODULE))
    animator = Animator(base, cached_words(HOST.tokenize), motion)
    for seed, scene in enumerate(unseen_scenes(4)):
        if seed in (0, 3):
            seen = see_object(animator.colours(scene, seed, Sampling()))
            assert (seen.direction, seen.colour) == (scene.direction, scene.colour) and seen.jitter < 0.5
