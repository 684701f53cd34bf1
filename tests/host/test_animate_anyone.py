"""Animate Anyone on the real host: what every self-attention sees, and which pose every frame follows."""

from contextlib import nullcontext
import copy
import gc
import math
import weakref

from animate_models import animate, passes_of, pictures, pose_guider, reference, reference_net, vae
from animatic_pack.nodes.host.core.unet import self_attentions
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.nodes.host.reference import animate as animating
from animatic_pack.nodes.host.reference.animate import conditioning_of
from animatic_pack.nodes.host.reference.pictures import OWN_SIZE, STRETCHED
import comfy.model_management
from host_models import image_model, motion_file, sample
import pytest
from reference import relative_error
import torch

FRAMES, SIZE = 3, (8, 16)
RUN = {"frames": FRAMES, "steps": 2, "size": SIZE}


@pytest.fixture(scope="module")
def model():
    return image_model()


@pytest.fixture(scope="module")
def net():
    return reference_net()


@pytest.fixture(scope="module")
def encoder():
    return vae()


@pytest.fixture(scope="module")
def seen(net, encoder):
    return reference(net, encoder, pictures())


@pytest.fixture(scope="module")
def motion():
    return load_motion_module(motion_file("v3.safetensors"))


class Watch:
    """What goes into each self-attention of a MODEL's UNet and what comes out, call by call, and the conds."""

    def __init__(self, model):
        self.calls = []
        unet = model.model.diffusion_model
        self._handles = [unet.register_forward_pre_hook(self._begin, with_kwargs=True)]
        self._handles += [
            attention.register_forward_hook(self._keep(name)) for name, attention in self_attentions(unet).items()
        ]

    def _begin(self, module, args, kwargs):
        self.calls.append((kwargs["transformer_options"]["cond_or_uncond"], {}))

    def _keep(self, name):
        def hook(module, args, out):
            self.calls[-1][1][name] = args[0].clone(), out.clone()

        return hook

    def __enter__(self):
        return self.calls

    def __exit__(self, *error):
        for handle in self._handles:
            handle.remove()


def written_tokens(seen, height, width):
    """norm1 of each block of the ReferenceNet in float64: latent's mean, time step 0, the picture's own embedding."""
    unet = copy.deepcopy(seen.net.patcher.model.diffusion_model).double()
    unet.dtype = torch.float64
    tokens = {}
    handles = [
        attention.register_forward_hook(
            lambda module, args, out, name=name: tokens.setdefault(name, []).append(args[0])
        )
        for name, attention in self_attentions(unet).items()
    ]
    for image, embedding in zip(seen.images, seen.embeddings, strict=True):
        latent = seen.vae.encode(image[None, : height * 8, : width * 8]).double() * 0.18215
        unet(latent, torch.zeros(1), context=embedding[None, None].double(), transformer_options={})
    for handle in handles:
        handle.remove()
    return {name: torch.cat(rows, dim=1) for name, rows in tokens.items()}


def attended(attention, queries, keys):
    """softmax(q k^T / sqrt(c)) v of one self-attention in float64; queries (R, P, C), keys (R, any, C)."""
    layers = {name: layer.double() for name, layer in attention.state_dict().items()}
    q, k, v = queries @ layers["to_q.weight"].T, keys @ layers["to_k.weight"].T, keys @ layers["to_v.weight"].T
    width = q.shape[-1] // attention.heads
    mixed = []
    for head in range(attention.heads):
        one = slice(head * width, (head + 1) * width)
        scores = q[..., one] @ k[..., one].transpose(1, 2) / math.sqrt(width)
        mixed.append(torch.softmax(scores, dim=-1) @ v[..., one])
    return torch.cat(mixed, dim=-1) @ layers["to_out.0.weight"].T + layers["to_out.0.bias"]


def paper_attention(attention, own, tokens, height, width):
    """The paper's words: beside each other along the width, all to all, the first half kept."""
    level = math.isqrt(height * width // own.shape[1])
    rows, columns = height // level, width // level
    maps = [t.unflatten(1, (rows, columns)) for t in (own, tokens.expand(own.shape[0], -1, -1))]
    joined = torch.cat(maps, dim=2).flatten(1, 2)
    result = attended(attention, joined, joined).unflatten(1, (rows, 2 * columns))
    return result[:, :, :columns].flatten(1, 2)


@pytest.mark.parametrize("batched", [True, False], ids=["conds together", "conds one by one"])
def test_every_block_agrees_with_the_formula_and_with_the_paper(model, seen, batched, short_memory):
    tokens = written_tokens(seen, *SIZE)
    positive, negative = conditioning_of(seen)
    with Watch(model) as calls, nullcontext() if batched else short_memory():
        sample(animate(model, seen), **RUN, positive=positive, negative=negative)
    assert [sorted(conds) for conds, _ in calls] == ([[0, 1]] * 2 if batched else [[1], [0]] * 2)
    attentions = self_attentions(model.model.diffusion_model)
    assert len(attentions) == len(tokens) == 16
    for conds, blocks in calls:
        for name, (own, out) in blocks.items():
            for cond, x, result in zip(conds, own.chunk(len(conds)), out.chunk(len(conds)), strict=True):
                x, beside = x.double(), tokens[name].expand(FRAMES, -1, -1)
                keys = torch.cat([x, beside], dim=1) if cond == 0 else x
                assert relative_error(result, attended(attentions[name], x, keys)) < 1e-5, (name, cond)
                if cond == 0:
                    paper = paper_attention(attentions[name], x, beside, *SIZE)
                    assert relative_error(result, paper) < 1e-5, name
                    assert relative_error(result, attended(attentions[name], x, x)) > 1e-3, "the reference counts"


def first_step(model, **options):
    """What a MODEL gives for positive and negative in its first step, which begins alike whatever acts in it."""
    model, steps = model.clone(), []

    def keep(args):
        steps.append(args["conds_out"])
        return args["conds_out"]

    model.set_model_sampler_pre_cfg_function(keep)
    sample(model, **{**RUN, "steps": 1, **options})
    return steps[0]


@pytest.mark.parametrize("moving", [False, True], ids=["stills", "moving"])
def test_uncond_is_what_it_is_without_a_reference(model, seen, motion, moving, short_memory):
    plain = apply_motion_module(model, motion, MotionSettings("v3")) if moving else model
    before, after = first_step(plain), first_step(animate(plain, seen))
    assert relative_error(after[0], before[0]) > 1e-3
    assert relative_error(after[1], before[1]) < 2e-6, "attention ran on fewer rows at once"
    with short_memory():
        before, after = first_step(plain), first_step(animate(plain, seen))
    assert torch.equal(after[1], before[1]) and relative_error(after[0], before[0]) > 1e-3


def test_conds_together_and_one_by_one_are_the_same(model, seen, motion, short_memory):
    moving = animate(apply_motion_module(model, motion, MotionSettings("v3")), seen, poses=None)
    together = sample(moving, **RUN)
    with short_memory():
        assert relative_error(sample(moving, **RUN), together) < 1e-5


def test_what_does_nothing_leaves_every_bit(model, seen):
    plain = sample(model, **RUN)
    nothing = pose_guider()
    torch.nn.init.zeros_(nothing.patcher.model.conv_out.weight)
    torch.nn.init.zeros_(nothing.patcher.model.conv_out.bias)
    poses = pictures(FRAMES, seed=8)
    with_poses = {"guider": nothing, "poses": poses}
    blocks = {"down_blocks": 0.0, "mid_block": 0.0, "up_blocks": 0.0}
    for same in (
        animate(model, seen, strength=0.0),
        animate(model, seen, strength=0.0, **with_poses),
        animate(model, seen, strength=0.0, guider=pose_guider(), poses=poses, pose_strength=0.0),
        animate(model, seen, blocks=blocks),
    ):
        assert torch.equal(sample(same, **RUN), plain)
    alone = sample(animate(model, seen), **RUN)
    assert torch.equal(sample(animate(model, seen, **with_poses), **RUN), alone) and not torch.equal(alone, plain)
    assert relative_error(sample(animate(model, seen, guider=pose_guider(), poses=poses), **RUN), alone) > 1e-3


def test_strength_mixes_block_by_block(model, seen):
    """Of one attention alone, half the strength is half of its change."""
    (name, _), *_ = self_attentions(model.model.diffusion_model).items()
    others = {other: 0.0 for other in self_attentions(model.model.diffusion_model) if other != name}
    results = {}
    for strength in (0.0, 0.5, 1.0, 2.0):
        with Watch(model) as calls:
            sample(animate(model, seen, strength=strength, blocks=others), **{**RUN, "steps": 1})
        results[strength] = calls[0][1][name][1]
    for strength in (0.5, 2.0):
        mixed = torch.lerp(results[0.0], results[1.0], strength)
        assert relative_error(results[strength], mixed) < 1e-5 and relative_error(mixed, results[1.0]) > 1e-3


def test_blocks_are_switched_by_name(model, seen):
    """The open release's "midup" fusion: no reference on the way down."""
    with Watch(model) as calls:
        sample(animate(model, seen, blocks={"down_blocks": 0.0}), **{**RUN, "steps": 1})
    with Watch(model) as plain:
        sample(model, **{**RUN, "steps": 1})
    for name in calls[0][1]:
        same = torch.equal(calls[0][1][name][1], plain[0][1][name][1])
        assert same == name.startswith("down_blocks"), name
    with pytest.raises(ValueError, match="no block up_block; it has down_blocks.0.attentions.0"):
        animate(model, seen, blocks={"up_block": 0.0})


def test_the_reference_acts_in_its_part_of_the_range(model, seen):
    steps = []
    with Watch(model) as calls:
        sample(animate(model, seen, end_percent=0.5), **{**RUN, "steps": 4})
    with Watch(model) as plain:
        sample(model, **{**RUN, "steps": 4})
    attention = self_attentions(model.model.diffusion_model)["mid_block.attentions.0.transformer_blocks.0"]
    for _, blocks in calls:
        x, out = blocks["mid_block.attentions.0.transformer_blocks.0"]
        steps.append(relative_error(out, attended(attention, x.double(), x.double())) < 1e-5)
    assert steps == [False, False, True, True] and len(plain) == 4


@pytest.mark.parametrize("size", [(8, 16), (5, 7), (9, 4)], ids=str)
@pytest.mark.parametrize("shown", [OWN_SIZE, STRETCHED])
def test_reference_of_another_size_than_the_clip(model, net, encoder, shown, size):
    images = pictures(1, 40, 88)
    other = reference(net, encoder, images, size=shown)
    with Watch(model) as calls:
        sample(animate(model, other), **{**RUN, "size": size, "steps": 1})
    wanted = (5, 11) if shown == OWN_SIZE else size
    tokens = other.tokens(*size)
    assert tokens["down_blocks.0.attentions.0.transformer_blocks.0"].shape == (1, wanted[0] * wanted[1], 32)
    for name, attention in self_attentions(model.model.diffusion_model).items():
        x, out = (t[-FRAMES:].double() for t in calls[0][1][name])
        if calls[0][0][-1] != 0:
            x, out = (t[:FRAMES].double() for t in calls[0][1][name])
        keys = torch.cat([x, tokens[name].double().expand(FRAMES, -1, -1)], dim=1)
        assert relative_error(out, attended(attention, x, keys)) < 1e-5, name


def test_several_pictures_are_seen_at_once(model, net, encoder):
    several = reference(net, encoder, pictures(3))
    tokens = several.tokens(*SIZE)
    for name, rows in written_tokens(several, *SIZE).items():
        assert relative_error(tokens[name], rows) < 1e-5
    positive, negative = conditioning_of(several)
    assert positive[0][0].shape == (1, 3, 768) and not negative[0][0].any()
    one = reference(net, encoder, several.images[:1])
    again = reference(net, encoder, several.images[:1].repeat(2, 1, 1, 1))
    assert relative_error(sample(animate(model, again), **RUN), sample(animate(model, one), **RUN)) > 1e-3


def test_two_references_applied_one_after_the_other(model, net, encoder, short_memory):
    """Tokens of both, as of one batch; and the uncond still sees neither."""
    images = pictures(2)
    first, second = (reference(net, encoder, images[i : i + 1]) for i in (0, 1))
    both = sample(animate(model, reference(net, encoder, images)), **RUN)
    chained = animate(animate(model, first), second)
    assert relative_error(sample(chained, **RUN), both) < 1e-5
    assert relative_error(first_step(chained)[1], first_step(model)[1]) < 2e-6


def test_the_reference_net_runs_once_for_a_picture_and_size(model, encoder):
    net = reference_net(seed=10)
    passes = passes_of(net)
    first, second = pictures(1), pictures(1, seed=4)

    def run(images, size=SIZE, seed=7):
        return sample(animate(model, reference(net, encoder, images)), **{**RUN, "size": size, "seed": seed})

    shown = run(first)
    assert passes == [1]
    assert not torch.equal(run(first.clone(), seed=8), shown) and passes == [1], "only the seed changed"
    assert not torch.equal(run(second), shown) and passes == [1, 1]
    assert torch.equal(run(first), shown) and passes == [1, 1], "another prompt came between"
    run(first, (6, 8))
    assert passes == [1, 1, 1]
    other = reference_net(seed=11)
    assert not torch.equal(sample(animate(model, reference(other, encoder, first)), **RUN), shown)


def test_the_reference_net_runs_on_the_memory_manager_before_the_model_does(model, encoder):
    net, events = reference_net(seed=12), []
    loaded = comfy.model_management.current_loaded_models
    comfy.model_management.unload_all_models()

    def watch(name):
        return lambda module, args: events.append((name, [entry.model.model for entry in loaded]))

    handles = [
        unet.register_forward_pre_hook(watch(name))
        for name, unet in (("net", net.patcher.model.diffusion_model), ("model", model.model.diffusion_model))
    ]
    sample(animate(model, reference(net, encoder, pictures(2))), **RUN)
    for handle in handles:
        handle.remove()
    assert [name for name, _ in events] == ["net", "net", "model", "model"]
    for name, models in events:
        assert net.patcher.model in models if name == "net" else model.model in models
        assert name == "model" or model.model not in models, "not both at once, unless there is room"


def test_nothing_of_a_run_is_held_after_it(model, seen):
    runs = []

    class Watched(animating.AnimationRun):
        def __init__(self, *args):
            super().__init__(*args)
            runs.append(weakref.ref(self))

    poses = {"guider": pose_guider(), "poses": pictures(FRAMES)}
    animated = animate(model, seen, **poses)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(animating, "AnimationRun", Watched)
        sample(animated, **RUN)
        gc.collect()
        assert len(runs) == 1 and runs[0]() is None
    assert not any("forward" in module.__dict__ for module in model.model.diffusion_model.modules())
    beside = [patcher.model for models in animated.additional_models.values() for patcher in models]
    assert beside == [poses["guider"].patcher.model], "the ReferenceNet may go as soon as it has run"
    comfy.model_management.unload_all_models()
    assert not comfy.model_management.current_loaded_models
