"""Learning itself, and what a run keeps when it ends early."""

import importlib.util
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from animatic_pack.training import state as state_module
from animatic_pack.training.denoiser import LowRankSize, Parts, fresh_denoiser
from animatic_pack.training.motion import fresh_motion_module
from animatic_pack.training.noise import alphas_cumprod, linear_betas, q_sample
from animatic_pack.training.run import Run
from animatic_pack.training.sampling import sample_clip
from animatic_pack.training.stages import DOMAIN_ADAPTER, MOTION_LORA, MOTION_MODULE, STAGES
from animatic_pack.training.state import load_state, states
from animatic_pack.training.trainer import Trainer, TrainingSettings
import pytest
from safetensors.torch import load_file
import torch
from training_models import ANIMATEDIFF_STAGES, CONTEXT, one_thread, small_base, zoom_clip  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

EMPTY = torch.zeros(7, CONTEXT)


def settings(**options) -> TrainingSettings:
    return TrainingSettings(**{"steps": 4, "batch_size": 2, "learning_rate": 1e-2, "precision": "fp32", **options})


def moving_module(base):
    motion = fresh_motion_module({s: c for s, c in base.site_channels.items() if "mid" not in s}, 32, seed=3)
    for transformer in motion.sites.values():
        torch.nn.init.normal_(transformer.proj_out.weight, std=0.3, generator=torch.Generator().manual_seed(1))
    return motion


def trainer_of(stage: str = MOTION_LORA, clips=None, low_rank=None, **options) -> Trainer:
    base = small_base()
    frozen = Parts(motion_module=moving_module(base)) if stage == MOTION_LORA else Parts()
    denoiser = fresh_denoiser(STAGES[stage], base, frozen, seed=0, low_rank=low_rank or LowRankSize(4))
    clips = clips or [zoom_clip(seed, num_frames=4) for seed in range(2)]
    return Trainer(denoiser, clips, EMPTY, settings(**options))


def run_of(folder: Path, steps: int, stage: str = MOTION_LORA, **options) -> Run:
    return Run(trainer_of(stage, steps=steps), folder, {"stage": stage, "rank": 4}, **options)


def test_the_schedule_is_a_straight_line_and_noise_keeps_the_variance():
    betas = linear_betas()
    assert betas[0] == 0.00085 and betas[-1] == 0.012
    assert torch.allclose(betas.diff(), betas.diff()[0])
    alphas = alphas_cumprod("sqrt_linear")
    assert alphas[-1] < 0.005 and alphas_cumprod("linear")[500] > alphas[500]
    noisy = q_sample(torch.randn(1, 9, 4, 32, 32), torch.randn(1, 9, 4, 32, 32), alphas[[400]])
    assert noisy.var().item() == pytest.approx(1.0, abs=0.03)


def test_a_clip_is_learnt_and_sampled():
    clip = zoom_clip(2)
    trainer = trainer_of(MOTION_MODULE, [clip], steps=120, text_dropout=0.0)
    start = trainer.validation_loss([clip])
    for _ in range(120):
        trainer.train_step()
    assert trainer.validation_loss([clip]) < start / 3  # tests/host holds it to more, and samples with the host
    noise = torch.randn(clip.mean.shape, generator=torch.Generator().manual_seed(5))
    sampled = sample_clip(trainer.denoiser, noise, clip.context, EMPTY, guidance=1.0)
    assert torch.corrcoef(torch.stack((sampled.flatten(), clip.mean.flatten())))[0, 1] > 0.7


@pytest.mark.parametrize("inference", [True, False])
def test_looking_at_what_is_learnt_keeps_nothing_for_gradients(inference):
    """Which would be all activations of all steps of a preview."""
    trainer, kept = trainer_of(MOTION_MODULE), []
    clip = trainer.clips[0]

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.inference_mode(inference), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trainer.validation_loss([clip])
        sampled = sample_clip(trainer.denoiser, torch.randn_like(clip.mean), clip.context, EMPTY, steps=2)
    assert not kept and not sampled.requires_grad and not sampled.is_inference()


def test_a_domain_adapter_learns_single_frames():
    trainer = trainer_of(DOMAIN_ADAPTER, [zoom_clip(2, num_frames=1)], steps=60, text_dropout=0.0)
    start = trainer.validation_loss(trainer.clips)
    for _ in range(60):
        trainer.train_step()
    assert trainer.validation_loss(trainer.clips) < 0.8 * start


def test_batches_are_read_ahead_and_are_the_same():
    read = []

    class Clips(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    clips = [zoom_clip(seed, num_frames=4) for seed in range(6)]
    trainer, plain = trainer_of(clips=Clips(clips), steps=3), trainer_of(clips=clips, steps=3)
    trainer.train_step()
    trainer.batches.next[1].result()
    assert len(read) == 2 * trainer.settings.batch_size
    plain.batches.at = lambda step, last: plain.batches.draw(step)
    plain.train_step()
    for _ in range(2):
        assert trainer.train_step().loss == plain.train_step().loss
    assert len(read) == 3 * trainer.settings.batch_size, "nothing is read after the last step"
    assert sorted(read) == list(range(6)), "and every clip once in an epoch"


def test_a_clip_that_cannot_be_read_is_said_at_its_step():
    class Clips(list):
        def __getitem__(self, index):
            if index == 1:
                raise OSError("clip 1 is gone")
            return super().__getitem__(index)

    trainer = trainer_of(clips=Clips([zoom_clip(seed, num_frames=4) for seed in range(2)]), batch_size=1, steps=2)
    with pytest.raises(OSError, match="clip 1 is gone"):
        for _ in range(2):
            trainer.train_step()


def test_captions_are_dropped_at_the_share_asked_for():
    trainer = trainer_of(batch_size=400, text_dropout=0.1)
    from animatic_pack.training.batches import draw_batch

    batch = draw_batch(trainer.clips, EMPTY, trainer.settings, 0, trainer.engine)
    dropped = (batch.context == 0).all(dim=(1, 2)).float().mean()
    assert 0.05 < dropped < 0.16
    assert batch.t.min() < 50 and batch.t.max() > 950 and batch.t.shape == (400,)
    assert batch.noise.std(dim=(0, 2, 3, 4)).sub(1).abs().max() < 0.05  # each frame has its own
    assert not torch.equal(batch.noise[0, 0], batch.noise[0, 1])


def test_noisy_timesteps_are_drawn_as_often_as_asked_for():
    from animatic_pack.training.batches import draw_batch

    for power, mean in ((1.0, 500), (0.5, 667)):
        trainer = trainer_of(batch_size=400, timestep_power=power)
        t = draw_batch(trainer.clips, EMPTY, trainer.settings, 0, trainer.engine).t
        assert t.float().mean().item() == pytest.approx(mean, abs=50) and t.max() < 1000


@pytest.mark.parametrize("stage", ANIMATEDIFF_STAGES)
def test_ten_and_ten_steps_are_twenty_bit_for_bit(stage, tmp_path):
    whole, first, second = (run_of(tmp_path / name, 20, stage) for name in ("whole", "halves", "halves"))
    list(whole.steps())
    for report in first.steps():
        if report.step == 10:
            break
    first.save()
    assert second.resume() == 10
    reports = list(second.steps())
    assert [report.step for report in reports] == list(range(11, 21))
    for key, value in whole.trainer.denoiser.state_dict().items():
        assert torch.equal(value, second.trainer.denoiser.state_dict()[key])
    assert [report.loss for report in second.reports] == [report.loss for report in whole.reports]


def test_a_finished_run_is_found_finished(tmp_path):
    list(run_of(tmp_path, 2).steps())
    again = run_of(tmp_path, 2)
    assert again.resume() == 2 and list(again.steps()) == []
    longer = run_of(tmp_path, 3)
    longer.resume()
    assert [report.step for report in longer.steps()] == [3]


def test_the_curve_has_every_step_and_the_validation(tmp_path):
    run = run_of(tmp_path, 5, validate_every=2, validation_clips=[zoom_clip(0, num_frames=4)])
    list(run.steps())
    assert [step for step, _ in run.curve.validation] == [0, 2, 4, 5]
    again = run_of(tmp_path, 5)
    again.resume()
    assert again.curve == run.curve
    assert again.curve.reports[0].learning_rate == 1e-2 and again.curve.reports[0].grad_norm > 0


def test_a_state_holds_safe_files_and_older_ones_go(tmp_path):
    run = run_of(tmp_path, 4, save_every=2)
    list(run.steps())
    assert [path.name for path in states(tmp_path)] == ["step-00000004"]
    path = states(tmp_path)[0]
    assert json.loads((path / "state.json").read_text())["step"] == 4
    assert set(load_file(path / "trainables.safetensors")) == set(run.trainer.denoiser.state_dict())
    torch.load(path / "optimizer.pt", weights_only=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000004"]


def test_a_state_of_another_run_is_said(tmp_path):
    list(run_of(tmp_path, 1).steps())
    with pytest.raises(ValueError, match="is of another run: rank was 4 and is now 8. Put this back"):
        load_state(tmp_path, trainer_of(), {"stage": MOTION_LORA, "rank": 8})


@pytest.mark.parametrize(
    ("name", "damaged"),
    (
        ("trainables.safetensors", lambda content: content[:-8]),
        ("optimizer.pt", lambda content: content[: len(content) // 2]),
        ("optimizer.pt", lambda content: bytes(200) + content[200:]),
        ("optimizer.pt", lambda content: b""),
        ("state.json", lambda content: b"null"),
    ),
)
def test_a_damaged_state_is_said(tmp_path, name, damaged):
    list(run_of(tmp_path, 1).steps())
    path = states(tmp_path)[0] / name
    path.write_bytes(damaged(path.read_bytes()))
    with pytest.raises(ValueError, match="is damaged. Delete this folder to start over"):
        run_of(tmp_path, 1).resume()


def test_no_state_is_a_beginning(tmp_path):
    assert run_of(tmp_path / "none", 1).resume() == 0


def test_a_cancel_within_a_step_leaves_the_step_before(tmp_path):
    run = run_of(tmp_path, 4)
    steps = run.steps()
    next(steps)
    before = {key: value.clone() for key, value in run.trainer.denoiser.state_dict().items()}

    class Cancel(Exception):
        pass

    def cancel(*_):
        raise Cancel

    unet = run.trainer.denoiser.base.unet
    handle = unet.middle_block[1].register_forward_hook(cancel)  # as the host does in any of its layers
    with pytest.raises(Cancel):
        next(steps)
    handle.remove()
    assert not any("forward" in module.__dict__ for module in unet.modules())
    run.save()
    again = run_of(tmp_path, 4)
    assert again.resume() == 1
    assert all(torch.equal(value, before[key]) for key, value in again.trainer.denoiser.state_dict().items())


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_state(tmp_path):
    run = run_of(tmp_path, 6, save_every=2)
    steps = run.steps()
    next(steps)
    clip = zoom_clip(0, num_frames=4)
    clip.mean[0, 0, 0, 0] = float("nan")
    run.trainer.batches.next[1].result()  # the second step's batch
    run.trainer.clips[:] = [clip]
    next(steps)
    saved = {key: value.clone() for key, value in run.trainer.denoiser.state_dict().items()}
    with pytest.raises(FloatingPointError, match="At step 3 the loss is not a number.*rate below 0.01"):
        next(steps)
    assert all(torch.equal(value, saved[key]) for key, value in run.trainer.denoiser.state_dict().items())
    assert run_of(tmp_path, 6).resume() == 2


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    run = run_of(tmp_path, 4)
    next(run.steps())
    run.save()
    next(iter(run.trainer.denoiser.parameters())).data.fill_(float("inf"))
    run.trainer.step = 2
    with pytest.raises(FloatingPointError, match="is not a number any more"):
        run.save()
    assert [path.name for path in states(tmp_path)] == ["step-00000001"]


@pytest.mark.parametrize("error", (OSError(28, "No space left on device"), RuntimeError("No space left")))
def test_a_full_disk_is_said_and_leaves_the_state_before(tmp_path, monkeypatch, error):
    run = run_of(tmp_path, 4)
    steps = run.steps()
    next(steps)
    run.save()
    next(steps)

    def full(*_):
        raise error

    monkeypatch.setattr(state_module.torch, "save", full)
    with pytest.raises(OSError, match="The disk is full, so .*step-00000002 could not be written; .* intact"):
        run.save()
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert run_of(tmp_path, 4).resume() == 1


KILLED = """
import sys
from pathlib import Path
tests, folder = sys.argv[1:]
sys.path[:0] = [tests, tests + "/unit"]
from test_training_steps import run_of
import torch
torch.set_num_threads(1)
run = run_of(Path(folder), 100000, save_every=1)
for report in run.steps():
    print(report.step, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_readable_state(tmp_path):
    tests = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", KILLED, str(tests), str(tmp_path / "state")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if int(line) == 3:
                break
        time.sleep(0.137)  # wherever it is now; it saves about half of the time
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    run = run_of(tmp_path / "state", 100000)
    done = run.resume()
    assert done >= 3 and len(run.reports) == done
    run.trainer.train_step()
    run.save()
    assert [path.name for path in (tmp_path / "state").iterdir()] == [f"step-{done + 1:08d}"]


def test_mistakes_have_their_own_words():
    with pytest.raises(ValueError, match="there is no clip to train on"):
        Trainer(trainer_of().denoiser, [], EMPTY, settings())
    with pytest.raises(ValueError, match="precision 'half' is unknown: choose one of fp32, bf16, fp16"):
        settings(precision="half")
    with pytest.raises(ValueError, match="learning_rate is 0, but it has to be more than 0"):
        settings(learning_rate=0)
    with pytest.raises(ValueError, match="text_dropout is 2, but it is a share"):
        settings(text_dropout=2)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="made in inference mode"):
        trainer_of()


def test_eight_bit_adam_without_bitsandbytes_is_said():
    if importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(RuntimeError, match="run 'pip install bitsandbytes', or switch"):
        trainer_of(eight_bit_adam=True)


def test_a_step_runs_in_the_hosts_inference_mode():
    trainer = trainer_of()
    with torch.inference_mode():
        assert trainer.train_step().step == 1
        trainer.validation_loss(trainer.clips)
    assert trainer.train_step().step == 2
