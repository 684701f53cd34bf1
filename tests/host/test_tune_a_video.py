"""Tune-A-Video on the host's samplers, beside the authors' blocks written out; and trained by its node."""

from functools import partial

from animatic_pack.motion_modules.tune_a_video import TuneAVideo
from animatic_pack.nodes.baselines import ApplyTuneAVideo
from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.clip.reference import WindowReference, set_window_reference
from animatic_pack.nodes.host.core.folders import TUNED_VIDEOS, register_model_folders
from animatic_pack.nodes.host.core.unet import frame_norms, transformer_blocks
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.training.models import OpenedModels
from animatic_pack.nodes.host.training.train import TrainingOptions
from animatic_pack.nodes.train import TrainTuneAVideo
from animatic_pack.nodes.training_clips import ONLY_IMAGES, VideoDataset
from animatic_pack.training.denoiser import Parts
from animatic_pack.training.stages import STAGES, TUNE_A_VIDEO
from animatic_pack.training.tune_a_video import fresh_tune_denoiser
import comfy.sd
from comfy_extras.nodes_custom_sampler import BasicScheduler, FlipSigmas, KSamplerSelect, SamplerCustom
import folder_paths
import host_models
from host_models import CPU, conditioning
from one_level import one_level_model
import pytest
from reference import FP16_BOUND, relative_error
from safetensors.torch import load_file, save_file
import small_models
from small_models import motion_state_dict, random_like
import torch
from torch import nn

FRAMES, SIZE = 3, (4, 6)
sample = partial(host_models.sample, size=SIZE, steps=2, frames=FRAMES)


def image_model(**options):
    with pytest.MonkeyPatch.context() as patched:
        return one_level_model(patched, **options)


@pytest.fixture(scope="module")
def model():
    return image_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base_directory") / "models" / TUNED_VIDEOS
    folder.mkdir(parents=True)
    register_model_folders()
    folder_paths.add_model_folder_path(TUNED_VIDEOS, str(folder), is_default=True)
    return folder


def shapes_of(model) -> dict:
    blocks = transformer_blocks(model.model.diffusion_model)
    return {name: (block.attn1.to_q.in_features, block.attn1.heads) for name, block in blocks.items()}


@pytest.fixture(scope="module")
def weights(model, folder):
    """Random ones, in the file tuned.safetensors."""
    generator = torch.Generator().manual_seed(3)
    network = TuneAVideo(shapes_of(model), nn, queries=True)
    weights = {key: random_like(value, key, generator) for key, value in network.state_dict().items()}
    save_file(weights, folder / "tuned.safetensors")
    return weights


def applied(model, name: str = "tuned.safetensors"):
    return ApplyTuneAVideo().apply(model, name)[0]


@pytest.fixture(scope="module")
def tuned(model, weights):
    return applied(model)


def heads_attend(query, key, value, heads):
    parts = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value)]
    weights = (parts[0] @ parts[1].transpose(-1, -2) * parts[0].shape[-1] ** -0.5).softmax(-1)
    return (weights @ parts[2]).transpose(1, 2).flatten(2)


def authors_block(block, own, x, context=None, transformer_options=None):
    """`BasicTransformerBlock.forward` of the authors; own: the block's weights by the names in its file."""
    frames = len(x) // len(transformer_options["cond_or_uncond"])
    heads, first = block.attn1.heads, block.attn1
    n = block.norm1(x)
    former = torch.arange(frames) - 1
    former[0] = 0
    keys, values = (layer(n).unflatten(0, (-1, frames)) for layer in (first.to_k, first.to_v))
    keys, values = (torch.cat([t[:, [0] * frames], t[:, former]], dim=2).flatten(0, 1) for t in (keys, values))
    x = x + first.to_out(heads_attend(n @ own["attn1.to_q.weight"].T, keys, values, heads))
    n, second = block.norm2(x), block.attn2
    x = x + second.to_out(
        heads_attend(n @ own["attn2.to_q.weight"].T, second.to_k(context), second.to_v(context), heads)
    )
    x = x + block.ff(block.norm3(x))
    places = x.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1)  # (b d) f c
    n = nn.functional.layer_norm(places, places.shape[-1:], own["norm_temp.weight"], own["norm_temp.bias"])
    query, key, value = (n @ own[f"attn_temp.to_{name}.weight"].T for name in "qkv")
    mixed = heads_attend(query, key, value, heads)
    places = places + mixed @ own["attn_temp.to_out.0.weight"].T + own["attn_temp.to_out.0.bias"]
    return places.unflatten(0, (-1, x.shape[1])).transpose(1, 2).flatten(0, 1)


def norm_over_frames(norm, num_frames, x):
    clip = x.unflatten(0, (-1, num_frames)).transpose(1, 2)  # b c f h w, as the authors' UNet has its features
    clip = nn.functional.group_norm(clip, norm.num_groups, norm.weight, norm.bias, norm.eps)
    return clip.transpose(1, 2).flatten(0, 1)


def written_out(model, weights, monkeypatch, **options):
    unet = model.model.diffusion_model
    with monkeypatch.context() as patched:
        for name, block in transformer_blocks(unet).items():
            own = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
            patched.setattr(block, "forward", partial(authors_block, block, own))
        for norm in frame_norms(unet):
            patched.setattr(norm, "forward", partial(norm_over_frames, norm, FRAMES))
        return sample(model, **options)


def test_it_is_the_authors_network(model, tuned, weights, monkeypatch):
    found = sample(tuned)
    assert relative_error(found, written_out(model, weights, monkeypatch)) < 1e-5
    assert relative_error(found, sample(model)) > 0.1


def test_an_untrained_one_is_the_checkpoint_with_sparse_causal_attention(model, weights, folder, monkeypatch):
    base, _ = OpenedModels(model, None, None, torch.float32, CPU).training_parts()
    fresh = fresh_tune_denoiser(STAGES[TUNE_A_VIDEO], base, Parts(), 0).file_weights()
    save_file(fresh, folder / "fresh.safetensors")
    unlearnt = {key: value if "to_q" in key else torch.zeros_like(value) for key, value in weights.items()}
    unlearnt |= {key: value for key, value in fresh.items() if ".attn1." in key or ".attn2." in key}
    expected = written_out(model, unlearnt, monkeypatch)
    assert relative_error(sample(applied(model, "fresh.safetensors")), expected) < 1e-5
    assert relative_error(expected, sample(model)) > 0.01


def test_what_is_trained_predicts_what_the_host_samples(model, tuned, weights):
    calls = []
    unet = model.model.diffusion_model
    noted = unet.register_forward_hook(lambda *call: calls.append(call[1:]), with_kwargs=True)
    sample(tuned)
    noted.remove()
    base, _ = OpenedModels(model, None, None, torch.float32, CPU).training_parts()
    denoiser = fresh_tune_denoiser(STAGES[TUNE_A_VIDEO], base, Parts(), 0)
    denoiser.trained.load_state_dict(weights)
    (x, t), kwargs, wanted = calls[-1]
    with denoiser.running(FRAMES), torch.no_grad():
        found = denoiser(x.unflatten(0, (2, FRAMES)), t[::FRAMES], kwargs["context"][::FRAMES])
    assert relative_error(found.flatten(0, 1), wanted) < 1e-5


def test_again_in_the_same_server_and_the_checkpoint_stays(model, tuned):
    before = sample(model)
    first = sample(tuned)
    assert torch.equal(sample(model), before) and torch.equal(sample(tuned), first)
    assert torch.equal(sample(applied(model)), first)


def test_conds_in_one_batch_or_apart(tuned, short_memory):
    expected = sample(tuned)
    with short_memory():
        assert relative_error(sample(tuned), expected) < 1e-5


def test_half_precision(weights, folder, tuned):
    save_file({key: value.half() for key, value in weights.items()}, folder / "half.safetensors")
    half = sample(applied(image_model(dtype=torch.float16), "half.safetensors"), steps=1)
    assert relative_error(half, sample(tuned, steps=1)) < FP16_BOUND


def test_loras_after_it_act_on_the_new_queries(model, tuned, weights):
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    own = weights["mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"]
    after = tuned.clone()
    after.add_patches({key: ("diff", (torch.ones_like(own),))}, 0.5)
    assert relative_error(sample(after), sample(tuned)) > 1e-5
    before = model.clone()
    before.add_patches({key: ("diff", (torch.ones_like(own),))}, 0.5)
    assert torch.equal(sample(applied(before)), sample(tuned)), "the file's queries stand in place of the MODEL's"


WINDOWS = [("static standard", 4, 1), ("static standard", 4, 2), ("uniform standard", 4, 2), ("batched", 3, 0)]


@pytest.mark.parametrize("together", [True, False], ids=["conds together", "conds one by one"])
@pytest.mark.parametrize("schedule, length, overlap", WINDOWS)
def test_in_windows_frames_see_the_clips_first_and_the_one_before(
    tuned, monkeypatch, short_memory, schedule, length, overlap, together
):
    """What goes into one self-attention, in every window, cond and step, beside what frames had before in the step."""
    seen = []
    attention = tuned.model.diffusion_model.output_blocks[1][1].transformer_blocks[0].attn1

    def note(x, context=None, transformer_options=None, forward=attention.forward, **options):
        seen.append((transformer_options, x, context))
        return forward(x, context=context, transformer_options=transformer_options, **options)

    monkeypatch.setattr(attention, "forward", note)
    windows = set_context_options(tuned, ContextOptions(length, overlap, context_schedule=schedule))
    if together:
        sample(windows, frames=9)
    else:
        with short_memory():
            sample(windows, frames=9)
    tokens, sigma, reached = {}, None, set()
    for options, x, context in seen:
        frames = options["context_window"].index_list
        if options["sigmas"][0] != sigma:
            tokens, sigma = {}, options["sigmas"][0].clone()
        for number, cond in enumerate(options["uuids"]):
            rows, looked = (t.chunk(len(options["uuids"]))[number] for t in (x, context))
            tokens.update({(cond, frame): row for frame, row in zip(frames, rows, strict=True)})
            for frame, row in zip(frames, looked, strict=True):
                first, former = row.chunk(2)
                if (cond, 0) in tokens and (cond, max(frame - 1, 0)) in tokens:
                    assert torch.equal(first, tokens[cond, 0]) and torch.equal(former, tokens[cond, max(frame - 1, 0)])
                    reached.add((len(options["uuids"]), options["cond_or_uncond"][number], frame))
    assert reached == {(2 if together else 1, cond, frame) for cond in (0, 1) for frame in range(9)}


def test_beside_other_nodes_patches_it_runs(tuned):
    looking_back = set_window_reference(tuned, WindowReference(end_percent=1.0))
    assert torch.isfinite(sample(set_context_options(looking_back, ContextOptions(4, 2)), frames=7)).all()


def run_custom(model, latent, sigmas, positive):
    sampler = KSamplerSelect.execute("euler")[0]
    conds = positive, conditioning(seed=2)
    return SamplerCustom.execute(model, False, 0, 1.0, *conds, sampler, sigmas, {"samples": latent})[0]["samples"]


def test_stock_nodes_invert_the_clip_for_it(tuned):
    """DDIM inversion: euler along reversed sigmas, as the help page wires it."""
    calm = tuned.clone()  # random weights do not lead back the way that they led to
    for name in ("weight", "bias"):
        key = f"diffusion_model.out.2.{name}"
        calm.add_patches({key: ("diff", (torch.zeros_like(calm.model_state_dict()[key]),))}, 1.0, 0.01)
    clip = 2 * torch.randn(FRAMES, 4, *SIZE, generator=torch.Generator().manual_seed(5))
    sigmas = BasicScheduler.execute(calm, "normal", 12, 1.0)[0]
    prompt = conditioning(seed=1)
    inverted = run_custom(calm, clip, FlipSigmas.execute(sigmas)[0], prompt)
    assert relative_error(inverted, clip) > 0.1
    assert relative_error(run_custom(calm, inverted, sigmas, prompt), clip) < 0.02


def test_what_cannot_be_used_is_said(model, tuned, weights, folder):
    save_file(motion_state_dict(), folder / "motion.safetensors")
    save_file({key: value for key, value in weights.items() if ".attn2." not in key}, folder / "cut.safetensors")
    (folder / "page.safetensors").write_text("<!doctype html><html>")
    for name, message in (
        ("motion.safetensors", "motion.safetensors cannot be used as a tuned video: this file is a motion module. Put"),
        ("cut.safetensors", "cut.safetensors does not fit this model: it misses 4 of 36 weights"),
        ("page.safetensors", "page.safetensors is a web page"),
    ):
        with pytest.raises(ValueError, match=message):
            applied(model, name)
    with pytest.raises(ValueError, match="does not fit this model: .*Take the checkpoint"):
        applied(image_model(width=64), "tuned.safetensors")
    with pytest.raises(ValueError, match="has Tune-A-Video already"):
        applied(tuned)
    with pytest.raises(ValueError, match="tuned.safetensors cannot .*Tune-A-Video.*Apply Tune-A-Video"):
        folder_paths.add_model_folder_path("animatediff_models", str(folder))
        load_motion_module("tuned.safetensors")


def test_the_node_trains_goes_on_and_its_file_changes_the_render(folder, monkeypatch, tmp_path):
    models = folder.parent
    small_models.write(models / "checkpoints", "tune_sd15.ckpt", small_models.checkpoint("SD1.5"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(models / "checkpoints" / "tune_sd15.ckpt"))
    drawing = {"num_frames": 2, "stride": 1, "frame_rate": 0.0, "clips_per_video": 1, "flip": False, "clip_seed": 0}
    images = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    options = TrainingOptions(text_dropout=0.0, preview_every=0, validate_every=2, half=False)
    plain = sample(model, steps=1)
    with torch.inference_mode():
        clips = VideoDataset().draw(ONLY_IMAGES, "", "a texture", 64, 64, images=images, **drawing)["result"][0]
        common = {"model": model, "clip": clip, "vae": vae, "clips": clips, "learning_rate": 1e-3, "options": options}
        half_way = TrainTuneAVideo().train(filename="mine", steps=2, **common)
        done = TrainTuneAVideo().train(filename="mine", steps=4, **common)
    trained, curve, file = done["result"]
    assert [report.step for report in curve.reports] == [1, 2, 3, 4] and "step 4 of 4" in done["ui"]["text"][0]
    assert len(half_way["result"][1].reports) == 2
    losses = [loss for _, loss in curve.validation]
    assert losses == sorted(losses, reverse=True) and len(losses) == 3
    assert load_file(file)["mid_block.attentions.0.transformer_blocks.0.attn_temp.to_out.0.bias"].any()
    ours = sample(trained, steps=1)
    assert relative_error(ours, plain) > 0.01
    assert torch.equal(sample(applied(model, "mine.safetensors"), steps=1), ours)
    assert torch.equal(sample(model, steps=1), plain)
