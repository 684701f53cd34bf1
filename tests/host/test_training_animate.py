"""Animate Anyone trained around the host's models: what was trained is what the host samples."""

from animate_models import TOKEN, pictures, pose_guider, reference, reference_net, vae
from animatic_pack.nodes.host.core.folders import ANIMATE_ANYONE, register_model_folders
from animatic_pack.nodes.host.core.latents import encode_images
from animatic_pack.nodes.host.core.unet import motion_sites, site_channels
from animatic_pack.nodes.host.motion.beta_schedule import set_beta_schedule
from animatic_pack.nodes.host.reference.animate import SAMPLINGS, Animation, apply_animate_anyone
from animatic_pack.nodes.host.reference.load import load_pose_guider, load_reference_net
from animatic_pack.nodes.host.training.animate import AnimateModels, open_models, reference_names
from animatic_pack.nodes.host.training.models import OpenedModels, plain_unet
from animatic_pack.nodes.host.training.train import TrainingOptions
from animatic_pack.nodes.media.encode import Clip
from animatic_pack.nodes.media.formats import FORMATS
from animatic_pack.nodes.train_animate_anyone import NOISE, TrainAnimateAnyone, TrainAnimateAnyoneMotion, V
from animatic_pack.nodes.training_clips import ONLY_IMAGES, PoseClips, VideoDataset
from animatic_pack.training.animate_anyone import fresh_animate_denoiser
from animatic_pack.training.command_line import main
from animatic_pack.training.noise import alphas_cumprod
from animatic_pack.training.stages import ANIMATE_ANYONE_MOTION, STAGES
import comfy.sd
import folder_paths
import host_models
from host_models import CPU, image_model, motion_module_of, sample
import numpy as np
import pytest
from reference import relative_error
import small_models
import torch
from video_files import write_clip

HEIGHT, WIDTH, FRAMES = 8, 16, 3
CONFIG = """
stage = "{stage}"
output = "{output}"
state = "state_{stage}"
validate_every = 2
validation_clips = 1
[models]
checkpoint = "animate_sd15.ckpt"
clip_vision = "animate_clip.pth"
{models}
[data]
folder = "videos"
poses = "poses"
[clips]
num_frames = 2
stride = 1
size = [64, 64]
[training]
steps = 2
batch_size = 1
learning_rate = 1e-3
precision = "fp32"
recompute = true
"""


@pytest.mark.parametrize("zero_snr", [True, False])
def test_the_schedule_is_the_one_that_is_sampled(zero_snr):
    model = image_model()
    set_beta_schedule(model, SAMPLINGS[V if zero_snr else NOISE])
    sigmas = model.get_model_object("model_sampling").sigmas.double()
    ours = alphas_cumprod("sqrt_linear", zero_snr)
    assert torch.allclose((1 / (sigmas**2 + 1)).float(), ours, atol=1e-6)


def test_what_is_trained_predicts_what_the_host_samples(monkeypatch):
    """The host's call of its UNet in a run, repeated by the network under training."""
    model, net, guider, encoder, seen = image_model(), reference_net(), pose_guider(), vae(), pictures()
    poses = torch.randint(256, (FRAMES, 8 * HEIGHT, 8 * WIDTH, 3)) / 255
    motion = motion_module_of("trained")
    looked_at = reference(net, encoder, seen)
    calls = []
    model.model.diffusion_model.register_forward_hook(
        lambda module, args, kwargs, out: calls.append((args, kwargs, out)), with_kwargs=True
    )
    applied = apply_animate_anyone(model, Animation(looked_at, poses=poses), guider)
    look = looked_at.embeddings[None]
    prompts = {"positive": [[look, {}]], "negative": [[torch.zeros_like(look), {}]]}
    sample(applied, frames=FRAMES, size=(HEIGHT, WIDTH), steps=2, **prompts)
    opened = OpenedModels(model, None, motion, torch.float32, CPU)
    base, parts = AnimateModels(opened, net, guider).training_parts()
    denoiser = fresh_animate_denoiser(STAGES[ANIMATE_ANYONE_MOTION], base, parts, 0)
    for transformer in denoiser.trained.sites.values():  # what acts, but for motion, which this MODEL has none of
        transformer.proj_out.weight.zero_(), transformer.proj_out.bias.zero_()
    latent = encode_images(encoder, seen, HEIGHT, WIDTH, model.model.process_latent_in, "center")
    (x, t), kwargs, wanted = calls[-1]
    context = kwargs["context"]
    conds = len(x) // FRAMES
    with denoiser.running(FRAMES):
        found = denoiser(
            x.unflatten(0, (conds, FRAMES)),
            t[::FRAMES],
            context[::FRAMES],
            latent.expand(conds, -1, -1, -1),
            (poses * 255).to(torch.uint8).movedim(-1, 1).expand(conds, -1, -1, -1, -1),
        )
    assert conds == 2 and relative_error(found.flatten(0, 1), wanted) < 1e-4
    assert relative_error(wanted[:FRAMES], wanted[FRAMES:]) > 1e-3


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("animate_training") / "models"
    register_model_folders()
    small_models.write(folder / "checkpoints", "animate_sd15.ckpt", small_models.checkpoint("SD1.5"))
    small_models.write(folder / "clip_vision", "animate_clip.pth", small_models.image_encoder_of_clip())
    for key in ("checkpoints", "clip_vision", ANIMATE_ANYONE, "diffusion_models", "animatediff_models"):
        folder_paths.add_model_folder_path(key, str(folder / key), is_default=True)
    return folder


@pytest.fixture
def videos(tmp_path):
    drawn = np.random.default_rng(1).random((2, 80, 80, 3), np.float32)
    for name, texture in zip(("videos", "poses"), drawn, strict=True):
        (tmp_path / name).mkdir()
        frames = [np.roll(texture, shift, axis=1)[:64, :64] for shift in range(6)]
        write_clip(frames, Clip(64, 64, 8.0, seconds=0.75), FORMATS["video/h264-mp4"], tmp_path / name / "a.mp4", 10, 0)
    return tmp_path


def test_both_stages_go_from_videos_to_files_that_the_loaders_read(models, videos):
    def run(stage: str, output, more: str = "") -> int:
        path = videos / f"{stage}.toml"
        path.write_text(CONFIG.format(stage=stage, output=output, models=more))
        return main([str(path)], lambda base_directory: open_models)

    assert run("animate_anyone", models / ANIMATE_ANYONE / "me.safetensors") == 0
    unet = models / ANIMATE_ANYONE / "me_denoising_unet.safetensors"
    (models / "diffusion_models").mkdir(exist_ok=True)
    unet.rename(models / "diffusion_models" / unet.name)
    names = 'diffusion_model = "me_denoising_unet.safetensors"\nreference_unet = "me_reference_unet.safetensors"\n'
    names += 'pose_guider = "me_pose_guider.safetensors"'
    net, guider = load_reference_net("me_reference_unet.safetensors"), load_pose_guider("me_pose_guider.safetensors")
    model = comfy.sd.load_diffusion_model(str(models / "diffusion_models" / unet.name))
    start, _, _, _ = comfy.sd.load_checkpoint_guess_config(str(models / "checkpoints" / "animate_sd15.ckpt"))
    begun, first, second = (m.model.diffusion_model.state_dict() for m in (start, model, net.patcher))
    assert begun.keys() == first.keys() == second.keys()
    key = "input_blocks.1.1.transformer_blocks.0.attn1.to_k.weight"
    changed = [relative_error(trained[key], begun[key]) for trained in (first, second)]
    assert all(0 < change < 0.5 for change in changed) and changed[0] != changed[1]
    assert guider.layout.out_channels == 320 and set(reference_names(model)) < first.keys()
    assert run("animate_anyone_motion", models / "animatediff_models" / "me_motion.safetensors", names) == 0
    from animatic_pack.nodes.host.motion.module import load_motion_module

    assert load_motion_module("me_motion.safetensors").config.max_frames == 32


def test_the_nodes_train_and_hand_on(models, monkeypatch, tmp_path):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    images, poses = ((torch.arange(2) / 10 + first).expand(64, 64, 3, 2).movedim(-1, 0) for first in (0.0, 0.5))
    model, _, encoder, _ = comfy.sd.load_checkpoint_guess_config(str(models / "checkpoints" / "animate_sd15.ckpt"))
    vision = comfy.clip_vision.load(str(models / "clip_vision" / "animate_clip.pth"))
    drawing = {"num_frames": 2, "stride": 1, "frame_rate": 0.0, "clips_per_video": 1, "flip": False, "clip_seed": 0}
    with torch.inference_mode():
        dataset = VideoDataset().draw(ONLY_IMAGES, "", "", 64, 64, images=images, **drawing)["result"][0]
        clips, shown = PoseClips().pose(dataset, ONLY_IMAGES, poses)["result"]
        assert torch.allclose(shown, torch.cat((images, poses), dim=2), atol=1e-5)
        with pytest.raises(ValueError, match="No clip has poses"):
            PoseClips().pose(dataset, ONLY_IMAGES)
        common = {"vae": encoder, "clip_vision": vision, "clips": clips, "steps": 1, "learning_rate": 1e-4}
        common |= {"prediction": V}
        unseen = TrainingOptions(preview_every=0)
        done = TrainAnimateAnyone().train(model=model, filename="mine", options=unseen, **common)["result"]
        trained, net, guider, curve, files = done
        assert [name.rpartition("mine_")[2] for name in files.splitlines()] == [
            "reference_unet.safetensors",
            "pose_guider.safetensors",
            "denoising_unet.safetensors",
        ]
        assert len(curve.reports) == 1 and len(curve.validation) == 2
        parts = {"model": trained, "reference_net": net, "pose_guider": guider}
        second = TrainAnimateAnyoneMotion().train(filename="mine_motion", **parts, **common)
        motion, _, file = second["result"]
    assert second["ui"]["images"], "the preview plays"
    assert motion.config.max_frames == 32 and file.endswith("mine_motion.safetensors")
    assert TOKEN == 768 and host_models.WIDTH == 32
    assert all(site_channels(layer) == 320 for layer in motion_sites(plain_unet(trained, torch.float32, CPU)).values())
