"""Files of Animate Anyone in their released layouts, a Pose Guider from its description, other files by name."""

from animatic_pack.animate_anyone.checkpoint import read_pose_guider, read_reference_net
from animatic_pack.animate_anyone.pose_guider import PoseGuider, paper_layout, released_layout
from animatic_pack.motion_modules.file_kind import FileKind, file_kind
import pytest
from reference import relative_error
from small_models import motion_state_dict, pose_guider_state_dict
import torch
from torch import nn

# What patrolli/AnimateAnyone's pose_guider.pth holds.
RELEASED = {
    "conv_in": (16, 3, 3, 3),
    "blocks.0": (16, 16, 3, 3),
    "blocks.1": (32, 16, 3, 3),
    "blocks.2": (32, 32, 3, 3),
    "blocks.3": (96, 32, 3, 3),
    "blocks.4": (96, 96, 3, 3),
    "blocks.5": (256, 96, 3, 3),
    "conv_out": (320, 256, 3, 3),
}
# The paper's: 4 x 4, 16 to 128 channels, and a projection to the latent's.
PAPER = {
    "conv_in": (16, 3, 4, 4),
    "blocks.0": (32, 16, 4, 4),
    "blocks.1": (64, 32, 4, 4),
    "blocks.2": (128, 64, 4, 4),
    "conv_out": (4, 128, 1, 1),
}


def weights_of(shapes):
    sizes = {}
    for name, shape in shapes.items():
        sizes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return pose_guider_state_dict(sizes)


def written_out(weights, images, strides):
    """The convolutions one after the other in float64, SiLU between them."""
    w = {key: value.double() for key, value in weights.items()}
    x = images.double()
    names = ["conv_in", *(f"blocks.{i}" for i in range(len(strides) - 1))]
    for name, stride in zip(names, strides, strict=True):
        kernel = w[f"{name}.weight"].shape[-1]
        after = 2 if kernel == 4 and stride == 1 else 1
        x = nn.functional.pad(x, (1, after, 1, after))
        x = nn.functional.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=stride)
        x = x * torch.sigmoid(x)
    last = w["conv_out.weight"]
    return nn.functional.conv2d(x, last, w["conv_out.bias"], padding=last.shape[-1] // 2)


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped"])
@pytest.mark.parametrize(
    "shapes, layout, strides, count",
    [
        (RELEASED, released_layout(), (1, 1, 2, 1, 2, 1, 2), 1_086_480),
        (PAPER, paper_layout(), (2, 2, 2, 1), 173_040 + 516),
    ],
    ids=["released", "paper"],
)
def test_pose_guiders_are_told_apart_by_their_shapes(shapes, layout, strides, count, wrapped):
    weights = weights_of(shapes)
    content = {"state_dict": {f"module.{key}": value for key, value in weights.items()}} if wrapped else weights
    found, read = read_pose_guider(content)
    assert found == layout and read.keys() == weights.keys()
    guider = PoseGuider(found)
    guider.load_state_dict(read, strict=True)
    assert sum(parameter.numel() for parameter in guider.parameters()) == count
    images = torch.rand(2, 3, 40, 56)
    features = guider(images)
    assert features.shape == (2, shapes["conv_out"][0], 5, 7)
    assert relative_error(features, written_out(weights, images, strides)) < 1e-5
    assert found.adds_to_latent == (shapes is PAPER)


@pytest.mark.parametrize(
    "change, problem",
    [
        (lambda w: w.pop("blocks.3.bias"), "misses weights: blocks.3.bias"),
        (lambda w: w.pop("blocks.2.weight"), "misses blocks.2.weight"),
        (lambda w: w.pop("conv_out.weight"), "misses conv_out.weight"),
        (lambda w: w.update({"attn.weight": torch.zeros(1)}), "unexpected weights: attn.weight"),
        (lambda w: w.update({"blocks.4.weight": torch.zeros(96, 90, 3, 3)}), r"blocks.4.weight is \(96, 90, 3, 3\)"),
        (lambda w: w.update({"blocks.3.bias": w["blocks.3.bias"].int()}), r"whole numbers \(int32\) at blocks.3.bias"),
        (lambda w: [w.pop(f"blocks.{n}.{k}") for n in (4, 5) for k in ("weight", "bias")], "conv_out.weight is"),
    ],
)
def test_half_a_pose_guider_is_refused_with_names(change, problem):
    weights = weights_of(RELEASED)
    change(weights)
    with pytest.raises(ValueError, match=problem):
        read_pose_guider(weights)


def test_a_pose_guider_of_another_size_is_refused():
    shapes = {name: shape for name, shape in RELEASED.items() if name not in ("blocks.4", "blocks.5")}
    with pytest.raises(ValueError, match="halves its pictures 2 times, and a latent has 1/8"):
        read_pose_guider(weights_of({**shapes, "conv_out": (320, 96, 3, 3)}))


def diffusers_unet(**options):
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(cross_attention_dim=768, **options).state_dict()


def without_last(weights):
    return {key: value for key, value in weights.items() if not key.startswith(("conv_norm_out.", "conv_out."))}


def test_a_released_reference_net_is_sd15_without_its_last_layers():
    whole = diffusers_unet()
    weights = without_last(whole)
    assert (len(whole), len(weights)) == (686, 682)
    config, read = read_reference_net(weights)
    assert read.keys() == weights.keys()
    wanted = {
        "model_channels": 320,
        "channel_mult": [1, 2, 4, 4],
        "num_res_blocks": [2, 2, 2, 2],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "context_dim": 768,
    }
    assert {key: config[key] for key in wanted} == wanted


def test_other_files_are_named():
    unet = diffusers_unet()
    vision = {"vision_model.embeddings.class_embedding": torch.zeros(4), "visual_projection.weight": torch.zeros(4, 4)}
    files = {
        FileKind.REFERENCE_NET: without_last(unet),
        FileKind.IMAGE_UNET: unet,
        FileKind.POSE_GUIDER: weights_of(PAPER),
        FileKind.IMAGE_ENCODER: vision,
        FileKind.MOTION_MODULE: motion_state_dict((32,)) | {"conv_in.weight": torch.zeros(32, 4, 3, 3)},
    }
    for kind, weights in files.items():
        assert file_kind(weights) is kind
        for wanted, read in ((FileKind.REFERENCE_NET, read_reference_net), (FileKind.POSE_GUIDER, read_pose_guider)):
            if kind is not wanted:
                with pytest.raises(ValueError, match=f"this file is {kind.value}"):
                    read(weights)
    for read in (read_reference_net, read_pose_guider):
        with pytest.raises(ValueError, match="this file is empty"):
            read(torch.zeros(3))
    cut = {key: value for key, value in without_last(unet).items() if not key.startswith("up_blocks.3")}
    with pytest.raises(ValueError, match="4 down blocks and 3 up blocks"):
        read_reference_net(cut)
