"""SparseCtrl on the real host, against diffusers, in windows and beside other ControlNets."""

from animatic_pack.motion_modules.temporal_transformer import PositionalEncoding
from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.controls import sparse_ctrl
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
import comfy.controlnet
import comfy.model_detection
import comfy.sd
from control_models import (
    FRAMES,
    SIZE,
    applied,
    controlnet,
    images,
    run,
    scheduled,
)
from host_models import conditioning, image_model, motion_file, unet_config
import pytest
from reference import relative_error
from small_models import motion_state_dict, random_like, vae_state_dict
import torch

CHANNELS = (32, 64, 128, 128)


@pytest.fixture(scope="module")
def model():
    return image_model()


@pytest.fixture(scope="module")
def animated(model):
    return apply_motion_module(model, load_motion_module(motion_file("v3.safetensors")), MotionSettings("v3"))


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
    alone = run(animated, conds, 8)
    assert relative_error(one_by_one[:5], alone[:5]) < 1e-5, "frames of the first window only, from the same noise"


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
    with pytest.raises(ValueError, match=r"images \(2\) and of key_frames \(1\) differ"):
        positions((0,), 2, 16)
    with pytest.raises(ValueError, match="outside the clip of 16"):
        positions((16,), 1, 16)
    with pytest.raises(ValueError, match="got 17 images for 16 frames; each needs a frame of its own"):
        positions((), 17, 16)
    for key_frames, twice in (((3, 3), 3), ((15, -1), 15)):
        with pytest.raises(ValueError, match=f"key_frames names frame {twice} twice"):
            positions(key_frames, 2, 16)


@pytest.mark.parametrize("part", ["controlnet_cond_embedding.bias", "attn2.to_k.weight"])
def test_a_sparse_ctrl_without_parts_is_named(part, tmp_path):
    import folder_paths
    from safetensors.torch import save_file

    weights = {key: value for key, value in sparse_state_dict(rgb=True).items() if not key.endswith(part)}
    save_file(weights, tmp_path / "part.safetensors")
    folder_paths.add_model_folder_path("controlnet", str(tmp_path), is_default=True)
    with pytest.raises(ValueError, match="part.safetensors is a SparseCtrl of which parts are missing"):
        sparse_ctrl.load_sparse_ctrl("part.safetensors", ())


@pytest.mark.parametrize("content", ["v3", "control"])
def test_other_files_are_named(content, tmp_path):
    import folder_paths
    from safetensors.torch import save_file

    weights = motion_state_dict(CHANNELS, 2) if content == "v3" else {"zero_convs.0.0.weight": torch.zeros(1)}
    save_file(weights, tmp_path / "other.safetensors")
    folder_paths.add_model_folder_path("controlnet", str(tmp_path), is_default=True)
    with pytest.raises(ValueError, match="other.safetensors cannot be used as a SparseCtrl"):
        sparse_ctrl.load_sparse_ctrl("other.safetensors", ())


def test_a_sparse_ctrl_is_copied_with_networks_of_its_own(animated, sparse_file, vae):
    control = sparse_ctrl.load_sparse_ctrl("sparse.safetensors", (0, -1))
    if not hasattr(control, "multigpu_clones"):
        pytest.skip("this ComfyUI uses one graphics card")
    clone = control.deepclone_multigpu(torch.device("cpu", 1), autoregister=True)
    assert control.multigpu_clones == {torch.device("cpu", 1): clone}
    assert {patcher.load_device for patcher in clone.get_models()} == {torch.device("cpu", 1)}
    networks = [patcher.model for patcher in (*control.get_models(), *clone.get_models())]
    assert len({id(network) for network in networks}) == 4
    control.multigpu_clones = {}
    assert torch.equal(*(run(animated, applied(c, images(2), vae=vae)) for c in (control, clone)))


def test_position_tables_are_made_once_in_a_run_and_nothing_stays_after_a_failure(
    animated, sparse_file, vae, monkeypatch
):
    def given(encoder, tokens, table=None):
        assert table is not None, "the network's own are wherever the host's memory manager left them"
        return forward(encoder, tokens, table)

    forward = PositionalEncoding.forward
    monkeypatch.setattr(PositionalEncoding, "forward", given)
    control = sparse_ctrl.load_sparse_ctrl("sparse.safetensors", (0, -1))
    conds = applied(control, images(2), vae=vae)
    expected = run(animated, conds)
    copy = conds[0][0][1]["control"]

    def fail(*_, **__):
        raise RuntimeError("Cancel")

    with monkeypatch.context() as failing:
        failing.setattr(type(copy.control_model), "__call__", fail)
        failing.setattr(copy, "cleanup", lambda: None)  # which the host leaves out after a Cancel
        with pytest.raises(RuntimeError, match="Cancel"):
            run(animated, conds)
    assert copy.prepared.get(SIZE) is None, "the key images"
    assert torch.equal(run(animated, conds), expected)


def test_key_images_are_brought_to_the_network_once_for_each_window(animated, sparse_file, vae, monkeypatch):
    placed = []
    places = sparse_ctrl.key_places
    monkeypatch.setattr(sparse_ctrl, "key_places", lambda *args: placed.append(1) or places(*args))
    control = sparse_ctrl.load_sparse_ctrl("sparse.safetensors", (0, -1))
    run(set_context_options(animated, ContextOptions(4, 0)), applied(control, images(2), vae=vae), 8, steps=4)
    assert len(placed) == 2
