"""A motion module inside the host's UNet against references: structural insertion in float64, and diffusers."""

from collections import Counter
import copy
from functools import partial

from animatic_pack.motion_modules.checkpoint import read_motion_module
from animatic_pack.motion_modules.motion_module import MotionModule
from animatic_pack.nodes.host.core.call import Answer
from animatic_pack.nodes.host.core.unet import answers_in_unet
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
import comfy.utils
from host_models import CHANNELS, UNETS, unet_config
import pytest
from reference import group_norm, relative_error, temporal_transformer
from small_models import motion_state_dict, random_like
import torch
from torch import nn

# Where released motion modules sit: UNet list, block, position at which the module is inserted into that block.
DOWN = {
    "SD1.5": {
        (0, 0): (1, 2),
        (0, 1): (2, 2),
        (1, 0): (4, 2),
        (1, 1): (5, 2),
        (2, 0): (7, 2),
        (2, 1): (8, 2),
        (3, 0): (10, 1),
        (3, 1): (11, 1),
    },
    "SDXL": {(0, 0): (1, 1), (0, 1): (2, 1), (1, 0): (4, 2), (1, 1): (5, 2), (2, 0): (7, 2), (2, 1): (8, 2)},
}
UP = {
    "SD1.5": [1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2],
    "SDXL": [2, 2, 2, 2, 2, 2, 1, 1, 1],
}
FAMILIES = {
    "v1": ("SD1.5", dict(max_frames=24), True, False),
    "v2": ("SD1.5", dict(mid=True), False, False),
    "v3": ("SD1.5", dict(), False, False),
    "AnimateDiff SDXL": ("SDXL", dict(), False, True),
    "HotShotXL": ("SDXL", dict(max_frames=24), True, False),
}


class Reference(nn.Module):
    def __init__(self, weights: dict, num_frames: int, norm_over_frames: bool):
        super().__init__()
        self.arguments = weights, num_frames, norm_over_frames

    def forward(self, x):
        weights, num_frames, norm_over_frames = self.arguments
        return temporal_transformer(weights, x, num_frames, norm_over_frames)


class NormOverFrames(nn.Module):
    def __init__(self, norm: nn.GroupNorm, num_frames: int):
        super().__init__()
        self.norm, self.num_frames = norm, num_frames

    def forward(self, x):
        video = x.reshape(x.shape[0] // self.num_frames, self.num_frames, *x.shape[1:]).permute(0, 2, 1, 3, 4)
        return (
            group_norm(video, self.norm.weight, self.norm.bias, self.norm.eps).permute(0, 2, 1, 3, 4).reshape(x.shape)
        )


def random_unet(kind: str) -> UNetModel:
    unet = UNetModel(**{k: v for k, v in unet_config(kind).items() if k not in ("dtype",)}, dtype=torch.float32)
    generator = torch.Generator().manual_seed(3)
    unet.load_state_dict({key: random_like(value, key, generator) for key, value in unet.state_dict().items()})
    return unet.eval()


def reference_unet(
    unet: UNetModel, kind: str, motion: dict, num_frames: int, unet_norm: bool, motion_norm: bool
) -> UNetModel:
    unet = copy.deepcopy(unet).double()
    unet.dtype = torch.float64

    def insert(block, at, site):
        prefix = f"{site}.temporal_transformer."
        weights = {key.removeprefix(prefix): value for key, value in motion.items() if key.startswith(prefix)}
        assert weights
        block.insert(at, Reference(weights, num_frames, motion_norm))

    for (level, index), (block, at) in DOWN[kind].items():
        insert(unet.input_blocks[block], at, f"down_blocks.{level}.motion_modules.{index}")
    if any(key.startswith("mid_block") for key in motion):
        insert(unet.middle_block, 2, "mid_block.motion_modules.0")
    for block, at in enumerate(UP[kind]):
        insert(unet.output_blocks[block], at, f"up_blocks.{block // 3}.motion_modules.{block % 3}")
    if unet_norm:
        for module in list(unet.modules()):
            if type(module).__name__ == "ResBlock":
                module.in_layers[0] = NormOverFrames(module.in_layers[0], num_frames)
                module.out_layers[0] = NormOverFrames(module.out_layers[0], num_frames)
        unet.out[0] = NormOverFrames(unet.out[0], num_frames)
    return unet


def call(unet, kind, rows, dtype=torch.float32):
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(rows, 4, 8, 16, generator=generator).to(dtype)
    context = torch.randn(rows, 5, UNETS[kind]["context_dim"], generator=generator).to(dtype)
    y = torch.randn(rows, 2816, generator=generator).to(dtype) if kind == "SDXL" else None
    return unet(x, torch.full((rows,), 321.0), context=context, y=y, transformer_options={})


def answer_of(module, frames, norm_over_frames):
    at_sites = {site: partial(transformer, num_frames=frames) for site, transformer in module.sites.items()}
    return {0: Answer(at_sites, norm_over_frames=norm_over_frames)}


@pytest.mark.parametrize("conds", [1, 2], ids=["no-cfg", "cfg"])
@pytest.mark.parametrize("frames", [1, 8, 16, 24])
@pytest.mark.parametrize("family", FAMILIES)
def test_whole_motion_module_agrees_with_structural_insertion(family, frames, conds):
    kind, options, unet_norm, motion_norm = FAMILIES[family]
    raw = motion_state_dict(CHANNELS[kind], modules=2, **options)
    config, weights = read_motion_module(raw)
    assert (config.family.unet_norm_over_frames, config.family.motion_norm_over_frames) == (unet_norm, motion_norm)
    module = MotionModule(config, nn)
    module.load_state_dict(weights)
    unet = random_unet(kind)
    ran = Counter()
    with answers_in_unet(unet, answer_of(module, frames, config.family.unet_norm_over_frames), frames, ran):
        result = call(unet, kind, frames * conds)
    expected = call(
        reference_unet(unet, kind, raw, frames, unet_norm, motion_norm), kind, frames * conds, torch.float64
    )
    assert ran[0] == 1
    assert relative_error(result, expected) < 1e-5
    assert relative_error(call(unet, kind, frames * conds), expected) > 1e-2, "without motion it must differ"


@pytest.mark.parametrize("frames", [1, 8, 16, 24])
def test_whole_motion_module_agrees_with_diffusers(frames):
    """diffusers takes the motion norm over frames in every family; with that switched on the two must agree."""
    from dataclasses import replace

    from diffusers import UNetMotionModel

    theirs = UNetMotionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=CHANNELS["SD1.5"],
        layers_per_block=2,
        cross_attention_dim=768,
        num_attention_heads=8,
        motion_num_attention_heads=8,
        motion_max_seq_length=32,
        use_motion_mid_block=True,
        norm_num_groups=32,
        down_block_types=("CrossAttnDownBlockMotion",) * 3 + ("DownBlockMotion",),
        up_block_types=("UpBlockMotion",) + ("CrossAttnUpBlockMotion",) * 3,
    ).eval()
    generator = torch.Generator().manual_seed(5)
    weights = {k: v if k.endswith(".pe") else random_like(v, k, generator) for k, v in theirs.state_dict().items()}
    theirs.load_state_dict(weights)
    config, motion = read_motion_module({k: v for k, v in weights.items() if ".motion_modules." in k})
    module = MotionModule(replace(config, family=replace(config.family, motion_norm_over_frames=True)), nn)
    module.load_state_dict(motion)
    unet = random_unet("SD1.5")
    names = comfy.utils.unet_to_diffusers(unet_config("SD1.5"))
    unet.load_state_dict({names[k]: v for k, v in weights.items() if k in names}, strict=True)

    x = torch.randn(2, 4, frames, 8, 16)
    context = torch.randn(2, 5, 768)
    context = context.repeat_interleave(frames, 0)
    expected = theirs(x, 321, context).sample  # (B, C, F, H, W)
    rows = x.transpose(1, 2).flatten(0, 1)
    with answers_in_unet(unet, answer_of(module, frames, False), frames, Counter()):
        result = unet(rows, torch.full((2 * frames,), 321.0), context=context, transformer_options={})
    assert relative_error(result, expected.transpose(1, 2).flatten(0, 1)) < 1e-5


def test_nothing_stays_on_the_unet():
    unet = random_unet("SD1.5")
    names = list(unet.state_dict())
    config, weights = read_motion_module(motion_state_dict(CHANNELS["SD1.5"], modules=2, max_frames=24))
    module = MotionModule(config, nn)
    module.load_state_dict(weights)
    plain = call(unet, "SD1.5", 4)
    with pytest.raises(RuntimeError, match="out of memory"):
        with answers_in_unet(unet, answer_of(module, 4, True), 4, Counter()):
            assert list(unet.state_dict()) == names
            call(unet, "SD1.5", 4)
            raise RuntimeError("out of memory")
    assert not any("forward" in m.__dict__ for m in unet.modules())
    assert torch.equal(call(unet, "SD1.5", 4), plain)
