"""Clips of 1 to 200 frames in windows of any shape: what belongs to a frame meets that frame.

The host samples, batches and windows as always; only its UNet is replaced by a function of what each row was given, so
that a row with another frame's hint, prompt, mask, motion number, strength or cfg changes it.
"""

from contextlib import nullcontext
from dataclasses import replace
import random

from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.host.clip.guidance import set_cfg_schedule
from animatic_pack.nodes.host.controls.strength import schedule_strength
from animatic_pack.nodes.host.core.call import Answer
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.control import MotionControl
from animatic_pack.nodes.host.motion.module import load_motion_module
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.nodes.timeline.keyframes import Keyframes
from animatic_pack.nodes.timeline.windows import FUSE_METHODS, SCHEDULES
import comfy.controlnet
from host_models import answering, image_model, motion_file, sample
import pytest
from reference import relative_error
import torch

SIZE = (2, 3)


class Numbers(torch.nn.Module):
    """A control model that hands its hint's number on to the UNet."""

    dtype = torch.float32

    def forward(self, x, hint, **kwargs):
        assert hint.shape[0] in (1, x.shape[0])
        return {"input": [], "middle": [hint[:, :1, :1, :1].expand(x.shape[0], 1, 1, 1).clone()], "output": []}


@pytest.fixture(scope="module")
def model():
    """The UNet is a function of prompt, hint, motion_scale and effect of each row."""
    model = image_model()
    acting = {}

    def watch_strengths(settings, call, models, prepared):
        acting["now"] = settings.factors_in(call, prepared)
        return Answer()

    def unet(x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        conds = len(transformer_options["cond_or_uncond"])
        result = c_crossattn[:, :1, :1, None] + 3 * control["middle"][0]
        for factor, value in ((5, acting["now"].motion_scale), (7, acting["now"].effect)):
            result = result + factor * value.at(x).repeat(conds, 1, 1, 1)
        return result.expand(-1, 4, *SIZE).clone()

    model.model._apply_model = unet
    return model, watch_strengths


def numbered(count, seed):
    """Rows of one number each."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def keyframes(numbers):
    """A number for each frame, the last one staying."""
    return Keyframes(tuple(range(len(numbers))), tuple(numbers.tolist()))


def expected_rows(frames, prompts, hints, controls):
    """What the replaced UNet gives for each frame, from its own rows; (frames, 4, H, W) of cond or uncond."""
    i = torch.arange(frames)
    scale, effect, effect_masks, strength, strength_masks = controls
    strengths = strength[i.clamp(max=len(strength) - 1)] * strength_masks[i.clamp(max=len(strength_masks) - 1)]
    value = prompts[i % len(prompts)] + 3 * hints[i % len(hints)] * strengths
    value = value + 5 * scale[i.clamp(max=len(scale) - 1)]
    value = value + 7 * effect[i.clamp(max=len(effect) - 1)] * effect_masks[i.clamp(max=len(effect_masks) - 1)]
    return value[:, None, None, None].expand(-1, 4, *SIZE)


def cases():
    """For each clip length one random case; every schedule and both ways of batching come up about 50 and 100 times."""
    random.seed(20260724)
    for frames in range(1, 201):
        length = random.randint(2, min(32, frames + 3))
        yield (
            frames,
            ContextOptions(
                length,
                random.randint(0, length - 1),
                random.randint(1, 4),
                random.choice(list(SCHEDULES)),
                random.choice(list(FUSE_METHODS)),
                loop_one_window=random.random() < 0.5,
            ),
            random.random() < 0.5,
            [frames, random.randint(1, frames), 2 * frames][random.randrange(3)],
            [frames, random.randint(1, frames)][random.randrange(2)],
        )


@pytest.mark.parametrize("part", range(8))
def test_every_frame_meets_what_is_its_own(model, part, short_memory):
    model, watch_strengths = model
    motion = load_motion_module(motion_file("v3.safetensors"))
    for frames, options, together, num_hints, num_prompts in list(cases())[part::8]:
        hints = numbered(num_hints, 1)
        prompts = [numbered(num_prompts, 2), numbered(frames, 3)]
        scale, effect, effect_masks = numbered(frames, 4), numbered(max(1, frames // 2), 5), numbered(num_prompts, 6)
        conds = []
        masks = numbered(frames, 7)
        control = comfy.controlnet.ControlNet(Numbers(), load_device=torch.device("cpu"))
        control.set_cond_hint(hints[:, None, None, None].expand(-1, 3, SIZE[0] * 8, SIZE[1] * 8), 1.0, (0.0, 1.0))
        for rows in prompts:
            options_of = {"control": control, "control_apply_to_uncond": False}
            conds.append([[rows[:, None, None].expand(-1, 8, 768), options_of]])
        # a second positive cond, masked frame by frame: the two are averaged by their masks
        conds[0][0][1].update(mask=masks[:, None, None].expand(-1, *SIZE), mask_strength=1.0)
        conds[0].append([torch.full((1, 8, 768), 0.3), {"control": control, "control_apply_to_uncond": False}])

        strength, strength_masks, cfg = numbered(frames // 3 + 1, 8), numbered(num_prompts, 9), numbered(frames, 10)
        once = Keyframes((0.0,), (1.0,))
        mask = strength_masks[:, None, None].expand(-1, 2, 2)
        conds = schedule_strength(tuple(conds), keyframes(strength), once, last_hint_stays=False, mask=mask)
        motion_control = MotionControl(keyframes(scale), keyframes(effect), effect_mask=effect_masks[:, None, None])
        if frames == 1:  # a list of one is a number, which the replaced UNet does not expect
            motion_control = MotionControl(
                motion_control.motion_scale,
                motion_control.effect,
                torch.ones(1, 1, 1),
                motion_control.effect_mask,
            )
        animated = apply_motion_module(model, motion, MotionSettings("v3", controls=(motion_control,)), "use existing")
        cut = set_context_options(answering(animated, watch_strengths), options)
        if together:  # other windows in the second half of sampling
            cut = set_context_options(cut, replace(options, context_schedule="uniform looped", start_percent=0.5))
        cut = set_cfg_schedule(cut, None, keyframes(cfg))
        denoised, guided = [], []

        def keep(args, denoised=denoised):
            denoised.append(args["conds_out"])
            return args["conds_out"]

        def keep_guided(args, guided=guided):
            guided.append(args["denoised"])
            return args["denoised"]

        cut.set_model_sampler_pre_cfg_function(keep)
        cut.set_model_sampler_post_cfg_function(keep_guided)
        with nullcontext() if together else short_memory():
            sample(cut, frames=frames, steps=2, size=SIZE, positive=conds[0], negative=conds[1], cfg=2.0)

        controls = scale, effect, effect_masks, strength, strength_masks
        first = expected_rows(frames, prompts[0], hints, controls)
        second = expected_rows(frames, torch.tensor([0.3]), hints, controls)
        share = masks[:, None, None, None]
        wanted = (first * share + second) / (share + 1)
        uncond = expected_rows(frames, prompts[1], hints, controls)
        assert len(denoised) == len(guided) == 2
        with_cfg = uncond + 2.0 * cfg[:, None, None, None] * (wanted - uncond)
        assert all(relative_error(each, with_cfg) < 1e-4 for each in guided), (frames, options, together)
        for positive, negative in denoised:
            assert relative_error(positive, wanted) < 1e-4, (frames, options, together)
            assert relative_error(negative, uncond) < 1e-4, (frames, options, together)
