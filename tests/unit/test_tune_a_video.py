"""Tune-A-Video: which frames a frame sees, what learns from a clip, and the file that it writes."""

from animatic_pack.motion_modules.changed_forward import changed_forwards
from animatic_pack.motion_modules.tune_a_video import (
    SparseCausalFrames,
    TuneAVideo,
    fit_problem,
    read_tune_a_video,
    sparse_causal,
    sparse_causal_frames,
)
from animatic_pack.training.base import weights_digest
from animatic_pack.training.denoiser import Parts
from animatic_pack.training.files import write_trained
from animatic_pack.training.run import Run
from animatic_pack.training.stages import STAGES, TUNE_A_VIDEO
from animatic_pack.training.trainer import Trainer, TrainingSettings
from animatic_pack.training.tune_a_video import fresh_tune_denoiser
import pytest
from reference import relative_error
from safetensors.torch import load_file
from small_models import random_like
import torch
from torch import nn
from training_models import CHANNELS, CONTEXT, one_thread, small_base, zoom_clip  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")
FRAMES, EMPTY = 4, torch.zeros(7, CONTEXT)
SETTINGS = TrainingSettings(steps=4, learning_rate=1e-2, text_dropout=0.0, precision="fp32")
BLOCK = "up_blocks.0.attentions.1.transformer_blocks.0"


def denoiser_of(base=None):
    return fresh_tune_denoiser(STAGES[TUNE_A_VIDEO], base or small_base(), Parts(), seed=0)


def trainer_of(denoiser, **options) -> Trainer:
    settings = TrainingSettings(**{**vars(SETTINGS), **options})
    return Trainer(denoiser, [zoom_clip(0, num_frames=FRAMES)], EMPTY, settings)


def inputs() -> tuple:
    return torch.randn(2, FRAMES, 4, 6, 6), torch.tensor([40, 900]), torch.randn(2, 7, CONTEXT)


def test_whole_clips_see_the_first_frame_and_the_one_before():
    assert sparse_causal_frames(range(4)) == SparseCausalFrames((), (), [0, 0, 0, 0], [0, 0, 1, 2])
    assert sparse_causal_frames([0]) == SparseCausalFrames((), (), [0], [0])


def test_windows_see_what_was_kept_of_those_before():
    windows = [(0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 6, 7)]
    seen = [sparse_causal_frames(window, windows[:n], windows[n + 1 :]) for n, window in enumerate(windows)]
    assert seen[0] == SparseCausalFrames((), (0, 1, 3), [0] * 4, [0, 0, 1, 2])
    assert seen[1] == SparseCausalFrames((0, 1), (3,), [4] * 4, [5, 0, 1, 2])
    assert seen[2] == SparseCausalFrames((0, 3), (), [4] * 4, [5, 0, 1, 2])


def test_a_frame_that_no_window_had_yet_has_a_stand_in():
    first = sparse_causal_frames((4, 5, 6), [], [(0, 1, 2)])
    assert first == SparseCausalFrames((), (), [0, 0, 0], [0, 0, 1]), "the window's own first, until there is another"
    strided = sparse_causal_frames((0, 2, 4), [], [(1, 3, 5)])
    assert strided.previous == [0, 0, 1] and strided.to_store == (0, 2, 4)
    assert sparse_causal_frames((1, 3, 5), [(0, 2, 4)], []) == SparseCausalFrames((0, 2, 4), (), [3] * 3, [3, 4, 5])


def test_it_is_the_authors_sparse_causal_attention():
    key = torch.randn(2 * FRAMES, 5, 8)
    former = torch.arange(FRAMES) - 1
    former[0] = 0
    theirs = key.unflatten(0, (2, FRAMES))
    theirs = torch.cat([theirs[:, [0] * FRAMES], theirs[:, former]], dim=2).flatten(0, 1)
    assert torch.equal(sparse_causal(key.unflatten(0, (2, FRAMES)), sparse_causal_frames(range(FRAMES))), theirs)


def written_out(base, x, t, context):
    """The UNet with the authors' attention in place of its own, and norms over the frames, for one clip."""

    def norm(layer):
        def over_frames(h):
            clip = h.movedim(0, 1)[None]
            clip = nn.functional.group_norm(clip, layer.num_groups, layer.weight, layer.bias, layer.eps)
            return clip[0].movedim(1, 0)

        return over_frames

    def attention(layer):
        def attend(h, **_):
            seen = torch.stack([torch.cat((h[0], h[max(0, frame - 1)])) for frame in range(len(h))])
            weights = (layer.to_q(h) @ layer.to_k(seen).transpose(1, 2) * CHANNELS**-0.5).softmax(-1)
            return layer.to_out(weights @ layer.to_v(seen))

        return attend

    changes = [(m, lambda _, m=m: norm(m)) for m in base.unet.modules() if isinstance(m, nn.GroupNorm)]
    changes += [(m.attn1, lambda _, m=m: attention(m.attn1)) for m in base.unet.modules() if hasattr(m, "attn1")]
    with changed_forwards(changes):
        return base.unet(x, t.expand(len(x)), context.expand(len(x), -1, -1))


def test_a_fresh_one_adds_nothing_to_the_authors_attention():
    base = small_base()
    x, t, context = inputs()
    with denoiser_of(base).running(FRAMES), torch.no_grad():
        found = denoiser_of(base)(x, t, context)
    for number in range(2):
        expected = written_out(base, x[number], t[number], context[number])
        assert relative_error(found[number], expected) < 1e-5
    plain = base.unet(x.flatten(0, 1), t.repeat_interleave(FRAMES), context.repeat_interleave(FRAMES, 0))
    assert relative_error(found.flatten(0, 1), plain) > 0.01


def test_exactly_what_the_paper_trains_learns():
    base = small_base()
    denoiser = denoiser_of(base)
    before, start = weights_digest(base.unet), {key: value.clone() for key, value in denoiser.state_dict().items()}
    trainer = trainer_of(denoiser)
    for _ in range(3):  # what stands before the zeros of the last layer follows it
        trainer.train_step()
    changed = {key for key, value in denoiser.state_dict().items() if not torch.equal(value, start[key])}
    assert changed == {key for key in start if "norm_temp" not in key} and len(changed) == 4 * 7
    assert weights_digest(base.unet) == before and not any(p.requires_grad for p in base.unet.parameters())
    assert not any("forward" in module.__dict__ for module in base.unet.modules())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputed_blocks_give_the_same_gradients(precision):
    gradients = []
    for recompute in (False, True):
        denoiser = denoiser_of()
        trainer = trainer_of(denoiser, recompute=recompute, precision=precision)
        for _ in range(2):
            trainer.train_step()
        gradients.append([p.grad.clone() for p in denoiser.parameters() if p.requires_grad])
    assert all(p.dtype == torch.float32 for p in denoiser.parameters())
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.allclose(plain, recomputed, rtol=1e-4, atol=1e-7 if precision == "fp32" else 1e-4)


def test_the_clip_is_learnt():
    clip, other = zoom_clip(0, num_frames=FRAMES), zoom_clip(3, num_frames=FRAMES)
    trainer = trainer_of(denoiser_of(), steps=40)
    before = [trainer.validation_loss([each]) for each in (clip, other)]
    for _ in range(40):
        trainer.train_step()
    learnt, unseen = (trainer.validation_loss([each]) for each in (clip, other))
    assert learnt < before[0] / 2 and unseen > before[1] / 1.5


def test_a_run_that_went_on_is_the_run_in_one(tmp_path):
    whole = trainer_of(denoiser_of())
    for _ in Run(whole, tmp_path / "whole", {}).steps():
        pass
    stopped = Run(trainer_of(denoiser_of()), tmp_path / "parts", {})
    steps = stopped.steps()
    next(steps), next(steps)
    stopped.save()
    further = Run(trainer_of(denoiser_of()), tmp_path / "parts", {})
    assert further.resume() == 2
    for _ in further.steps():
        pass
    found = further.trainer.denoiser.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in whole.denoiser.state_dict().items())


def test_the_file_has_the_authors_names(tmp_path):
    denoiser = denoiser_of()
    trainer_of(denoiser).train_step()
    write_trained(tmp_path / "clip.safetensors", denoiser, {})
    content = load_file(tmp_path / "clip.safetensors")
    weights = read_tune_a_video(content)
    assert weights.keys() == content.keys() == denoiser.trained.state_dict().keys()
    names = ["attn1.to_q", "attn2.to_q", "attn_temp.to_q", "attn_temp.to_k", "attn_temp.to_v", "attn_temp.to_out.0"]
    assert {f"{BLOCK}.{name}.weight" for name in [*names, "norm_temp"]} <= weights.keys()
    shapes = dict.fromkeys(denoiser.trained.blocks, (CHANNELS, 1))
    assert fit_problem(shapes, weights) is None and len(shapes) == 4
    network = TuneAVideo(shapes, nn, queries=True)
    network.load_state_dict(weights)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in denoiser.trained.state_dict().items())


def test_of_a_whole_unet_what_was_learnt_is_taken():
    learnt = denoiser_of().trained.state_dict()
    generator = torch.Generator().manual_seed(1)
    learnt = {key: random_like(value, key, generator) for key, value in learnt.items()}
    rest = {f"{BLOCK}.attn1.to_k.weight": torch.zeros(1), f"{BLOCK}.ff.net.2.weight": torch.zeros(1)}
    rest |= {"conv_in.weight": torch.zeros(1), "up_blocks.0.resnets.0.conv1.weight": torch.zeros(1)}
    for prefix in ("", "module."):
        whole = {f"{prefix}{key}": value for key, value in (learnt | rest).items()}
        found = read_tune_a_video({"state_dict": whole} if prefix else whole)
        assert found.keys() == learnt.keys() and all(found[key] is learnt[key] for key in found)


def test_files_of_another_kind_or_another_model_are_told_apart():
    shapes = {BLOCK: (8, 2)}
    weights = TuneAVideo(shapes, nn, queries=True).state_dict()
    with pytest.raises(ValueError, match="this file is a LoRA"):
        read_tune_a_video({"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="holds a list"):
        read_tune_a_video([])
    broken = {**weights, f"{BLOCK}.attn_temp.to_q.weight": torch.full((8, 8), torch.nan)}
    with pytest.raises(ValueError, match="not numbers at .*attn_temp.to_q"):
        read_tune_a_video(broken)
    few = {key: value for key, value in weights.items() if "norm_temp" not in key}
    assert fit_problem(shapes, few) == f"it misses 2 of 9 weights, such as {BLOCK}.norm_temp.weight"
    assert "is (8, 8) and has to be (16, 16)" in fit_problem({BLOCK: (16, 2)}, weights)
    more = {**weights, "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight": torch.zeros(8, 8)}
    assert "has no place for" in fit_problem(shapes, more)
