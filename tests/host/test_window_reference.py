"""Context windows that look at an earlier one, on the host's own attention."""

from contextlib import nullcontext
from functools import partial
import math

from animatic_pack.animate_anyone.reference import reference_tokens
from animatic_pack.nodes.host.clip import reference
from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.clip.reference import WindowReference, set_window_reference
from animatic_pack.nodes.host.core.unet import self_attention_numbers, self_attentions
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
import comfy.controlnet
from comfy.ldm.modules.attention import attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
import comfy.model_management
import comfy.ops
from comfy.patcher_extension import WrappersMP
import comfy.sample
import host_models
from host_models import conditioning, image_model, motion_module_of, unet_config
import pytest
from reference import relative_error
import torch

SIZE = (4, 6)
sample = partial(host_models.sample, size=SIZE, steps=2, frames=10)
EVERYWHERE = {"start_percent": 0.0, "end_percent": 1.0}


@pytest.fixture(scope="module")
def model():
    """Without motion: frames meet only where windows look at each other."""
    return set_context_options(image_model(), ContextOptions(4, 1, context_schedule="static standard"))


def looking(model, **settings):
    return set_window_reference(model, WindowReference(**{**EVERYWHERE, "fidelity": 0.0, **settings}))


def from_one_noise(model, frames=10, cfg=4.0):
    noise = torch.randn(1, 4, *SIZE, generator=torch.Generator().manual_seed(1)).expand(frames, 4, *SIZE)
    conds = conditioning(seed=1), conditioning(seed=2)
    latent = torch.zeros(frames, 4, *SIZE)
    options = {"disable_pbar": True, "seed": 1}
    return comfy.sample.sample(model, noise, 2, cfg, "euler", "normal", *conds, latent, **options)


def test_strength_zero_and_one_window_change_nothing(model):
    plain = sample(model)
    assert torch.equal(sample(looking(model, strength=0.0)), plain)
    assert torch.equal(sample(looking(model), frames=4), sample(model, frames=4))
    changed = sample(looking(model))
    assert relative_error(changed[:3], plain[:3]) < 1e-5  # of the first window alone
    assert relative_error(changed[4:], plain[4:]) > 1e-3


def test_self_attentions_that_another_node_replaces_are_left_to_it(model):
    def values(q, k, v, extra_options):
        return v  # as the stock node PerturbedAttentionGuidance has it

    replaced = model.clone()
    for block in (("input", 1), ("input", 2), ("middle", 0)):
        replaced.set_model_attn1_replace(values, *block)
    assert relative_error(sample(looking(replaced))[4:], sample(replaced)[4:]) > 1e-4


@pytest.mark.parametrize("mode", reference.MODES)
def test_windows_of_equal_noise_and_prompt_stay_as_they_are(model, mode):
    """To see the same twice is to see it once."""
    assert relative_error(from_one_noise(looking(model, mode=mode)), from_one_noise(model)) < 1e-5


def test_the_modes_differ_from_the_third_window_on(model):
    first, sliding, indexes = (sample(looking(model, mode=mode, indexes=(0, 5))) for mode in reference.MODES)
    assert relative_error(sliding[:6], first[:6]) < 1e-5
    assert relative_error(sliding[7:], first[7:]) > 1e-3
    assert relative_error(indexes, sliding) < 1e-5  # the second window holds frame 5
    assert relative_error(sample(looking(model, mode="sliding", width=3)), first) < 1e-5


def test_which_windows_are_kept():
    windows = [[0, 1, 2], [2, 3, 4], [4, 5, 6], [6, 7, 8]]
    assert WindowReference().writes(windows) == [True, False, False, False]
    assert WindowReference("sliding").writes(windows) == [True] * 4
    assert WindowReference("sliding", width=3).writes(windows) == [True, False, True, False]
    assert WindowReference("indexes", indexes=(4, 7)).writes(windows) == [True, True, False, True]


def test_fidelity_leaves_the_negative_prompt_as_it_is(model):
    """At cfg 0 only the negative prompt counts."""
    plain = sample(model, cfg=0.0)
    assert relative_error(sample(looking(model, fidelity=1.0), cfg=0.0), plain) < 1e-5
    assert relative_error(sample(looking(model, fidelity=0.0), cfg=0.0), plain) > 1e-3


@pytest.mark.parametrize("limit", [reference.LIMIT, 0], ids=["on the device", "in memory"])
@pytest.mark.parametrize("together", [True, False])
def test_conds_in_one_batch_or_apart_and_wherever_the_bank_is(model, together, limit, short_memory, monkeypatch):
    expected = sample(looking(model))
    monkeypatch.setattr(reference, "LIMIT", limit)
    with nullcontext() if together else short_memory():
        assert relative_error(sample(looking(model)), expected) < 1e-5


def test_nothing_is_left_after_an_interrupt(model):
    calls = []

    def fail(executor, *args, **kwargs):
        options = next(a for a in [*args, *kwargs.values()] if isinstance(a, dict) and "cond_or_uncond" in a)
        calls.append(options)
        if len(calls) == 2:
            raise comfy.model_management.InterruptProcessingException()
        return executor(*args, **kwargs)

    watched = looking(model).clone()
    watched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", fail)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(watched)
    assert reference.BANK in calls[0] and reference.BANK not in watched.model_options["transformer_options"]
    assert torch.equal(sample(looking(model)), sample(looking(model)))


def test_the_range_in_which_it_acts(model):
    acting = []

    def watch(executor, *args, **kwargs):
        options = next(a for a in [*args, *kwargs.values()] if isinstance(a, dict) and "cond_or_uncond" in a)
        acting.append(reference.BANK in options)
        return executor(*args, **kwargs)

    watched = looking(model, start_percent=0.2, end_percent=0.6).clone()
    watched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", watch)
    sample(watched, steps=4, scheduler="sgm_uniform")  # at 0, 1/4, 1/2 and 3/4 of the range, three windows each
    assert acting == [False] * 3 + [True] * 6 + [False] * 3


def test_with_a_control_net_and_what_other_packs_read(model):
    """Each window keeps its own hints and its place in the clip, and only windows that look are changed."""
    places = []

    class Numbers(torch.nn.Module):
        dtype = torch.float32

        def forward(self, x, hint, **kwargs):
            rows = hint[:, :1, :1, :1].expand(x.shape[0], 128, 1, 1).clone()
            return {"input": [], "middle": [rows], "output": []}

    def watch(executor, *args, **kwargs):
        options = next(a for a in [*args, *kwargs.values()] if isinstance(a, dict) and "cond_or_uncond" in a)
        places.append(options["ad_params"]["sub_idxs"])
        return executor(*args, **kwargs)

    def run(model, hints):
        control = comfy.controlnet.ControlNet(Numbers(), load_device=torch.device("cpu"))
        control.set_cond_hint(hints[:, None, None, None].expand(-1, 3, SIZE[0] * 8, SIZE[1] * 8), 1.0, (0.0, 1.0))
        options = {"control": control, "control_apply_to_uncond": False}
        conds = [[[conditioning(seed=seed)[0][0], options]] for seed in (1, 2)]
        return sample(model, positive=conds[0], negative=conds[1])

    animated = apply_motion_module(model, motion_module_of("v3", modules=2), MotionSettings("v3"), "use existing")
    animated.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", watch)
    hints = torch.rand(10, generator=torch.Generator().manual_seed(4))
    plain, seeing = run(animated, hints), run(looking(animated), hints)
    assert places == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]] * 4
    assert relative_error(seeing[:3], plain[:3]) < 1e-5
    assert relative_error(seeing[4:], plain[4:]) > 1e-3
    last_moved = run(looking(animated), torch.cat([hints[:9], hints[9:] + 1]))
    assert relative_error(last_moved[:6], seeing[:6]) < 1e-5  # only its window meets the tenth hint
    assert relative_error(last_moved[7:], seeing[7:]) > 1e-4


def test_the_bank_holds_one_window_and_no_more(model, monkeypatch):
    banks = []

    class Kept(reference.Bank):
        def __init__(self, settings):
            super().__init__(settings)
            banks.append(self)

    monkeypatch.setattr(reference, "Bank", Kept)
    sample(looking(model, mode="sliding"), steps=1)
    attentions = self_attentions(model.model.diffusion_model).values()
    width = {attention.to_q.in_features for attention in attentions}
    held = list(banks[0]._tokens.values())
    assert len(held) == 2 * len(attentions) and {tokens.shape[2] for tokens in held} == width
    assert all(tokens.shape[0] == 4 for tokens in held)  # the frames of a window, for each cond


@pytest.mark.parametrize("kind, size, stated", [("SD1.5", 64, 0.37), ("SDXL", 128, 3.4)])
def test_the_stated_memory_of_a_bank(kind, size, stated):
    """Of 16 frames in half precision, for one prompt, as reference.py and the help page have it."""
    config = {**unet_config(kind, 320), "dtype": torch.float16}
    unet = UNetModel(**config, device="meta", operations=comfy.ops.disable_weight_init)
    x, context = torch.empty(1, 4, size, size), torch.empty(1, 77, unet_config(kind)["context_dim"])
    # the host's own attention asks the device how much memory is free
    options = {"optimized_attention_override": lambda own, *args, **named: attention_pytorch(*args, **named)}
    given = {"context": context.half().to("meta"), "transformer_options": options}
    if unet.num_classes:
        given["y"] = torch.empty(1, unet.label_emb[0][0].in_features, device="meta", dtype=torch.float16)
    attentions = self_attentions(unet)
    tokens = reference_tokens(attentions, lambda: unet(x.half().to("meta"), torch.zeros(1, device="meta"), **given))
    numbers = sum(each.numel() for each in tokens.values())
    assert abs(16 * 2 * numbers / 1e9 / stated - 1) < 0.02
    assert self_attention_numbers(unet, size, size) == numbers


def test_the_host_makes_room_for_what_a_bank_holds(model, monkeypatch):
    """In rows of its own estimate, here of a byte for each number of a latent."""
    told, banks = [], []
    load, put = comfy.model_management.load_models_gpu, reference.Bank._put

    def listen(models, memory_required=0, **kwargs):
        told.append((memory_required, kwargs["minimum_memory_required"]))
        return load(models, memory_required=memory_required, **kwargs)

    def keep(bank, key, tokens):
        put(bank, key, tokens)
        banks.append(sum(kept.numel() * kept.element_size() for kept in bank._tokens.values()))

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", listen)
    monkeypatch.setattr(reference.Bank, "_put", keep)
    monkeypatch.setattr(model.model, "memory_required", lambda shape, **_: math.prod(shape))

    def room(model, frames=10):
        told.clear()
        sample(model, frames=frames, steps=1)
        return told[-1]

    row, plain = 4 * SIZE[0] * SIZE[1], room(model)
    assert plain == (8 * row, 4 * row)
    most, least = room(looking(model))
    assert 0 <= most - plain[0] - max(banks) < 2 * row and (least - plain[1]) * 2 == most - plain[0]
    assert room(looking(model), frames=4) == plain and room(looking(model, strength=0.0)) == plain
    before = set_window_reference(image_model(), WindowReference())
    monkeypatch.setattr(before.model, "memory_required", model.model.memory_required)
    before = set_context_options(before, ContextOptions(4, 1, context_schedule="static standard"))
    assert room(before) == (most, least), "in either order of the nodes"
    monkeypatch.setattr(reference, "LIMIT", 10 * row)
    assert room(looking(model))[0] == plain[0] + 10 * row


def test_windows_of_other_lengths():
    cut = set_context_options(image_model(), ContextOptions(4, 0, context_schedule="batched"))
    assert torch.isfinite(sample(looking(cut))).all()


def test_reuse_lays_the_first_window_over_the_clip(model):
    seen = []

    def keep(args):
        seen.append(args["conds_out"])
        return args["conds_out"]

    reused = looking(model, strength=0.0, reuse=1.0, reuse_end_percent=0.5).clone()
    reused.set_model_sampler_pre_cfg_function(keep)
    sample(reused)
    for denoised in seen[0]:
        assert all(torch.equal(denoised[i], denoised[i % 4]) for i in range(10))
    assert not torch.equal(seen[1][0][0], seen[1][0][4])
    plain = sample(model)
    assert torch.equal(sample(looking(model, strength=0.0, reuse=0.0)), plain)
    assert relative_error(sample(looking(model, strength=0.0, reuse=0.5, reuse_end_percent=0.5)), plain) > 1e-3
