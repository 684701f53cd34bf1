"""Context windows on the real host: each frame meets its own hint, prompt and mask, in every window and cond."""

from contextlib import nullcontext
from functools import partial

from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options, step_of
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
import comfy.context_windows as stock
import comfy.controlnet
import comfy.model_management
from comfy.patcher_extension import WrappersMP
import host_models
from host_models import conditioning, image_model, motion_file
import pytest
from reference import relative_error
import torch

SETTINGS = MotionSettings("v3")
FRAMES = 19
SIZE = (4, 6)
sample = partial(host_models.sample, size=SIZE, steps=2)


class Probe(torch.nn.Module):
    """A control model that says which hints it was given; a hint image holds its own number."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        self.hints = None

    def forward(self, x, hint, **kwargs):
        assert hint.shape[0] in (1, x.shape[0])
        self.hints = hint[:, 0, 0, 0].round().int().tolist()
        return {"input": [], "middle": [], "output": []}


def probed(count, size=SIZE):
    """A stock ControlNet around a probe, with hints 0 .. count-1."""
    probe = Probe()
    control = comfy.controlnet.ControlNet(probe, load_device=torch.device("cpu"))
    numbers = torch.arange(count).float()[:, None, None, None]
    control.set_cond_hint(numbers.expand(count, 3, size[0] * 8, size[1] * 8), 1.0, (0.0, 1.0))
    return control, probe


def with_control(cond, control):
    return [[cond[0][0], {**cond[0][1], "control": control, "control_apply_to_uncond": False}]]


def watched(model, probes):
    """Records, per model call, the window's frames, the number of conds and what each probe saw."""
    seen = []

    def watch(executor, *args, **kwargs):
        options = next(a for a in [*args, *kwargs.values()] if isinstance(a, dict) and "cond_or_uncond" in a)
        window = options.get("context_window")
        seen.append(
            (
                list(window.index_list) if window else None,
                options["cond_or_uncond"],
                [p.hints for p in probes],
                options["ad_params"],
            )
        )
        return executor(*args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", watch)
    return model, seen


@pytest.fixture(scope="module")
def model():
    return image_model()


@pytest.fixture(scope="module")
def animated(model):
    return apply_motion_module(model, load_motion_module(motion_file("v3.safetensors")), SETTINGS)


def windowed(model, **options):
    return set_context_options(model, ContextOptions(**{"context_length": 8, "context_overlap": 3, **options}))


SCHEDULES = ["static standard", "uniform standard", "uniform looped", "uniform looped, open", "batched"]


@pytest.mark.parametrize("batched", [True, False], ids=["conds together", "conds one by one"])
@pytest.mark.parametrize("hints", [FRAMES, 2 * FRAMES, 16, 5, 1])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_frame_meets_its_own_hint(animated, schedule, hints, batched, short_memory):
    control, probe = probed(hints)
    second, second_probe = probed(hints)
    control.set_previous_controlnet(second)
    model, seen = watched(windowed(animated, context_schedule=schedule), [probe, second_probe])
    positive, negative = with_control(conditioning(seed=1), control), with_control(conditioning(seed=2), control)
    with nullcontext() if batched else short_memory():
        sample(model, frames=FRAMES, positive=positive, negative=negative)
    assert len(seen) >= 6 and {len(conds) for _, conds, _, _ in seen} == ({2} if batched else {1})
    for frames, conds, saw, ad_params in seen:
        expected = [frame % hints for frame in frames] * len(conds)
        for rows in saw:
            assert rows * (len(expected) // len(rows)) == expected
        assert ad_params == {"full_length": FRAMES, "context_length": len(frames), "sub_idxs": frames}
    assert control.cond_hint_original.shape[0] == hints


def test_hints_are_right_without_windows_too(animated):
    """As many hints as rows of cond and uncond together, which the host would deal out wrongly."""
    control, probe = probed(12)
    model, seen = watched(animated, [probe])
    both = [with_control(conditioning(seed=s), control) for s in (1, 2)]
    sample(model, frames=6, positive=both[0], negative=both[1])
    assert all(rows == [0, 1, 2, 3, 4, 5] * 2 for _, _, (rows,), _ in seen)
    assert all(params == {"full_length": 6, "context_length": None, "sub_idxs": None} for *_, params in seen)


def test_one_window_is_no_window(animated):
    assert torch.equal(sample(windowed(animated, context_length=16), frames=16), sample(animated, frames=16))


@pytest.mark.parametrize("fuse_method", ["overlap-linear", "pyramid", "flat", "relative"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_plain_model_is_the_same_in_windows(model, schedule, fuse_method):
    """Without motion the frames do not meet, so that windows change nothing but rounding."""
    cut = windowed(model, context_schedule=schedule, fuse_method=fuse_method, context_stride=2)
    assert relative_error(sample(cut, frames=FRAMES), sample(model, frames=FRAMES)) < 1e-5


@pytest.mark.parametrize("prompts", [FRAMES, 4])
def test_every_frame_keeps_its_own_prompt_and_mask(model, prompts):
    rows = torch.randn(prompts, 8, 768)
    masks = torch.rand(FRAMES, *SIZE)
    positive = [[rows, {"mask": masks, "mask_strength": 1.0}], [torch.randn(1, 8, 768), {}]]
    plain = sample(model, frames=FRAMES, positive=positive)
    for schedule in SCHEDULES:
        assert (
            relative_error(sample(windowed(model, context_schedule=schedule), frames=FRAMES, positive=positive), plain)
            < 1e-5
        )


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm_2", "dpmpp_sde", "lcm", "uni_pc"])
@pytest.mark.parametrize("scheduler", ["normal", "sgm_uniform"])
def test_samplers_and_schedulers(animated, sampler, scheduler):
    cut = windowed(animated, context_schedule="uniform standard")
    result = sample(cut, frames=FRAMES, sampler=sampler, scheduler=scheduler)
    assert torch.equal(sample(cut, frames=FRAMES, sampler=sampler, scheduler=scheduler), result)
    assert relative_error(sample(animated, frames=FRAMES, sampler=sampler, scheduler=scheduler), result) > 1e-4


def test_halves_agree_with_one_pass(animated):
    cut = windowed(animated)
    whole = sample(cut, frames=FRAMES, steps=4)
    half = sample(cut, frames=FRAMES, steps=4, start_step=0, last_step=2, force_full_denoise=False)
    rest = sample(cut, frames=FRAMES, steps=4, start_step=2, last_step=4, disable_noise=True, latent=half)
    assert relative_error(rest, whole) < 1e-5


def test_more_frames_than_the_module_knows(animated):
    """Without overlap each window is a clip of its own."""
    options = {"context_length": 16, "context_overlap": 0, "context_schedule": "batched"}
    noise = torch.randn(50, 4, 8, 12)
    whole = sample(windowed(animated, **options), frames=50, steps=1, latent=noise, disable_noise=True)
    alone = [sample(animated, steps=1, latent=part, disable_noise=True) for part in noise.split(16)]
    assert relative_error(whole, torch.cat(alone)) < 1e-5


def neighbours(latents):
    """Differences between following frames, the last to the first included."""
    return (latents - latents.roll(1, 0)).flatten(1).norm(dim=1)


def test_closed_loop_closes(animated):
    """From one noise for all frames, the seam is as smooth as any other place."""
    latent = torch.zeros(24, 4, 8, 8)
    noise = torch.randn(1, 4, 8, 8).expand(24, 4, 8, 8)
    cut = windowed(animated, context_schedule="uniform looped", context_overlap=4)
    result = comfy_sample(cut, noise, latent)
    differences = neighbours(result)
    assert differences[0] <= 2 * differences[1:].max()
    open_ended = neighbours(comfy_sample(windowed(animated, context_overlap=4), noise, latent))
    assert differences[0] < open_ended[0]


def comfy_sample(model, noise, latent):
    import comfy.sample

    return comfy.sample.sample(
        model,
        noise,
        8,
        4.0,
        "euler",
        "normal",
        conditioning(seed=1),
        conditioning(seed=2),
        latent,
        disable_pbar=True,
        seed=1,
    )


def test_free_noise_shares_noise_between_windows(animated):
    shared = windowed(animated, use_free_noise=True)
    result = sample(shared, frames=FRAMES)
    assert torch.equal(result, sample(shared, frames=FRAMES))
    assert relative_error(result, sample(windowed(animated), frames=FRAMES)) > 1e-3
    assert torch.equal(sample(shared, frames=8), sample(animated, frames=8))


@pytest.mark.parametrize("failure", [comfy.model_management.InterruptProcessingException, torch.cuda.OutOfMemoryError])
def test_a_failure_between_windows_leaves_the_next_run_right(animated, failure):
    control, probe = probed(FRAMES)
    positive = with_control(conditioning(seed=1), control)
    cut = windowed(animated)
    expected = sample(cut, frames=FRAMES, positive=positive)
    count = [0]

    def fail(executor, *args, **kwargs):
        count[0] += 1
        if count[0] == 4:
            raise failure()
        return executor(*args, **kwargs)

    broken = cut.clone()
    broken.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", fail)
    with pytest.raises(failure):
        sample(broken, frames=FRAMES, positive=positive)
    assert control.cond_hint_original.shape[0] == FRAMES
    assert torch.equal(sample(cut, frames=FRAMES, positive=positive), expected)
    count[0] = 0
    with pytest.raises(failure):
        sample(broken, frames=FRAMES, positive=positive)
    sample(animated, frames=FRAMES, positive=positive)  # without windows, where the host keeps hints that fit
    assert probe.hints[:FRAMES] == list(range(FRAMES))


def test_memory_is_planned_for_one_window(animated, monkeypatch):
    import comfy.sampler_helpers

    planned = []
    estimate = comfy.sampler_helpers.estimate_memory
    monkeypatch.setattr(
        comfy.sampler_helpers,
        "estimate_memory",
        lambda model, shape, *a, **k: planned.append(shape[0]) or estimate(model, shape, *a, **k),
    )
    sample(windowed(animated), frames=FRAMES, steps=1)
    sample(windowed(windowed(animated), context_length=9, start_percent=0.5), frames=FRAMES, steps=1)
    sample(windowed(animated, context_schedule="views only"), frames=FRAMES, steps=1)
    assert planned == [8, 9, FRAMES]


def test_steps_are_counted_between_the_sampler_points():
    sigmas = torch.tensor([14.0, 7.0, 3.0, 1.0, 0.0])
    assert [step_of(torch.full((5,), s), sigmas) for s in (14.0, 10.0, 7.0, 5.0, 1.0, 0.5)] == [0, 0, 1, 1, 3, 3]


def test_overlap_must_be_smaller_than_the_window():
    with pytest.raises(ValueError, match="must be smaller"):
        ContextOptions(context_length=8, context_overlap=8)


def frames_seen(model, frames, **options):
    model, seen = watched(model, [])
    sample(model, frames=frames, **options)
    return [window for window, *_ in seen]


@pytest.mark.parametrize("schedule", ["uniform looped", "uniform looped, open"])
def test_one_window_can_be_a_loop(animated, schedule):
    options = {"context_length": 6, "context_schedule": schedule, "loop_one_window": True}
    turned = [window[0] for window in frames_seen(windowed(animated, **options), 6, steps=4)]
    assert len(turned) >= 4 and len(set(turned)) > 2
    assert frames_seen(windowed(animated, **options), 5) == [None, None]
    straight = {**options, "context_schedule": "static standard"}
    assert torch.equal(sample(windowed(animated, **straight), frames=6), sample(animated, frames=6))


def test_windows_change_while_sampling(animated):
    """Each Context Options holds from its start_percent on; of two with the same start the last counts."""
    first = windowed(animated, context_length=7, context_overlap=0, start_percent=0.0)
    both = windowed(first, context_length=6, context_overlap=0, start_percent=0.5, context_schedule="batched")
    early, late = [[*range(0, 7)], [*range(5, 12)]], [[*range(0, 6)], [*range(6, 12)]]
    for model in (both, windowed(both, context_length=6, context_overlap=0, start_percent=0.5)):
        assert frames_seen(model, 12, steps=4) == early * 2 + late * 2
    again = windowed(both, context_length=6, context_overlap=0)
    assert frames_seen(again, 12, steps=4) == late * 4
    alone = windowed(animated, context_length=6, context_overlap=0, start_percent=0.5)
    assert frames_seen(alone, 12, steps=4) == late * 4


def test_windows_may_end_while_sampling(animated):
    model = windowed(windowed(animated), context_schedule="views only", start_percent=0.5)
    seen = frames_seen(model, 11, steps=2)
    assert seen == [[*range(0, 8)], [*range(3, 11)], None]


def views_seen(model, frames, monkeypatch):
    """Lists of frames that the motion module's attention sees together, in the first site of the first call."""
    from animatic_pack.motion_modules.temporal_transformer import TemporalAttention

    lengths = []
    forward = TemporalAttention.forward
    monkeypatch.setattr(
        TemporalAttention, "forward", lambda self, x, n, *rest: lengths.append(n) or forward(self, x, n, *rest)
    )
    sample(model, frames=frames, steps=1)
    return lengths


def test_views_cut_only_what_the_motion_module_sees(animated, monkeypatch):
    only = windowed(animated, context_length=6, context_overlap=2, context_schedule="views only")
    assert frames_seen(only, 40) == [None, None]  # more than the motion module knows
    assert set(views_seen(only, 40, monkeypatch)) == {6}
    inside = windowed(animated, view_length=5, view_overlap=1)
    assert {len(window) for window in frames_seen(inside, FRAMES)} == {8}
    assert set(views_seen(inside, FRAMES, monkeypatch)) == {5}
    assert set(views_seen(inside, 5, monkeypatch)) == {5} and torch.equal(
        sample(inside, frames=5), sample(animated, frames=5)
    )
    assert set(views_seen(windowed(inside), FRAMES, monkeypatch)) == {8}  # the last node of a start counts


def test_views_side_by_side_are_clips_of_their_own(animated):
    """Frames meet nowhere but in the motion module."""
    noise = torch.randn(12, 4, *SIZE)
    only = windowed(animated, context_length=6, context_overlap=0, context_schedule="views only")
    whole = sample(only, frames=12, steps=1, latent=noise, disable_noise=True)
    alone = [sample(animated, steps=1, latent=part, disable_noise=True) for part in noise.split(6)]
    assert relative_error(whole, torch.cat(alone)) < 1e-5


def test_view_overlap_must_be_smaller_than_the_view():
    with pytest.raises(ValueError, match="view_overlap"):
        ContextOptions(view_length=4, view_overlap=4)


def test_free_noise_goes_by_views():
    one = ContextOptions(16, 4, context_schedule="views only", use_free_noise=True)
    assert one.seen_together == (16, 4) == ContextOptions(32, 8, view_length=16, view_overlap=4).seen_together


@pytest.mark.parametrize("schedule", ["standard_static", "looped_uniform"])
def test_hints_follow_the_hosts_own_windows(animated, schedule):
    if not hasattr(stock.IndexListContextWindow, "get_region_index"):
        pytest.skip("the context windows of ComfyUI 0.3.75 itself fail on frame batches")
    control, probe = probed(FRAMES)
    windowed, seen = watched(animated, [probe])
    windowed.model_options["context_handler"] = stock.IndexListContextHandler(
        context_schedule=stock.get_matching_context_schedule(schedule),
        fuse_method=stock.get_matching_fuse_method("pyramid"),
        context_length=8,
        context_overlap=3,
        dim=0,
    )
    both = [with_control(conditioning(seed=seed), control) for seed in (1, 2)]
    sample(windowed, frames=FRAMES, positive=both[0], negative=both[1])
    assert len(seen) >= 6
    for frames, conds, (rows,), _ in seen:
        anchored = len(rows) // len(conds) - len(frames)  # newer hosts put an earlier frame in front
        assert anchored in (0, 1)
        assert rows[anchored : len(rows) // len(conds)] == frames


def test_ip_adapter_finds_its_frames(animated):
    """An attention patch that slices per-frame embeddings as IP-Adapter does, by extra_options["ad_params"]."""
    embeddings = torch.arange(FRAMES).float()[:, None, None].expand(FRAMES, 1, 1)
    seen = []

    def patch(q, k, v, extra_options):
        params = extra_options["ad_params"]
        cond = embeddings
        if params["sub_idxs"] is not None and cond.shape[0] >= params["full_length"]:
            cond = torch.Tensor(cond[params["sub_idxs"]])
        seen.append((cond[:, 0, 0].tolist(), list(extra_options["context_window"].index_list), len(q)))
        return q, k, v

    model = windowed(animated, context_schedule="uniform looped")
    model.set_model_attn2_patch(patch)
    sample(model, frames=FRAMES)
    assert seen and all(rows == frames and batch == 2 * len(rows) for rows, frames, batch in seen)


def test_advanced_controlnet_finds_its_frames(animated):
    """Advanced-ControlNet's classes read the same key in get_control and slice their hints themselves."""

    class Advanced(comfy.controlnet.ControlNet):
        sub_idxs = None

        def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
            params = transformer_options["ad_params"]
            self.sub_idxs, self.full_length = params["sub_idxs"], params["full_length"]
            assert self.cond_hint_original.shape[0] == self.full_length == FRAMES
            self.cond_hint = self.cond_hint_original[self.sub_idxs].repeat(batched_number, 1, 1, 1)
            return super().get_control(x_noisy, t, cond, batched_number, transformer_options)

    probe = Probe()
    control = Advanced(probe, load_device=torch.device("cpu"))
    numbers = torch.arange(FRAMES).float()[:, None, None, None]
    control.set_cond_hint(numbers.expand(-1, 3, SIZE[0] * 8, SIZE[1] * 8), 1.0, (0.0, 1.0))
    model, seen = watched(windowed(animated), [probe])
    both = [with_control(conditioning(seed=s), control) for s in (1, 2)]
    sample(model, frames=FRAMES, positive=both[0], negative=both[1])
    assert all(rows == frames * len(conds) for frames, conds, (rows,), _ in seen)


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_sde", "lcm"])
def test_custom_sampling(animated, sampler):
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Guider_Basic, Noise_RandomNoise, SamplerCustomAdvanced

    cut = windowed(animated, context_schedule="uniform standard")
    guider = Guider_Basic(cut)
    guider.set_conds(conditioning(seed=1))
    sigmas = comfy.samplers.calculate_sigmas(cut.get_model_object("model_sampling"), "sgm_uniform", 2)
    latent = {"samples": torch.zeros(FRAMES, 4, *SIZE)}
    run = getattr(SamplerCustomAdvanced, "execute", None) or SamplerCustomAdvanced().sample
    result = run(Noise_RandomNoise(7), guider, comfy.samplers.sampler_object(sampler), sigmas, latent)
    output = (result.result if hasattr(result, "result") else result)[0]["samples"]
    expected = sample(cut, frames=FRAMES, cfg=1.0, sampler=sampler, scheduler="sgm_uniform")
    assert relative_error(output, expected) < 1e-5


@pytest.mark.parametrize("count", [1, 3, FRAMES])
def test_masks_of_an_inpaint_controlnet_go_with_their_frames(animated, count):
    """Extra channels, one mask for each frame, beside one hint or several."""
    seen = []

    class Inpaint(Probe):
        def forward(self, x, hint, **kwargs):
            seen.append(hint[:, 3, 0, 0].round().int().tolist())
            return super().forward(x, hint)

    probe = Inpaint()
    control = comfy.controlnet.ControlNet(probe, load_device=torch.device("cpu"), concat_mask=True)
    numbers = torch.arange(FRAMES).float()[:, None, None, None].expand(-1, 1, SIZE[0] * 8, SIZE[1] * 8)
    control.set_cond_hint(numbers[:count].expand(-1, 3, -1, -1), 1.0, (0.0, 1.0), extra_concat=[numbers])
    both = [with_control(conditioning(seed=s), control) for s in (1, 2)]
    for target in (animated, windowed(animated)):
        del seen[:]
        watching, calls = watched(target, [probe])
        sample(watching, frames=FRAMES, positive=both[0], negative=both[1])
        for (frames, conds, _, _), rows in zip(calls, seen, strict=True):
            assert rows == (frames or list(range(FRAMES))) * len(conds)


def test_fewer_masks_repeat(model):
    masks = torch.rand(5, *SIZE)
    cond = conditioning(seed=3)[0][0]

    def positive(rows):
        return [[cond, {"mask": rows, "mask_strength": 1.0}], conditioning(seed=1)[0]]

    result = sample(windowed(model), frames=20, positive=positive(masks))
    assert relative_error(result, sample(model, frames=20, positive=positive(masks.repeat(4, 1, 1)))) < 1e-5


def test_ip_adapter_finds_its_frames_in_the_hosts_own_windows(animated):
    if not hasattr(stock.IndexListContextWindow, "get_region_index"):
        pytest.skip("the context windows of ComfyUI 0.3.75 itself fail on frame batches")
    seen = []
    model = animated.clone()
    model.model_options["context_handler"] = stock.IndexListContextHandler(
        context_schedule=stock.get_matching_context_schedule("standard_static"),
        fuse_method=stock.get_matching_fuse_method("pyramid"),
        context_length=8,
        context_overlap=2,
        dim=0,
        causal_window_fix=False,
    )
    model.set_model_attn2_patch(lambda q, k, v, extra: seen.append(extra["ad_params"]) or (q, k, v))
    sample(model, frames=FRAMES)
    assert {tuple(params["sub_idxs"])[0] for params in seen} >= {0, 6}
    assert all(params["full_length"] == FRAMES for params in seen)
