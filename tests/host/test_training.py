"""Training a real checkpoint's UNet, opened by the host, and using what was trained."""

import os
from pathlib import Path
import subprocess
import sys
import weakref

from animatic_pack import ROOT, dev
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.loras import load_motion_lora
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.nodes.host.training.clips import TrainingClips
from animatic_pack.nodes.host.training.models import encode_frames, models_of, open_models, plain_unet
from animatic_pack.nodes.media.encode import Clip
from animatic_pack.nodes.media.formats import FORMATS
from animatic_pack.training.command_line import main
from animatic_pack.training.config import ModelFiles
from animatic_pack.training.manifest import ClipSampling
from animatic_pack.training.prepare import prepare_run
from animatic_pack.training.sources import videos_in_folder
from animatic_pack.training.stages import STAGES
import comfy.model_patcher
import comfy.sd
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
import folder_paths
import host_models
from host_models import sample
import numpy as np
import pytest
from reference import relative_error
from safetensors.torch import load_file
from served_host import free_port
import small_models
import torch
from video_files import write_clip

CPU = torch.device("cpu")
CONFIG = """
stage = "{stage}"
output = "{output}"
state = "state"
save_every = 2
validate_every = 2
validation_clips = 1

[models]
checkpoint = "train_sd15.ckpt"
{motion_module}

[data]
folder = "videos"

[clips]
num_frames = {num_frames}
stride = 1
size = [64, 64]
clips_per_video = 2

{low_rank}

[training]
steps = 3
learning_rate = 1e-2
precision = "fp32"
"""
FOLDERS = {"motion_lora": "animatediff_motion_lora", "motion_module": "animatediff_models", "domain_adapter": "loras"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The models folder of a base directory."""
    folder = tmp_path_factory.mktemp("base_directory") / "models"
    small_models.write(folder / "checkpoints", "train_sd15.ckpt", small_models.checkpoint("SD1.5"))
    small_models.write(folder / "animatediff_models", "train_v3.safetensors", small_models.motion_state_dict())
    for key in ("checkpoints", "animatediff_models", "animatediff_motion_lora", "loras"):
        folder_paths.add_model_folder_path(key, str(folder / key), is_default=True)
    return folder


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    texture = np.random.default_rng(1).random((80, 80, 3), np.float32)
    frames = [np.roll(texture, shift, axis=1)[:64, :64] for shift in range(12)]
    write_clip(frames, Clip(64, 64, 8.0, seconds=1.5), FORMATS["video/h264-mp4"], folder / "a.mp4", 10, 0)
    (folder / "a.txt").write_text("noise that wanders")
    return tmp_path


def config(folder, stage, output, num_frames, motion_module="", low_rank=""):
    path = folder / "config.toml"
    path.write_text(
        CONFIG.format(stage=stage, output=output, num_frames=num_frames, motion_module=motion_module, low_rank=low_rank)
    )
    return str(path)


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_the_plain_unet_predicts_what_the_hosts_does(models, dtype, bound):
    model = comfy.sd.load_checkpoint_guess_config(str(models / "checkpoints" / "train_sd15.ckpt"))[0]
    unet = plain_unet(model, dtype, CPU)
    x, t, context = torch.randn(2, 4, 8, 8), torch.tensor([100.0, 700.0]), torch.randn(2, 77, 768)
    expected = model.model.diffusion_model.float()(x, t, context=context, transformer_options={})
    assert relative_error(unet(x.to(dtype), t, context.to(dtype)), expected) < bound
    assert not any(parameter.requires_grad or parameter.is_inference() for parameter in unet.parameters())
    with torch.enable_grad():
        moved = x.to(dtype).requires_grad_(True)
        unet(moved, t, context.to(dtype)).float().mean().backward()
    assert moved.grad.isfinite().all() and moved.grad.abs().sum() > 0


def test_latents_are_the_vaes_own(models):
    opened = open_models(ModelFiles("train_sd15.ckpt"), "fp32", CPU)
    _, _, vae, _ = comfy.sd.load_checkpoint_guess_config(str(models / "checkpoints" / "train_sd15.ckpt"))
    frames = torch.rand(3, 64, 64, 3)
    mean, deviation = opened.encoders.frames(frames)
    assert relative_error(mean, opened.model.model.process_latent_in(vae.encode(frames))) < 1e-5
    assert not deviation.any(), "TAESD has none"
    assert opened.encoders.text("a b").shape == opened.encoders.text(", ".join(map(str, range(200)))).shape == (77, 768)


def test_a_vae_with_deviation_gives_it():
    from comfy.ldm.models.autoencoder import AutoencoderKL

    torch.manual_seed(3)
    options = {"double_z": True, "z_channels": 4, "resolution": 32, "in_channels": 3, "out_ch": 3, "ch": 32}
    options |= {"ch_mult": [1, 1], "num_res_blocks": 1, "attn_resolutions": []}
    network = AutoencoderKL(ddconfig=options, embed_dim=4)
    for parameter in network.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.05)

    class Vae:
        first_stage_model, device, vae_dtype = network.eval(), CPU, torch.float32

        patcher = comfy.model_patcher.ModelPatcher(network, CPU, CPU)

        def memory_used_encode(self, shape, dtype):
            return 0

        def process_input(self, pixels):
            return pixels * 2 - 1

    frames = torch.rand(2, 32, 32, 3)
    mean, deviation = encode_frames(Vae(), frames, lambda latent: latent * 0.18215)
    wanted = network.encode(frames.movedim(-1, 1) * 2 - 1)
    log_variance = network.quant_conv(network.encoder(frames.movedim(-1, 1) * 2 - 1)).chunk(2, dim=1)[1]
    assert relative_error(mean, wanted * 0.18215) < 1e-5
    assert relative_error(deviation, (0.5 * log_variance).exp() * 0.18215) < 1e-5


@pytest.mark.parametrize("stage", ["motion_lora", "motion_module", "domain_adapter"])
def test_what_is_trained_from_the_command_line_is_used_in_the_graph(models, videos, stage):
    output = models / FOLDERS[stage] / f"trained_{stage}.safetensors"
    uses_motion = 'motion_module = "train_v3.safetensors"' if stage == "motion_lora" else ""
    low_rank = "" if stage == "motion_module" else "[low_rank]\nrank = 4"
    frames = 1 if stage == "domain_adapter" else 4
    before = (models / "checkpoints" / "train_sd15.ckpt").read_bytes()
    assert main([config(videos, stage, output, frames, uses_motion, low_rank)], lambda base_directory: open_models) == 0
    assert (models / "checkpoints" / "train_sd15.ckpt").read_bytes() == before
    model, _, _, _ = comfy.sd.load_checkpoint_guess_config(str(models / "checkpoints" / "train_sd15.ckpt"))
    v3 = load_motion_module("train_v3.safetensors")
    plain = sample(model, frames=4, steps=2)
    if stage == "motion_lora":
        trained = (load_motion_lora(output.name, 1.0),)
        applied = apply_motion_module(model, v3, MotionSettings("v3"), motion_loras=trained)
        plain = sample(apply_motion_module(model, v3, MotionSettings("v3")), frames=4, steps=2)
    elif stage == "motion_module":
        applied = apply_motion_module(model, load_motion_module(output.name), MotionSettings("trained"), "use existing")
    else:
        from animatic_pack.nodes.host.motion.domain_adapter import apply_domain_adapter

        applied = apply_domain_adapter(model, output.name, 1.0)
    assert relative_error(sample(applied, frames=4, steps=2), plain) > 1e-4


def test_the_command_finds_the_host_and_names_what_is_missing(videos):
    path = Path(config(videos, "motion_module", "out.safetensors", 4))
    path.write_text(path.read_text().replace("train_sd15.ckpt", "nothing.ckpt"))
    environment = {**os.environ, "COMFYUI_PATH": str(dev.find_host())}
    run = subprocess.run(
        [sys.executable, "-m", "training", str(path)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 1 and "nothing.ckpt" in run.stderr, run.stderr


def test_several_processes_follow_one(models, videos):
    """As `accelerate launch` starts them for several cards; without one it starts a single process."""
    pytest.importorskip("accelerate", reason="accelerate is not installed (pip install accelerate)")
    several = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())]
    one = launched(models, videos, "one", [])
    two = launched(models, videos, "two", [*several, "-m"], processes=2)
    assert one.keys() == two.keys()
    # 4e-4 at most, for gradients are summed in another order; 4e-2 when each process found other clips in the cache
    assert max(relative_error(two[key], value) for key, value in one.items()) < 3e-3


def launched(models, videos, name, launcher, processes: int = 1) -> dict:
    """What `python -m training` writes, as a user starts it."""
    output = models / f"launched_{name}.safetensors"
    motion = 'motion_module = "train_v3.safetensors"'
    path = Path(config(videos, "motion_lora", output, 4, motion, "[low_rank]\nrank = 4"))
    path.write_text(path.read_text().replace('state = "state"', f'state = "{name}"') + "batch_size = 2\n")
    environment = {**os.environ, "COMFYUI_PATH": str(dev.find_host()), "OMP_NUM_THREADS": "1"}
    environment["ACCELERATE_USE_CPU"] = "true"
    command = [sys.executable, "-m", *launcher, "training", str(path), "--base-directory", str(models.parent)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("step 3 of 3") == 1, "one process speaks"
    assert run.stdout.count("2 processes share") == processes - 1
    return load_file(output)


def loaded(models):
    return comfy.sd.load_checkpoint_guess_config(str(models / "checkpoints" / "train_sd15.ckpt"))[:3]


def test_the_text_encoders_identity_is_that_of_what_captions_pass(models):
    """SD1.5's files bring no text_projection, and the host leaves in it what memory held."""

    def identity():
        return models_of(model, clip, vae, None, "fp32", CPU).encoders.identity

    model, clip, vae = loaded(models)
    first, encoder = identity(), clip.cond_stage_model.clip_l
    encoder.transformer.text_projection.weight.data.normal_()
    encoder.logit_scale.data += 1
    assert identity() == first
    encoder.transformer.text_model.final_layer_norm.bias.data += 1
    assert identity() != first


def test_patches_are_part_of_the_frozen_base_and_the_model_stays_as_it_is(models):
    model, clip, vae = loaded(models)
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    before = model.model.diffusion_model.state_dict()[key.removeprefix("diffusion_model.")].clone()
    change = torch.randn_like(before)
    patched = model.clone()
    patched.add_patches({key: ("diff", (change,))}, 0.5)
    base, _ = models_of(patched, clip, vae, None, "fp32", CPU).training_parts()
    weights = base.unet.state_dict()[key.removeprefix("diffusion_model.")]
    assert torch.allclose(weights, before.float() + 0.5 * change.float(), atol=1e-3)
    assert torch.equal(model.model.diffusion_model.state_dict()[key.removeprefix("diffusion_model.")], before)


def test_models_that_training_is_not_for_are_refused(models):
    model, clip, vae = loaded(models)
    (v_model,) = ModelSamplingDiscrete().patch(model, "v_prediction", False)
    module = load_motion_module("train_v3.safetensors")
    for arguments, message in (
        ((v_model, clip, vae, None), "does not predict noise"),
        ((model, None, vae, None), "no text encoder"),
        ((model, clip, None, None), "no VAE"),
        ((host_models.image_model("SDXL"), clip, vae, None), "not for SDXL"),
        ((host_models.image_model(), clip, vae, module), "The motion module does not fit this model: it is"),
    ):
        with pytest.raises(ValueError, match=message):
            models_of(*arguments, "fp32", CPU)


def test_encoders_are_known_again_with_the_same_patches_alone(models):
    model, clip, vae = loaded(models)
    key, weight = next(item for item in clip.cond_stage_model.state_dict().items() if item[0].endswith("fc1.weight"))
    change = torch.rand(weight.shape)

    def identity(*strengths):
        patched = clip.clone()
        for strength in strengths:
            patched.add_patches({key: ("diff", (change.clone(),))}, strength)
        return models_of(model, patched, vae, None, "fp32", CPU).encoders.identity

    assert identity(0.5) == identity(0.5), "each is loaded anew"
    assert len({identity(), identity(0.5), identity(0.7), identity(0.5, 0.7)}) == 4


def test_what_was_trained_is_gone_when_it_is_done(models, videos):
    from animatic_pack.nodes.host.training import train as training

    model, clip, vae = loaded(models)
    networks = []

    def noted(*args, **kwargs):
        run = prepare_run(*args, **kwargs)
        networks.append(weakref.ref(run.trainer))
        return run

    clips = TrainingClips(tuple(videos_in_folder(videos / "videos")), ClipSampling(4, 1, size=(64, 64)))
    options = training.TrainingOptions(precision="fp32", validate_every=0, preview_every=0)
    settings = options.settings(1, 1e-3, "fp32")
    job = training.Job(STAGES["motion_module"], clips, "gone", settings, options)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training, "prepare_run", noted)
        patched.setattr(folder_paths, "output_directory", str(videos))
        training.train(job, models_of(model, clip, vae, None, "fp32", CPU), vae)
    assert networks[0]() is None
