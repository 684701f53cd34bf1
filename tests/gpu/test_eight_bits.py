"""A MotionLoRA whose strength changes while sampling, where the user asked for 8-bit weights."""

from animatic_pack.lora.files import read_motion_lora
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.loras import LoadedMotionLora
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.nodes.timeline.keyframes import Keyframes
import comfy.cli_args
from host_models import CHANNELS, image_model, motion_module_of, sample
from reference import relative_error
from small_models import motion_lora_state_dict
import torch

V3 = MotionSettings("v3")


def test_a_scheduled_motion_lora_acts_as_in_wide_numbers(card, monkeypatch):
    model = image_model(dtype=torch.float16, device=card)
    weights = motion_lora_state_dict(channels=CHANNELS["SD1.5"], modules=2)
    lora = read_motion_lora({key: value * 2e-3 for key, value in weights.items()})  # less than 8 bits can tell from 0
    stack = (LoadedMotionLora("small", 2e5, lora, (), Keyframes((0.0, 1.0), (1.0, 0.5))),)

    def effect_of_the_lora(module):
        with_it, without = (sample(apply_motion_module(model, module, V3, motion_loras=loras)) for loras in (stack, ()))
        return with_it - without

    wide = effect_of_the_lora(motion_module_of("v3", dtype=torch.float16, modules=2))
    monkeypatch.setattr(comfy.cli_args.args, "fp8_e4m3fn_unet", True)
    module = motion_module_of("v3", dtype=torch.float16, modules=2)
    narrow = effect_of_the_lora(module)
    assert torch.float8_e4m3fn in {parameter.dtype for parameter in module.patcher.model.parameters()}
    assert relative_error(narrow, wide) < 0.3, "8-bit motion weights change it a little; 8-bit factors would be 0"
