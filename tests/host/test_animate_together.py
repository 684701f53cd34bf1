"""Animate Anyone beside everything else that acts on a MODEL, in other precisions, compiled, and when it cannot act."""

from contextlib import nullcontext

from animate_models import animate, pictures, pose_guider, reference, reference_net, vae
from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.core.attached import attached_to
from animatic_pack.nodes.host.core.unet import self_attentions
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.nodes.host.reference.animate import SAMPLINGS, conditioning_of, sampled_as
from animatic_pack.nodes.host.reference.load import LoadedReferenceNet
from animatic_pack.nodes.host.reference.picture_only import PictureReference, apply_reference_picture
from comfy.ldm.modules.attention import attention_pytorch
import comfy.model_sampling
import comfy.samplers
from control_models import applied, controlnet, images
from host_models import conditioning, image_model, motion_file, sample
from one_level import compiled, one_level_model
import pytest
from reference import FP16_BOUND, errors_by_frame, relative_error
import torch

V3 = MotionSettings("v3")
RUN = {"frames": 6, "steps": 2, "size": (6, 8)}


@pytest.fixture(scope="module")
def model():
    return image_model()


@pytest.fixture(scope="module")
def encoder():
    return vae()


@pytest.fixture(scope="module")
def seen(encoder):
    return reference(reference_net(), encoder, pictures())


@pytest.fixture(scope="module")
def motion():
    return load_motion_module(motion_file("v3.safetensors"))


def test_motion_may_be_applied_before_or_after(model, seen, motion):
    before = animate(apply_motion_module(model, motion, V3), seen)
    after = apply_motion_module(animate(model, seen), motion, V3)
    result = sample(before, **RUN)
    assert torch.equal(sample(after, **RUN), result)
    assert relative_error(result, sample(animate(model, seen), **RUN)) > 1e-3
    assert relative_error(result, sample(apply_motion_module(model, motion, V3), **RUN)) > 1e-3


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_schedule_may_be_set_first_or_last(model, seen, motion, sampling):
    first = animate(apply_motion_module(sampled_as(model, sampling), motion, V3), seen)
    last = sampled_as(apply_motion_module(animate(model, seen), motion, V3), sampling)
    options = {**RUN, "sampler": "ddim", "scheduler": "simple", "steps": 3}
    result = sample(last, **options)
    assert torch.equal(sample(first, **options), result) and result.isfinite().all()
    predicts_v = isinstance(last.get_model_object("model_sampling"), comfy.model_sampling.V_PREDICTION)
    assert predicts_v == sampling.startswith("v prediction")


def test_steps_begin_at_noise_alone(model):
    """Trailing steps, as the open release samples: the first is the schedule's last."""
    sampling = sampled_as(model, next(iter(SAMPLINGS))).get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", 30)
    steps = sampling.timestep(sigmas[:-1])
    assert len(steps) == 30 and steps[0] == 999 and (steps - (1000 - torch.arange(30) * 1000 / 30)).abs().max() < 2


@pytest.mark.parametrize("batched", [True, False], ids=["conds together", "conds one by one"])
def test_windows_share_one_reference(model, seen, motion, batched, short_memory):
    """Without overlap each window is a clip of its own, with its own poses."""
    poses, noise = pictures(13, seed=6), torch.randn(13, 4, 6, 8)
    moving, options = apply_motion_module(model, motion, V3), {"steps": 1, "disable_noise": True}
    guider = pose_guider()
    cut = set_context_options(
        animate(moving, seen, guider, poses=poses), ContextOptions(5, 0, context_schedule="batched")
    )
    with nullcontext() if batched else short_memory():
        whole = sample(cut, 13, latent=noise, **options)
    alone = [
        sample(animate(moving, seen, guider, poses=some), latent=part, **options)
        for part, some in zip(noise.split(5), poses.split(5), strict=True)
    ]
    assert relative_error(whole, torch.cat(alone)) < 1e-5


def test_with_a_controlnet_a_lora_and_attention_patches(model, seen, motion):
    moving = apply_motion_module(model, motion, V3)
    conds = applied(controlnet(), images(), conds=(conditioning(seed=1), conditioning(seed=2)))
    options = {**RUN, "positive": conds[0], "negative": conds[1]}
    result = sample(animate(moving, seen), **options)
    assert relative_error(result, sample(moving, **options)) > 1e-3
    assert relative_error(result, sample(animate(moving, seen), **RUN)) > 1e-3

    def with_lora(target):
        target = target.clone()
        key = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_k.weight"
        up, down = torch.randn(128, 4), torch.randn(4, 128) * 0.1
        target.add_patches({key: ("diff", (up @ down,))})
        return target

    torch.manual_seed(3)
    first = sample(with_lora(animate(moving, seen)), **RUN)
    torch.manual_seed(3)
    assert torch.equal(first, sample(animate(with_lora(moving), seen), **RUN))
    assert relative_error(first, sample(animate(moving, seen), **RUN)) > 1e-4

    lengths = set()
    patched = animate(moving, seen)
    patched.set_model_attn1_patch(lambda q, k, v, extra: (q, torch.cat([k, k], 1), torch.cat([v, v], 1)))
    patched.set_model_attn2_patch(lambda q, k, v, extra: lengths.add(len(extra["cond_or_uncond"])) or (q, k, v))
    doubled = sample(patched, **RUN)  # own tokens twice count twice against the reference
    assert relative_error(doubled, sample(animate(moving, seen), **RUN)) > 1e-4 and lengths == {2}
    plain = moving.clone()
    plain.set_model_attn1_patch(lambda q, k, v, extra: (q, torch.cat([k, k], 1), torch.cat([v, v], 1)))
    assert relative_error(sample(plain, **RUN), sample(moving, **RUN)) < 1e-5


def test_attention_is_told_which_conds_its_rows_are(model, seen):
    """Who overrides attention, as a pack for masks does, can count on the rows that it gets."""
    told = []

    def watch(func, q, k, v, *args, transformer_options=None, **kwargs):
        told.append((tuple(transformer_options["cond_or_uncond"]), q.shape[0], q.shape[1] < k.shape[1]))
        return func(q, k, v, *args, transformer_options=transformer_options, **kwargs)

    overridden = animate(model, seen)
    overridden.model_options["transformer_options"]["optimized_attention_override"] = watch
    sample(overridden, **{**RUN, "steps": 1})
    own = [entry for entry in told if len(entry[0]) == 1]
    assert {(conds, rows) for conds, rows, _ in own} == {((0,), 6), ((1,), 6)} and len(own) == 2 * 16
    assert all(longer == (conds == (0,)) for conds, _, longer in own)


@pytest.mark.parametrize("picture_first", [True, False])
def test_beside_a_reference_image_each_cond_sees_what_is_its_own(model, seen, encoder, picture_first, short_memory):
    picture = PictureReference(pictures(seed=8), encoder, fidelity=0.0)
    if picture_first:
        both = animate(apply_reference_picture(model, picture), seen)
    else:
        both = apply_reference_picture(animate(model, seen), picture)
    options = {**RUN, "frames": 2, "steps": 1, "positive": [*conditioning(seed=1), *conditioning(seed=3)]}
    together = sample(both, **options)
    with short_memory():
        one_by_one = sample(both, **options)
    assert relative_error(together, one_by_one) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(encoder, motion, dtype):
    def run(precision):
        model = apply_motion_module(image_model(dtype=precision), motion, V3)
        other = reference(reference_net(dtype=precision), encoder, pictures())
        positive, negative = conditioning_of(other)
        posed = animate(model, other, pose_guider(), poses=pictures(6))
        return sample(posed, **RUN, positive=positive, negative=negative)

    bound = FP16_BOUND if dtype == torch.float16 else 8 * FP16_BOUND
    assert max(errors_by_frame(run(dtype), run(torch.float32))) < bound


def test_a_reference_in_another_precision_than_the_model(encoder, model):
    wide = sample(animate(model, reference(reference_net(), encoder, pictures())), **RUN)
    half = sample(animate(model, reference(reference_net(dtype=torch.float16), encoder, pictures())), **RUN)
    assert max(errors_by_frame(half, wide)) < FP16_BOUND and not torch.equal(half, wide)


def test_it_fails_loudly_where_another_node_replaced_every_self_attention(model, seen):
    replaced = animate(model, seen)
    for kind, count in (("input", 12), ("middle", 1), ("output", 12)):
        for number in range(count):
            replaced.set_model_attn1_replace(lambda q, k, v, extra: v, kind, number)
    with pytest.raises(RuntimeError, match="Animate Anyone was applied but never ran"):
        sample(replaced, **RUN)


def test_reference_nets_of_another_kind_are_refused(model, seen):
    sdxl = image_model("SDXL")
    with pytest.raises(ValueError, match=r"reference_unet.pth does not fit this model: it has 16 self-attentions"):
        animate(sdxl, seen)


def test_conds_for_parts_of_the_picture(model, seen):
    """They run at their own size, and so do their poses."""
    part = [[conditioning(seed=3)[0][0], {"area": (4, 4, 2, 2), "strength": 1.0}]]
    options = {**RUN, "positive": [*conditioning(seed=1), *part]}
    posed = animate(model, seen, pose_guider(), poses=pictures(6))
    result = sample(posed, **options)
    assert result.isfinite().all()
    assert relative_error(result, sample(animate(model, seen), **options)) > 1e-3
    assert relative_error(result, sample(posed, **RUN)) > 1e-3


def test_one_graph_serves_every_step_and_reference(encoder, monkeypatch):
    """Under torch.compile, as the stock node applies it, before or after."""
    torch._dynamo.reset()
    model, other = one_level_model(monkeypatch), one_level_model(monkeypatch, seed=2)
    pictures_own = {"optimized_attention_override": lambda func, *args, **kwargs: attention_pytorch(*args, **kwargs)}
    model.model_options["transformer_options"].update(pictures_own)
    net, graphs = LoadedReferenceNet("small", other), []
    run = {"steps": 3, "size": (8, 8)}

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def posed(target, seed=3):
        shown = reference(net, encoder, pictures(1, 64, 64, seed))
        return animate(target, shown, pose_guider(), poses=pictures(6, 64, 64))

    expected = sample(posed(model), **run)
    for target in (compiled(posed(model), backend), posed(compiled(model, backend))):
        assert relative_error(sample(target, **run), expected) < 1e-5
    assert relative_error(sample(posed(compiled(model, backend), seed=4), **run), expected) > 1e-3
    assert len(graphs) == 1
    torch._dynamo.reset()


def test_a_pose_guider_is_copied_for_another_device(model, seen):
    """As the host does it for several graphics cards."""
    guider = pose_guider()
    if not hasattr(guider.patcher, "deepclone_multigpu"):
        pytest.skip("this ComfyUI uses one graphics card")
    copied = guider.patcher.deepclone_multigpu(torch.device("cpu", 1))
    assert copied.load_device == torch.device("cpu", 1) and copied.model is not guider.patcher.model
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(copied.model(image), guider.patcher.model(image))


def test_networks_are_where_their_model_is(seen):
    there = animate(image_model(device=torch.device("meta")), seen, pose_guider(), poses=pictures(2))
    ((_, (guider,)),) = attached_to(there)
    assert guider.load_device.type == "meta"


def test_nothing_stays_after_a_failure(model, seen):
    class Stop(Exception):
        pass

    expected = sample(animate(model, seen), **RUN)
    broken = animate(model, seen)

    def fail(q, k, v, extra):
        raise Stop

    broken.set_model_attn2_patch(fail)
    with pytest.raises(Stop):
        sample(broken, **RUN)
    unet = model.model.diffusion_model
    assert not any("forward" in attention.__dict__ for attention in self_attentions(unet).values())
    assert torch.equal(sample(animate(model, seen), **RUN), expected)
