"""A clip that looks at a picture through the checkpoint's own UNet, on the host's own attention."""

from contextlib import nullcontext
from functools import partial

from animate_models import vae
from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.nodes.host.reference.picture_only import SEED, PictureReference, apply_reference_picture
import comfy.controlnet
from comfy.patcher_extension import WrappersMP
import comfy.sample
import host_models
from host_models import conditioning, image_model, motion_module_of
import pytest
from reference import relative_error
import torch

SIZE = (4, 6)
FRAMES = 5
sample = partial(host_models.sample, size=SIZE, steps=2, frames=FRAMES)


@pytest.fixture(scope="module")
def model():
    """Without motion: frames meet nothing but the picture."""
    return image_model()


@pytest.fixture(scope="module")
def picture():
    return torch.rand(1, 40, 64, 3, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def looking(picture):
    return lambda model, **settings: apply_reference_picture(
        model, PictureReference(picture, vae(), **{"fidelity": 0.0, **settings})
    )


def animated(model):
    return apply_motion_module(model, motion_module_of("v3", modules=2), MotionSettings("v3"), "use existing")


def watched(model):
    """A clone, and what its UNet is called with: rows, control, frames' data, conds."""
    calls = []

    def watch(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        known = {"ad_params", "context_window"} & transformer_options.keys()
        calls.append((x.shape[0], c_crossattn.shape[0], control is not None, known))
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", watch)
    return model, calls


def test_strength_zero_changes_nothing_and_more_changes_every_frame(model, looking):
    plain = sample(model)
    assert torch.equal(sample(looking(model, strength=0.0)), plain)
    changed = sample(looking(model))
    assert all(relative_error(changed[i], plain[i]) > 1e-3 for i in range(FRAMES))
    assert relative_error(sample(looking(model, strength=0.5)), changed) > 1e-3
    assert torch.equal(sample(looking(model)), changed)


def test_a_clip_that_is_the_picture_sees_nothing_new(model, looking, picture):
    """In the first step its noisy latents are the picture's own, and to see the same twice is to see it once."""
    reference = PictureReference(picture, vae())
    latent, noise = reference.prepare(model, *SIZE)
    assert torch.equal(noise, torch.randn(latent.shape, generator=torch.Generator().manual_seed(SEED)))
    conds = conditioning(seed=1), conditioning(seed=2)
    clip = model.model.process_latent_out(latent).expand(FRAMES, -1, -1, -1)
    options = {"disable_pbar": True, "seed": 1, "denoise": 0.5}

    def change_by_looking(noise):
        plain, seeing = (
            comfy.sample.sample(each, noise.expand_as(clip), 1, 4.0, "euler", "normal", *conds, clip, **options)
            for each in (model, looking(model))
        )
        return relative_error(seeing, plain)

    assert change_by_looking(noise) < 1e-5
    assert change_by_looking(noise.flip(-1)) > 1e-3


def test_fidelity_leaves_the_negative_prompt_as_it_is(model, looking):
    """At cfg 0 only the negative prompt counts."""
    plain = sample(model, cfg=0.0)
    assert relative_error(sample(looking(model, fidelity=1.0), cfg=0.0), plain) < 1e-5
    assert relative_error(sample(looking(model, fidelity=0.0), cfg=0.0), plain) > 1e-3


@pytest.mark.parametrize("together", [True, False])
def test_conds_in_one_batch_or_apart_with_motion_before_or_after(model, looking, together, short_memory):
    expected = sample(looking(animated(model), fidelity=0.5))
    with nullcontext() if together else short_memory():
        assert relative_error(sample(animated(looking(model, fidelity=0.5))), expected) < 1e-5


def test_every_window_sees_the_picture(model, looking):
    """Frames that meet nothing but the picture are the same in windows as at once."""
    cut = set_context_options(looking(model), ContextOptions(3, 1, context_schedule="static standard"))
    assert relative_error(sample(cut), sample(looking(model))) < 1e-5


def test_the_picture_is_one_row_for_each_cond_without_control_or_what_is_of_frames(model, looking):
    class Numbers(torch.nn.Module):
        dtype = torch.float32

        def forward(self, x, hint, **kwargs):
            return {"input": [], "middle": [torch.zeros(x.shape[0], 64, 1, 1)], "output": []}

    control = comfy.controlnet.ControlNet(Numbers(), load_device=torch.device("cpu"))
    control.set_cond_hint(torch.rand(FRAMES, 3, SIZE[0] * 8, SIZE[1] * 8), 1.0, (0.0, 1.0))
    options = {"control": control, "control_apply_to_uncond": False}
    conds = [[[cond[0][0], options]] for cond in (conditioning(seed=1), conditioning(seed=2))]
    seen, calls = watched(looking(animated(model)))
    sample(seen, positive=conds[0], negative=conds[1])
    pictures, clips = calls[::2], calls[1::2]
    assert pictures == [(2, 2, False, set())] * 2
    assert clips == [(2 * FRAMES, 2 * FRAMES, True, {"ad_params"})] * 2


def test_the_range_in_which_it_acts(model, looking):
    seen, calls = watched(looking(model, start_percent=0.2, end_percent=0.6))
    sample(seen, steps=4, scheduler="sgm_uniform")  # at 0, 1/4, 1/2 and 3/4 of the range
    assert [rows for rows, *_ in calls] == [10, 2, 10, 2, 10, 10]


def test_parts_of_the_picture_with_prompts_of_their_own(model, looking):
    area = [[conditioning(seed=1)[0][0], {"area": (2, 3, 0, 0), "strength": 1.0}]]
    assert torch.isfinite(sample(looking(model), positive=area)).all()
