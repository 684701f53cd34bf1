"""Poses of Animate Anyone on the real host: frame i follows pose i, whatever windows, conds and sizes there are."""

from contextlib import nullcontext
import random

from animate_models import GUIDER, animate, pictures, pose_guider, reference, reference_net, vae
from animatic_pack.animate_anyone.pose_guider import paper_layout
from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.nodes.timeline.windows import FUSE_METHODS, SCHEDULES
from host_models import answering, image_model, motion_file, sample
import pytest
from reference import relative_error
import torch

LAYOUTS = {"released": GUIDER, "paper": paper_layout((4, 4, 8, 8))}


@pytest.fixture(scope="module")
def model():
    return image_model()


@pytest.fixture(scope="module")
def seen():
    return reference(reference_net(), vae(), pictures())


@pytest.fixture(scope="module")
def first_layer_alone():
    """A MODEL whose UNet is its first convolution, cut to the latent's channels."""
    model = image_model(seed=2)
    unet = model.model.diffusion_model

    def first(x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        return unet.input_blocks[0][0](x)[:, :4].clone()

    model.model._apply_model = first
    return model


def colours(count, seed):
    """Pictures of one colour each, which no two neighbours share."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randint(64, 192, (count, 1, 1, 3), generator=generator).cumsum(0)
    return (steps % 256 / 255).expand(-1, 16, 24, -1)


def cases():
    random.seed(20260725)
    for frames in [*range(1, 30), *range(30, 200, 17)]:
        length = random.randint(2, min(32, frames + 3))
        options = ContextOptions(
            length,
            random.randint(0, length - 1),
            random.randint(1, 4),
            random.choice(list(SCHEDULES)),
            random.choice(list(FUSE_METHODS)),
        )
        count = random.choice([frames, random.randint(1, frames), 2 * frames])
        yield frames, options, random.random() < 0.5, count


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_frame_follows_its_own_pose(first_layer_alone, seen, layout, short_memory):
    """For every clip length, window, and number of poses, in cond and uncond: what is added is its pose's feature."""
    size, guider = (2, 3), pose_guider(LAYOUTS[layout])
    unet = first_layer_alone.model.diffusion_model
    for frames, options, together, count in cases():
        poses = colours(count, seed=frames)
        # without noise and without a bias, the UNet sees what was added alone
        features = guider.patcher.model(poses.movedim(-1, 1))[[min(i, count - 1) for i in range(frames)]]
        bias = unet.input_blocks[0][0].bias[:4, None, None]
        if layout == "paper":
            features = torch.nn.functional.conv2d(features, unet.input_blocks[0][0].weight, padding=1)
        expected = features[:, :4] + bias
        assert frames == 1 or (count > 1) == (relative_error(features[1], features[0]) > 1e-2), (
            "poses can be told apart"
        )
        model = set_context_options(animate(first_layer_alone, seen, guider, strength=0.0, poses=poses), options)
        denoised = []

        def keep(args, denoised=denoised):
            denoised.append((args["conds_out"], args["input"]))
            return [torch.zeros_like(out) for out in args["conds_out"]]  # so that the latents stay zero

        model.set_model_sampler_pre_cfg_function(keep)
        with nullcontext() if together else short_memory():
            sample(model, frames=frames, steps=2, size=size, disable_noise=True)
        assert len(denoised) == 2
        for conds, latents in denoised:
            assert not latents.any()
            for rows in conds:
                assert relative_error(rows, expected) < 1e-4, (frames, options, together, count)


def test_a_pose_is_encoded_once_in_a_run(model, seen):
    guider, encoded = pose_guider(), []
    guider.patcher.model.register_forward_hook(lambda module, args, out: encoded.append(args[0].shape[0]))
    posed = animate(model, seen, guider, poses=pictures(9))
    cut = set_context_options(posed, ContextOptions(4, 2, context_schedule="uniform standard"))
    sample(cut, frames=9, steps=3, size=(4, 6))
    assert sum(encoded) == 9


@pytest.mark.parametrize("layout", LAYOUTS)
def test_poses_act_in_moving_clips_of_any_size(model, seen, layout):
    """Odd sizes and frame counts; poses of another size are scaled and cropped; half the strength is half of it."""
    motion = load_motion_module(motion_file("v3.safetensors"))
    moving = apply_motion_module(model, motion, MotionSettings("v3"))
    guider, poses, features = pose_guider(LAYOUTS[layout]), pictures(5, 50, 80), {}

    def watch(thing, call, models, prepared):
        answer = thing.answer(call, models, prepared)
        if getattr(thing, "poses", None) is not None:
            features[thing.pose_strength] = answer.latents if layout == "paper" else answer.first_conv
            assert (answer.first_conv if layout == "paper" else answer.latents) is None
        return answer

    results = {}
    for strength in (0.5, 1.0):
        posed = animate(moving, seen, guider, poses=poses, pose_strength=strength)
        results[strength] = sample(answering(posed, watch), frames=5, steps=1, size=(5, 7))
    assert features[1.0].shape == (5, LAYOUTS[layout].out_channels, 5, 7)
    assert torch.equal(features[0.5], features[1.0] * 0.5)
    assert relative_error(results[0.5], results[1.0]) > 1e-3


def test_guider_and_poses_come_together(model, seen):
    with pytest.raises(ValueError, match="misses a Pose Guider: connect Load Pose Guider"):
        animate(model, seen, poses=pictures(2))
    with pytest.raises(ValueError, match="misses poses: connect drawn poses"):
        animate(model, seen, pose_guider())
    wide = pose_guider(LAYOUTS["released"].__class__(GUIDER.channels, GUIDER.strides, 3, 3, 320))
    with pytest.raises(ValueError, match="gives 320 channels, and the model's first convolution 32"):
        animate(model, seen, wide, poses=pictures(2))


def test_too_few_poses_and_no_motion_are_said_once(model, seen, caplog):
    sample(animate(model, seen, pose_guider(), poses=pictures(2)), frames=4, steps=3, size=(4, 6))
    assert [record.message for record in caplog.records if "Animate Anyone" in record.message] == [
        "Animate Anyone: no motion module is applied, so the frames know nothing of each other.",
        "Animate Anyone: 2 poses for 4 frames; the last stays.",
    ]
