"""ControlNet strength by frame and step, hints that stay or repeat, chains of every kind, and SparseCtrl."""

from functools import partial

from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.controls import sparse_ctrl
from animatic_pack.nodes.host.controls.strength import schedule_strength
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.nodes.timeline.keyframes import parse_numbers
import comfy.controlnet
import comfy.model_detection
import comfy.sd
import host_models
from host_models import conditioning, image_model, motion_file, unet_config
import pytest
from reference import relative_error
from small_models import motion_state_dict, random_like, vae_state_dict
import torch

import nodes

FRAMES, SIZE = 6, (6, 8)
sample = partial(host_models.sample, size=SIZE, steps=2)


@pytest.fixture(scope="module")
def model():
    return image_model()


@pytest.fixture(scope="module")
def animated(model):
    return apply_motion_module(model, load_motion_module(motion_file("v3.safetensors")), MotionSettings("v3"))


def network(seed=1, **options):
    config = {**unet_config("SD1.5"), "hint_channels": 3, **options}
    config.pop("out_channels")
    config.pop("transformer_depth_output")
    control = comfy.cldm.cldm.ControlNet(**config)
    generator = torch.Generator().manual_seed(seed)
    control.load_state_dict({k: random_like(v, k, generator) for k, v in control.state_dict().items()})
    return control


def controlnet(seed=1):
    return comfy.controlnet.ControlNet(network(seed), load_device=torch.device("cpu"))


def union():
    """What a union ControlNet adds is 320 wide in the host, whatever the rest is; here it is as narrow as the rest."""
    parts = network(2)
    generator = torch.Generator().manual_seed(6)
    add = {"operations": torch.nn, "dtype": torch.float32}
    parts.num_control_type = 6
    parts.task_embedding = torch.nn.Parameter(torch.randn(6, 32, generator=generator))
    parts.transformer_layes = torch.nn.Sequential(comfy.cldm.cldm.ResBlockUnionControlnet(32, 8, **add))
    parts.spatial_ch_projs = torch.nn.Linear(32, 32)
    parts.control_add_embedding = lambda kinds, dtype, device: torch.randn(
        128, generator=torch.Generator().manual_seed(kinds[0])
    )
    control = comfy.controlnet.ControlNet(parts, load_device=torch.device("cpu"))
    control.set_extra_arg("control_type", [1])  # as Set Union ControlNet Type does
    return control


def control_lora():
    generator = torch.Generator().manual_seed(4)
    weights = {"lora_controlnet": torch.tensor([])}
    for key, value in network(5).state_dict().items():
        if key.startswith(("input_hint_block.", "zero_convs.", "middle_block_out.")):
            weights[key] = random_like(value, key, generator)
        elif key.endswith("attn1.to_q.weight"):
            weights[key.replace(".weight", ".up")] = torch.randn(value.shape[0], 2, generator=generator)
            weights[key.replace(".weight", ".down")] = torch.randn(2, value.shape[1], generator=generator)
    return comfy.controlnet.ControlLora(weights)


def t2i_adapter():
    """Narrow, and with tensors that stand in its lists several times, as released adapters have."""

    class Adapter(torch.nn.Module):
        unshuffle_amount = 8

        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 32, 8, stride=8)

        def forward(self, x):
            feature = self.conv(x)
            return {"input": [None, None, feature, feature]}

    return comfy.controlnet.T2IAdapter(Adapter(), 3, 8, "nearest-exact", device=torch.device("cpu"))


KINDS = {"ControlNet": controlnet, "T2I-adapter": t2i_adapter, "ControlLoRA": control_lora, "union": union}


def images(count=FRAMES, seed=2):
    """In 256 steps: the host's lanczos rounds to them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, SIZE[0] * 8, SIZE[1] * 8, 3), generator=generator) / 255


def applied(control, image, strength=1.0, conds=None, **options):
    conds = conds or (conditioning(seed=1), conditioning(seed=2))
    node = nodes.ControlNetApplyAdvanced()
    return node.apply_controlnet(*conds, control, image, strength, 0.0, 1.0, **options)


def scheduled(conds, by_frame="1", by_step="1", last_stays=False):
    return schedule_strength(conds, parse_numbers(by_frame, "x"), parse_numbers(by_step, "x"), last_stays)


def run(model, conds, frames=FRAMES, **options):
    return sample(model, frames=frames, positive=conds[0], negative=conds[1], **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_is_that_of_apply_controlnet(animated, model, kind):
    control = KINDS[kind]()
    for target in (animated, set_context_options(model, ContextOptions())):
        expected = run(target, applied(control, images(), 0.5))
        assert relative_error(expected, run(target, applied(control, images(), 0.25))) > 1e-4
        assert relative_error(run(target, scheduled(applied(control, images(), 1.0), "0.5")), expected) < 1e-5
        assert relative_error(run(target, scheduled(applied(control, images(), 2.0), "0.5", "0.5")), expected) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_strength_goes_with_its_frame_in_chains_and_windows(model, kind):
    """Without motion frames do not meet: each is what a run with its own number would give."""
    first, second = KINDS[kind](), controlnet(7)
    follow = set_context_options(model, ContextOptions(4, 1, 1, "uniform looped"))
    hints = images(10)

    def conds(by_frame):
        return applied(second, images(10, 9), 0.7, scheduled(applied(first, hints), by_frame))

    expected = torch.stack([run(follow, conds(f"{i / 10}"), 10)[i] for i in range(10)])
    result = run(follow, conds("0: 0, 10: 1"), 10)
    assert relative_error(result, expected) < 1e-5
    assert (
        relative_error(run(set_context_options(model, ContextOptions(16)), conds("0: 0, 10: 1"), 10), expected) < 1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_one_image_serves_all_frames(animated, kind):
    control = KINDS[kind]()
    for target in (animated, set_context_options(animated, ContextOptions(4, 1))):
        expected = run(target, applied(control, images(1), 0.5))
        assert relative_error(run(target, scheduled(applied(control, images(1)), "0.5")), expected) < 1e-5
        faded = run(target, scheduled(applied(control, images(1)), "0: 0, 5: 1"))
        assert relative_error(faded, expected) > 1e-4


def test_steps_by_their_place_in_the_sampling_range(model):
    """A factor that falls evenly: at each of eight steps it is what the host's own ranges would make of it."""
    follow = set_context_options(model, ContextOptions())
    seen = []
    control = controlnet()

    def merge(self, *args, **kwargs):
        seen.append(float(self.strength.values[0]))
        return type(self).control_merge(self, *args, **kwargs)

    conds = scheduled(applied(control, images()), "1", "0: 1, 1: 0")
    scheduled_control = conds[0][0][1]["control"]
    scheduled_control.control_merge = partial(merge, scheduled_control)
    run(follow, conds, steps=8, scheduler="sgm_uniform")
    sampling = model.get_model_object("model_sampling")
    import comfy.samplers

    sigmas = comfy.samplers.calculate_sigmas(sampling, "sgm_uniform", 8)[:-1]
    expected = [float(sampling.timestep(sigma)) / 999 for sigma in sigmas]
    assert seen == pytest.approx(expected, abs=1e-5)


def test_steps(animated):
    control = controlnet()
    ended = nodes.ControlNetApplyAdvanced().apply_controlnet(
        conditioning(seed=1), conditioning(seed=2), control, images(), 1.0, 0.0, 0.4
    )
    faded = scheduled(applied(control, images()), "1", "0: 1, 0.4: 1, 0.401: 0")
    assert relative_error(run(animated, faded), run(animated, ended)) < 1e-5


def test_fewer_images(animated):
    two = images(2)
    last = torch.cat([two, two[1:].expand(FRAMES - 2, -1, -1, -1)])
    looped = two.repeat(FRAMES // 2, 1, 1, 1)
    cut = set_context_options(animated, ContextOptions(4, 1))
    for target in (animated, cut):
        stays = run(target, scheduled(applied(controlnet(), two, 10.0), last_stays=True))
        assert relative_error(stays, run(target, applied(controlnet(), last, 10.0))) < 1e-5
        repeats = run(target, applied(controlnet(), looped, 10.0))
        assert relative_error(run(target, scheduled(applied(controlnet(), two, 10.0))), repeats) < 1e-5
        assert relative_error(run(target, applied(controlnet(), two, 10.0)), repeats) < 1e-5
        assert relative_error(stays, repeats) > 3e-5  # against 1e-5 above


def test_the_schedule_is_that_of_the_control_applied_last_and_copies_nothing_else(animated):
    first = applied(controlnet(1), images())
    both = scheduled(applied(controlnet(2), images(), conds=first), "0.5")
    expected = applied(controlnet(2), images(), 0.5, conds=first)
    assert relative_error(run(animated, both), run(animated, expected)) < 1e-5
    assert both[0][0][1]["control"] is both[1][0][1]["control"]
    twice = scheduled(scheduled(first, "0.1"), "0.5")
    assert relative_error(run(animated, twice), run(animated, scheduled(first, "0.5"))) < 1e-6


def test_without_a_controlnet_or_a_model_of_ours_it_says_so(model):
    with pytest.raises(ValueError, match="no ControlNet"):
        scheduled((conditioning(seed=1), conditioning(seed=2)))
    with pytest.raises(ValueError, match="Apply Motion Module or Context Options"):
        run(model, scheduled(applied(controlnet(), images())))


# ---------------------------------------------------------------------------------------------- SparseCtrl

CHANNELS = (32, 64, 128, 128)


def sparse_state_dict(rgb, seed=3):
    """A released SparseCtrl's keys at a quarter of a tenth of the width, from diffusers' own class."""
    network = diffusers_network(rgb)
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, value in network.state_dict().items():
        if "motion_modules" not in key:
            weights[key] = random_like(value, key, generator)
    motion = motion_state_dict(CHANNELS, modules=2)
    for key, value in motion.items():
        if key.startswith("down_blocks.") and ".attention_blocks.1." not in key and ".norms.1." not in key:
            weights[key] = value
    return weights


def diffusers_network(rgb):
    from diffusers.models.controlnets.controlnet_sparsectrl import SparseControlNetModel

    return SparseControlNetModel(
        conditioning_channels=4 if rgb else 3,
        block_out_channels=CHANNELS,
        attention_head_dim=8,
        use_simplified_condition_embedding=rgb,
        concat_conditioning_mask=True,
    ).eval()


def diffusers_weights(weights):
    renamed = {}
    for key, value in weights.items():
        for old, new in (
            (".temporal_transformer.", "."),
            (".attention_blocks.0.pos_encoder.", ".pos_embed."),
            (".attention_blocks.0.", ".attn1."),
            (".norms.0.", ".norm1."),
            (".ff_norm.", ".norm3."),
        ):
            key = key.replace(old, new)
        renamed[key] = value
    return renamed


@pytest.fixture(params=[True, False], ids=["rgb", "scribble"])
def sparse_file(request, tmp_path, monkeypatch):
    import folder_paths
    from safetensors.torch import save_file

    config = unet_config("SD1.5")
    monkeypatch.setattr(comfy.model_detection, "unet_config_from_diffusers_unet", lambda *a, **k: {**config})
    weights = sparse_state_dict(request.param)
    save_file({f"module.{key}": value for key, value in weights.items()}, tmp_path / "sparse.safetensors")
    folder_paths.add_model_folder_path("controlnet", str(tmp_path), is_default=True)
    return request.param, weights


@pytest.fixture(scope="module")
def vae():
    return comfy.sd.VAE(sd={key.removeprefix("first_stage_model."): value for key, value in vae_state_dict().items()})


def hooked_norms(network):
    """diffusers takes the motion module's norm over all frames; SparseCtrl was trained with it frame by frame."""
    from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D

    for module in network.modules():
        if isinstance(module, AnimateDiffTransformer3D):
            norm, forward = module.norm, module.norm.forward
            norm.forward = lambda x, f=forward: (
                f(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (x.shape[0], -1)).transpose(1, 2)
            )


def test_sparse_ctrl_agrees_with_diffusers(sparse_file, vae):
    rgb, weights = sparse_file
    reference = diffusers_network(rgb)
    missing = reference.load_state_dict(diffusers_weights(weights), strict=True)
    assert not missing.unexpected_keys and not missing.missing_keys
    hooked_norms(reference)
    control = sparse_ctrl.load_sparse_ctrl("sparse.safetensors", (1, -1))
    keys = images(2)
    control = control.copy().set_cond_hint(keys.movedim(-1, 1), 1.0, (0.0, 1.0), vae=vae)
    from comfy.model_sampling import EPS, ModelSamplingDiscrete

    sampling = type("Sampling", (ModelSamplingDiscrete, EPS), {})()
    control.model_sampling_current = sampling
    x, context = torch.randn(2 * FRAMES, 4, *SIZE), torch.randn(2 * FRAMES, 8, 768)
    sigma = sampling.sigmas[500].expand(2 * FRAMES)
    result = control.get_control(x, sigma, {"c_crossattn": context}, 2, {})

    if rgb:
        prepared = vae.encode(keys) * 0.18215
    else:
        prepared = keys.movedim(-1, 1)
    hint = torch.zeros(2, FRAMES, *prepared.shape[1:])
    mask = torch.zeros(2, FRAMES, 1, *prepared.shape[2:])
    for row in (0, 1):
        hint[row, 1], hint[row, -1] = prepared[0], prepared[1]
        mask[row, 1], mask[row, -1] = 1, 1
    expected = reference(
        torch.randn(2, 4, FRAMES, *SIZE),
        torch.tensor([500, 500]),
        context,
        hint.transpose(1, 2),
        conditioning_mask=mask.transpose(1, 2),
        return_dict=False,
    )
    for ours, theirs in zip(result["output"], expected[0], strict=True):
        assert relative_error(ours, theirs) < 1e-4
    assert relative_error(result["middle"][0], expected[1]) < 1e-4


def test_sparse_ctrl_in_the_graph(sparse_file, animated, vae, short_memory):
    control = sparse_ctrl.load_sparse_ctrl("sparse.safetensors", (0,))
    options = {"vae": vae}
    plain = run(animated, (conditioning(seed=1), conditioning(seed=2)))
    conds = applied(control, images(1), **options)
    result = run(animated, conds)
    assert relative_error(result, plain) > 1e-3 and torch.equal(run(animated, conds), result)
    assert relative_error(run(animated, scheduled(conds, "0")), plain) < 1e-5
    chained = applied(controlnet(), images(), conds=applied(control, images(1, 5), **options))
    assert relative_error(run(animated, chained), result) > 1e-3
    cut = set_context_options(animated, ContextOptions(8, 3))
    with short_memory():
        one_by_one = run(cut, conds, 19)
    assert relative_error(run(cut, conds, 19), one_by_one) < 1e-5
    assert torch.equal(run(cut, conds, FRAMES), result)
    if sparse_file[0]:
        with pytest.raises(ValueError, match="needs the checkpoint's VAE"):
            run(animated, applied(control, images(1)))


def test_each_window_has_its_own_key_images(sparse_file, animated, vae):
    control = sparse_ctrl.load_sparse_ctrl("sparse.safetensors", (1, 9, 14))
    seen = []

    class Watched(sparse_ctrl.SparseNetwork):
        def __call__(self, x, hint, num_frames, **inputs):
            seen.append(hint[:num_frames, -1, 0, 0].nonzero().flatten().tolist())
            assert torch.equal(hint[:num_frames], hint[-num_frames:])
            return super().__call__(x, hint=hint, num_frames=num_frames, **inputs)

    control.control_model = Watched(control.control_model.network, control.control_model.motion)
    run(set_context_options(animated, ContextOptions(4, 0)), applied(control, images(3), vae=vae), 16, steps=1)
    assert seen == [[1], [3], [1], [2]]  # frames 0-3, 4-7 (nearest: 9), 8-11, 12-15


def test_key_frames_in_windows():
    places, positions = sparse_ctrl.key_places, sparse_ctrl.key_positions
    assert positions((), 3, 16) == [0, 8, 15] and positions((), 1, 16) == [0] and positions((0, -1), 2, 16) == [0, 15]
    assert places(list(range(8)), [0, 5]) == [(0, 0), (5, 1)]
    assert places([12, 13, 14, 15, 0, 1], [0, 14]) == [(2, 1), (4, 0)]
    assert places(list(range(8, 16)), [0, 40]) == [(0, 0)]
    assert places(list(range(24, 32)), [0, 40]) == [(7, 1)]
    with pytest.raises(ValueError, match="2 images for 1 key_frames"):
        positions((0,), 2, 16)
    with pytest.raises(ValueError, match="outside the clip of 16"):
        positions((16,), 1, 16)
    for key_frames, count in (((), 17), ((3, 3), 2)):
        with pytest.raises(ValueError, match="a frame of its own"):
            positions(key_frames, count, 16)


@pytest.mark.parametrize("content", ["v3", "control"])
def test_other_files_are_named(content, tmp_path):
    import folder_paths
    from safetensors.torch import save_file

    weights = motion_state_dict(CHANNELS, 2) if content == "v3" else {"zero_convs.0.0.weight": torch.zeros(1)}
    save_file(weights, tmp_path / "other.safetensors")
    folder_paths.add_model_folder_path("controlnet", str(tmp_path), is_default=True)
    with pytest.raises(ValueError, match="other.safetensors cannot be used as a SparseCtrl"):
        sparse_ctrl.load_sparse_ctrl("other.safetensors", ())


def test_lengths_that_do_not_fit_are_said_once(animated, caplog):
    rows = [[torch.randn(4, 8, 768), {}]]
    run(animated, applied(controlnet(), images(2), conds=(rows, conditioning(seed=2))))
    said = [record.message for record in caplog.records if "frames" in record.message]
    assert (
        len(said) == 2 and "prompts are for 4 frames, the clip has 6" in said[0] and "2 images for 6 frames" in said[1]
    )
    caplog.clear()
    rows = [[torch.randn(FRAMES, 8, 768), {}]]
    run(animated, applied(controlnet(), images(8), conds=(rows, conditioning(seed=2))))
    run(animated, scheduled(applied(controlnet(), images(2)), last_stays=True))
    assert not caplog.records
