"""Small random ControlNets of every kind on the real host, and clips sampled with them."""

from collections import Counter
from functools import partial

from animatic_pack.nodes.host.controls.strength import schedule_strength
from animatic_pack.nodes.timeline.keyframes import parse_numbers
import comfy.controlnet
import comfy.model_detection
import comfy.sd
import comfy.utils
import host_models
from host_models import CPU, conditioning, unet_config
from small_models import random_like
import torch
from torch.nn import Conv2d, Linear

import nodes

FRAMES, SIZE = 6, (6, 8)
sample = partial(host_models.sample, size=SIZE, steps=2)


def network(seed=1, **options):
    config = {**unet_config("SD1.5"), "hint_channels": 3, **options}
    config.pop("out_channels")
    config.pop("transformer_depth_output")
    control = comfy.cldm.cldm.ControlNet(**config)
    generator = torch.Generator().manual_seed(seed)
    control.load_state_dict({k: random_like(v, k, generator) for k, v in control.state_dict().items()})
    return control


def controlnet(seed=1, device=CPU):
    return comfy.controlnet.ControlNet(network(seed), load_device=device)


def union():
    """What a union ControlNet adds is 320 wide in the host, whatever the rest is; here it is as narrow as the rest."""
    parts = network(2)
    generator = torch.Generator().manual_seed(6)
    add = {"operations": torch.nn, "dtype": torch.float32}
    parts.num_control_type = 6
    parts.task_embedding = torch.nn.Parameter(torch.randn(6, 32, generator=generator))
    parts.transformer_layes = torch.nn.Sequential(comfy.cldm.cldm.ResBlockUnionControlnet(32, 8, **add))
    parts.spatial_ch_projs = Linear(32, 32)
    parts.control_add_embedding = lambda kinds, dtype, device: torch.randn(
        128, generator=torch.Generator().manual_seed(kinds[0])
    )
    control = comfy.controlnet.ControlNet(parts, load_device=torch.device("cpu"))
    control.set_extra_arg("control_type", [1])  # as Set Union ControlNet Type does
    return control


def control_lora():
    generator = torch.Generator().manual_seed(4)
    weights = {"lora_controlnet": torch.tensor([])}
    for key, value in network(5).state_dict().items():
        if key.startswith(("input_hint_block.", "zero_convs.", "middle_block_out.")):
            weights[key] = random_like(value, key, generator)
        elif key.endswith("attn1.to_q.weight"):
            weights[key.replace(".weight", ".up")] = torch.randn(value.shape[0], 2, generator=generator)
            weights[key.replace(".weight", ".down")] = torch.randn(2, value.shape[1], generator=generator)
    return comfy.controlnet.ControlLora(weights)


def t2i_adapter():
    """Narrow, and with tensors that stand in its lists several times, as released adapters have."""

    class Adapter(torch.nn.Module):
        unshuffle_amount = 8

        def __init__(self):
            super().__init__()
            self.conv = Conv2d(3, 32, 8, stride=8)

        def forward(self, x):
            feature = self.conv(x)
            return {"input": [None, None, feature, feature]}

    return comfy.controlnet.T2IAdapter(Adapter(), 3, 8, "nearest-exact", device=torch.device("cpu"))


KINDS = {"ControlNet": controlnet, "T2I-adapter": t2i_adapter, "ControlLoRA": control_lora, "union": union}


def images(count=FRAMES, seed=2):
    """In 256 steps: the host's lanczos rounds to them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, SIZE[0] * 8, SIZE[1] * 8, 3), generator=generator) / 255


def applied(control, image, strength=1.0, conds=None, **options):
    conds = conds or (conditioning(seed=1), conditioning(seed=2))
    node = nodes.ControlNetApplyAdvanced()
    return node.apply_controlnet(*conds, control, image, strength, 0.0, 1.0, **options)


def scheduled(conds, by_frame="1", by_step="1", last_stays=False, **options):
    return schedule_strength(conds, parse_numbers(by_frame, "x"), parse_numbers(by_step, "x"), last_stays, **options)


def run(model, conds, frames=FRAMES, **options):
    return sample(model, frames=frames, positive=conds[0], negative=conds[1], **options)


def count_prepared(monkeypatch):
    """How often the host resizes hints from now on, by their number of rows."""
    counts = Counter()
    original = comfy.utils.common_upscale

    def counted(samples, *args):
        counts[samples.shape[0]] += 1
        return original(samples, *args)

    monkeypatch.setattr(comfy.utils, "common_upscale", counted)
    return counts
