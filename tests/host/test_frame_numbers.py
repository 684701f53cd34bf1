"""Numbers by frame as a list and as masks, and the masks on prompts in context windows."""

from contextlib import nullcontext

from animatic_pack.nodes.host.clip.context_windows import ContextOptions, set_context_options
from animatic_pack.nodes.numbers import FrameNumbers
import comfy.hooks
from comfy_extras.nodes_hooks import PairConditioningSetDefaultAndCombine, PairConditioningSetProperties
from host_models import conditioning, image_model, sample
import pytest
from reference import relative_error
import torch


def made(by_frame, num_frames=6, curve="linear", **options):
    return FrameNumbers().make(by_frame, num_frames, 3, 2, curve, **options)


def test_numbers_and_masks_agree():
    numbers, masks, count = made("1: 0, 5: 2")
    assert numbers == pytest.approx([0, 0, 0.5, 1, 1.5, 2]) and count == 6 and masks.shape == (6, 2, 3)
    assert torch.equal(masks[:, 0, 0], torch.tensor([0, 0, 0.5, 1, 1, 1]))
    assert made([0.25, 0.5])[0] == [0.25, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert made("1", latent={"samples": torch.zeros(9, 4, 2, 3)})[2] == 9


def test_a_prompt_from_a_frame_on_in_windows():
    """Frames before have one prompt, frames from then on the other; without motion each is as in a run of its own."""
    model = set_context_options(image_model(), ContextOptions(4, 1))
    size, frames = (4, 6), 7
    first, second = conditioning(seed=1), conditioning(seed=5)
    masks = [made(text, frames)[1] for text in ("0: 1, 2: 1, 3: 0", "0: 0, 2: 0, 3: 1")]
    both = [
        [cond[0][0], {**cond[0][1], "mask": mask, "mask_strength": 1.0, "set_area_to_bounds": False}]
        for cond, mask in zip((first, second), masks, strict=True)
    ]
    runs = [sample(model, frames, steps=2, size=size, positive=cond) for cond in (first, second)]
    result = sample(model, frames, steps=2, size=size, positive=both)
    assert relative_error(result, torch.cat([runs[0][:3], runs[1][3:]])) < 1e-4


@pytest.mark.parametrize("together", [True, False])
def test_a_lora_from_a_frame_on_with_the_hosts_own_hooks(together, short_memory):
    """As in the workflow lora_from_frame: frames before are without the LoRA, frames from then on with it."""
    plain = image_model()
    key = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    change = torch.randn(plain.model.state_dict()[key].shape, generator=torch.Generator().manual_seed(9))
    hooks = comfy.hooks.HookGroup()
    hook = comfy.hooks.WeightHook()
    hook.weights, hook.need_weight_init = {key: ("diff", (change,))}, False
    hooks.add(hook)
    model = set_context_options(plain, ContextOptions(4, 1))
    size, frames = (4, 6), 7
    masks = made("0: 0, 3: 1", frames, "step")[1]
    with_lora = PairConditioningSetProperties().set_properties(
        conditioning(seed=1), conditioning(seed=2), 1.0, "default", masks, hooks
    )
    conds = PairConditioningSetDefaultAndCombine().set_default_and_combine(
        *with_lora, conditioning(seed=1), conditioning(seed=2)
    )
    patched = plain.clone()
    patched.add_patches({key: ("diff", (change,))})
    with nullcontext() if together else short_memory():
        result = sample(model, frames, steps=2, size=size, positive=conds[0], negative=conds[1])
    before, after = (sample(each, frames, steps=2, size=size) for each in (plain, patched))
    assert relative_error(after, before) > 1e-3
    assert relative_error(result, torch.cat([before[:3], after[3:]])) < 1e-4
