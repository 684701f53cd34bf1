"""Configs, and a whole run from one, with a stand-in for the host."""

from dataclasses import replace
import json
import logging
import os
from pathlib import Path
import signal
import subprocess
import sys
from types import SimpleNamespace

from animatic_pack.lora.files import read_motion_lora
from animatic_pack.training import command_line
from animatic_pack.training.cache import Encoders
from animatic_pack.training.camera import MOVES, CameraMove
from animatic_pack.training.config import Camera, read_config
from animatic_pack.training.denoiser import Parts
from animatic_pack.training.manifest import Clip, Manifest
from animatic_pack.training.motion import fresh_motion_module
from animatic_pack.training.prepare import Plan, metadata
from animatic_pack.training.run import Run
from animatic_pack.training.stages import MOTION_LORA, STAGES
from animatic_pack.training.trainer import Trainer, TrainingSettings
import pytest
from safetensors import safe_open
from safetensors.torch import load_file
import torch
from training_models import CONTEXT, one_thread, small_base, write_video  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[2]

SMALLEST = """
stage = "motion_lora"
output = "out.safetensors"
state = "state"
[models]
checkpoint = "sd15.safetensors"
motion_module = "mm.ckpt"
[data]
folder = "videos"
[clips]
num_frames = 4
stride = 2
size = [64, 64]
[camera]
move = "ZoomIn"
[low_rank]
rank = 4
[training]
steps = 3
precision = "fp32"
"""


def config_file(folder: Path, text: str = SMALLEST) -> Path:
    (folder / "videos").mkdir(exist_ok=True)
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_a_config_is_read_with_its_defaults(tmp_path):
    config = read_config(config_file(tmp_path))
    assert config.output == tmp_path / "out.safetensors" and config.data.cache == tmp_path / "cache"
    assert config.training.learning_rate == 1e-4 and config.clips.size == (64, 64) and config.low_rank.scale == 1.0
    assert (config.sampling.gentle, config.sampling.strong) == MOVES["ZoomIn"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_an_example(stage, tmp_path):
    text = (ROOT / "training" / "configs" / f"{stage}.toml").read_text(encoding="ascii")
    (tmp_path / "videos.csv").touch()
    (tmp_path / "videos" / "poses").mkdir(parents=True)
    config = read_config(config_file(tmp_path, text))
    assert config.stage == stage and config.clips.num_frames == STAGES[stage].num_frames


@pytest.mark.parametrize(
    ("change", "message"),
    (
        (("steps = 3", "step = 3"), r"there is no key training.step; did you mean training.steps\?"),
        (("steps = 3", "colour = 3"), "there is no key training.colour; known are steps, batch_size"),
        (("[camera]", "[lens]"), "there is no key lens"),
        (("steps = 3", 'steps = "3"'), "training.steps is '3', but it has to be a whole number"),
        (("steps = 3", "steps = 3.5"), "training.steps is 3.5, but it has to be a whole number"),
        (("steps = 3", "steps = true"), "training.steps is True, but it has to be a whole number"),
        (("steps = 3", "steps = 0"), "steps is 0, but it has to be more than 0"),
        (("out.safetensors", "out.ckpt"), "output is out.ckpt, but it has to end in .safetensors"),
        (("size = [64, 64]", "size = 64"), "clips.size is 64, but it has to be 2 numbers"),
        (('move = "ZoomIn"', 'move = "Zoom"'), "there is no camera move 'Zoom': choose one of ZoomIn"),
        (('move = "ZoomIn"', 'move = "ZoomIn"\npan = 0.1'), "give the one or the other"),
        (('checkpoint = "sd15.safetensors"', ""), "models.checkpoint is missing"),
        (('motion_module = "mm.ckpt"', ""), "models.motion_module is missing: a MotionLoRA changes"),
        (('stage = "motion_lora"', 'stage = "lora"'), "stage is 'lora'; choose one of domain_adapter"),
        (('stage = "motion_lora"', 'stage = "domain_adapter"'), "learns from single frames"),
        (("num_frames = 4", "num_frames = 1"), "learns from clips"),
        (('stage = "motion_lora"', 'stage = "motion_lora"\nsave_every = -1'), "save_every is -1, but it has to be 0"),
        (("[data]", "[data"), "is not valid TOML"),
    ),
)
def test_what_is_wrong_with_a_config_is_said(tmp_path, change, message):
    with pytest.raises(ValueError, match=f"config.toml.*{message}"):
        read_config(config_file(tmp_path, SMALLEST.replace(*change)))


@pytest.mark.parametrize(
    ("change", "message"),
    (
        (('clip_vision = "', '# "'), "models.clip_vision is missing: Animate Anyone's motion is trained with it"),
        (('poses = "videos/poses"', ""), "data.poses is missing"),
        (('pose_guider = "', '# "'), "models.pose_guider is missing"),
        (('prediction = "v"', 'prediction = "x0"'), "prediction is 'x0', but it has to be 'v' or 'noise'"),
    ),
)
def test_what_animate_anyone_needs_is_said(tmp_path, change, message):
    text = (ROOT / "training" / "configs" / "animate_anyone_motion.toml").read_text(encoding="ascii")
    (tmp_path / "videos" / "poses").mkdir(parents=True)
    path = config_file(tmp_path, text.replace(*change))
    with pytest.raises(ValueError, match=message):
        read_config(path)
    path.write_text(text.replace('prediction = "v"', 'prediction = "noise"'))
    assert not read_config(path).row.v_prediction and read_config(path).row.posed


def test_missing_files_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no config .*none.toml. Commented examples"):
        read_config(tmp_path / "none.toml")
    path = config_file(tmp_path, SMALLEST.replace('"videos"', '"films"'))
    with pytest.raises(FileNotFoundError, match="There is no .*films, which the config names"):
        read_config(path)


def test_a_camera_of_ones_own_has_a_speed():
    assert Camera(zoom=1.5, pan=0.1, speed=2).moves() == (CameraMove(zoom=2.25, pan=0.2),) * 2
    assert Camera().moves() is None
    assert Camera(move="PanLeft", speed=0.5).moves()[0].pan == -0.06


class StandIn:
    """What the host's `open_models` gives, without a host."""

    max_frames = 32

    def __init__(self, *_):
        def frames(pictures):
            assert not torch.is_grad_enabled(), "a VAE's activations of every frame would stay"
            small = torch.nn.functional.interpolate(pictures.permute(0, 3, 1, 2), (6, 6), mode="area")
            mean = torch.cat((small, small[:, :1]), dim=1) * 2 - 1
            return mean, torch.full_like(mean, 0.05)

        self.encoders = Encoders(frames, lambda caption: torch.zeros(7, CONTEXT), "stand-in")

    def training_parts(self):
        base = small_base()
        sites = {site: c for site, c in base.site_channels.items() if "mid" not in site}
        return base, Parts(motion_module=fresh_motion_module(sites, 32, seed=1))


def test_one_command_goes_from_videos_to_a_file(tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO)
    path = config_file(tmp_path)
    write_video(tmp_path / "videos" / "wave.mp4")
    assert command_line.main([str(path)], lambda base_directory: StandIn) == 0
    for line in ("encoding clips: 1 of 1", "step 3 of 3  loss", "fixed-noise loss", "written: "):
        assert line in caplog.text
    assert len(read_motion_lora(load_file(tmp_path / "out.safetensors"))) == 3 * 8
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        facts = file.metadata()
    assert facts["motion"].startswith("picture grows") and facts["rank"] == "4" and facts["steps"] == "3"
    assert {"base", "motion_module", "dataset", "num_frames", "stride", "size", "seed"} <= facts.keys()
    assert command_line.main([str(path)], lambda base_directory: StandIn) == 0  # nothing is left to do
    path.write_text(SMALLEST.replace("rank = 4", "rank = 8"))
    assert command_line.main([str(path)], lambda base_directory: StandIn) == 1
    assert "is of another run: rank was 4 and is now 8" in capsys.readouterr().err


@pytest.mark.parametrize("card, backend", [("cuda", torch.cuda), ("mps", torch.backends.mps), ("xpu", torch.xpu)])
def test_training_takes_a_card_of_any_kind(card, backend, tmp_path, monkeypatch):
    monkeypatch.setattr(backend, "is_available", lambda: True)
    devices = []

    def open_models(files, precision, device):
        devices.append(device.type)
        raise RuntimeError("as far as it matters")

    path = config_file(tmp_path)
    write_video(tmp_path / "videos" / "wave.mp4")
    assert command_line.main([str(path)], lambda base_directory: open_models) == 1 and devices == [card]


def test_the_header_names_the_gentlest_and_the_strongest_move():
    moves = [CameraMove(roll=degrees) for degrees in (20.0, 101.0, 9.0)]
    clips = tuple(Clip(None, 0, 1, 4, 0.0, (64, 64), move) for move in moves)
    plan = Plan(STAGES[MOTION_LORA], Manifest(clips), TrainingSettings(), Path())
    identity = dict.fromkeys(("base", "motion_module", "data"), "")
    run = Run(SimpleNamespace(step=1), plan.state, identity)
    words = "picture turns clockwise 9 degrees to picture turns clockwise 101 degrees"
    assert metadata(run, plan)["motion"] == words


def test_another_vae_or_clip_does_not_go_on_and_an_older_state_without_theirs_does(tmp_path, capsys):
    path, models = config_file(tmp_path), StandIn()
    write_video(tmp_path / "videos" / "wave.mp4")
    assert command_line.main([str(path)], lambda base_directory: lambda *_: models) == 0
    models.encoders = replace(models.encoders, identity="another vae")
    path.write_text(path.read_text().replace("steps = 3", "steps = 4"))
    assert command_line.main([str(path)], lambda base_directory: lambda *_: models) == 1
    assert "is of another run: vae_and_clip was stand-in and is now another vae" in capsys.readouterr().err
    (state,) = tmp_path.rglob("step-00000003/state.json")
    content = json.loads(state.read_text())
    del content["identity"]["vae_and_clip"]
    state.write_text(json.dumps(content))
    assert command_line.main([str(path)], lambda base_directory: lambda *_: models) == 0
    assert list(tmp_path.rglob("step-00000004"))


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    path = config_file(tmp_path)
    write_video(tmp_path / "videos" / "wave.mp4")
    train_step = Trainer.train_step

    def interrupted(trainer):
        os.kill(os.getpid(), signal.SIGINT)  # what Ctrl+C sends, and here within the step
        return train_step(trainer)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    assert command_line.main([str(path)], lambda base_directory: StandIn) == 130
    assert "stopped at step 1; the same command goes on" in caplog.text
    assert not (tmp_path / "out.safetensors").exists()
    monkeypatch.undo()
    assert command_line.main([str(path)], lambda base_directory: StandIn) == 0
    assert (tmp_path / "out.safetensors").exists()


def test_python_m_training_starts_from_the_packs_folder(tmp_path):
    command = [sys.executable, "-m", "training", str(tmp_path / "none.toml")]
    missing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert missing.returncode == 1 and missing.stderr.startswith("There is no config")


@pytest.mark.parametrize("room", ["training", "evaluation", "evaluation.world"])
def test_a_python_without_torch_is_told_which_one_to_take(room):
    code = f"import runpy, sys; sys.modules['torch'] = None; runpy.run_module('{room}', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "Run this with the Python that runs ComfyUI" in done.stderr
    assert "Traceback" not in done.stderr
