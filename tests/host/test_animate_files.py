"""Files of Animate Anyone through the nodes that load them: the released layouts at full shape, and every wrong choice.

Weights of full shape are views of one number, so that their files are small, and go to networks that hold nothing.
"""

from contextlib import contextmanager
import warnings

from animate_models import GUIDER, pictures, vae
from animatic_pack.animate_anyone.pose_guider import PoseGuider
from animatic_pack.nodes.animate_anyone import (
    AnimateAnyoneSampling,
    ApplyAnimateAnyone,
    LoadPoseGuider,
    LoadReferenceNet,
)
from animatic_pack.nodes.host.core.folders import ANIMATE_ANYONE
from animatic_pack.nodes.host.core.unet import self_attentions
from animatic_pack.nodes.motion import LoadMotionModule
import comfy.clip_vision
import comfy.model_detection
import comfy.model_management
import folder_paths
from host_models import image_model, sample, unet_config
import pytest
from small_models import POSE_GUIDER_SHAPES, pose_guider_state_dict, random_like
import torch

import nodes

FOLDERS = (ANIMATE_ANYONE, "diffusion_models", "animatediff_models", "clip_vision")
SITES = {f"down_blocks.{i}": (c, 2) for i, c in enumerate((320, 640, 1280, 1280))}
SITES |= {"mid_block": (1280, 1)} | {f"up_blocks.{i}": (c, 3) for i, c in enumerate((1280, 1280, 640, 320))}


def full(shape, dtype=torch.float16):
    return torch.full((1,), 0.01, dtype=dtype).expand(shape)


def like(weights):
    return {key: full(value.shape) if value.is_floating_point() else value for key, value in weights.items()}


def unet():
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        network = UNet2DConditionModel(cross_attention_dim=768)
    return like(network.state_dict())


def reference_unet():
    return {key: value for key, value in unet().items() if not key.startswith(("conv_norm_out.", "conv_out."))}


def image_encoder():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    config = CLIPVisionConfig(**sizes, projection_dim=768, image_size=224, patch_size=14)
    with torch.device("meta"):
        weights = CLIPVisionModelWithProjection(config).state_dict()
    return like({key: value for key, value in weights.items() if not key.endswith("position_ids")})


def motion_module():
    weights = {}
    for block, (c, count) in SITES.items():
        for number in range(count):
            site = f"{block}.motion_modules.{number}.temporal_transformer."
            inner = site + "transformer_blocks.0."
            shapes = {f"{site}norm": (c,), f"{site}proj_in": (c, c), f"{site}proj_out": (c, c)}
            shapes |= {f"{inner}ff.net.0.proj": (8 * c, c), f"{inner}ff.net.2": (c, 4 * c), f"{inner}ff_norm": (c,)}
            for a in (0, 1):
                attention = f"{inner}attention_blocks.{a}."
                shapes |= {f"{attention}to_out.0": (c, c), f"{inner}norms.{a}": (c,)}
                weights |= {f"{attention}to_{n}.weight": full((c, c)) for n in "qkv"}
                weights[f"{attention}pos_encoder.pe"] = full((1, 32, c))
            for name, shape in shapes.items():
                weights |= {f"{name}.weight": full(shape), f"{name}.bias": full(shape[:1])}
    return weights


def pose_guider():
    return {name: full(shape, torch.float32) for name, shape in POSE_GUIDER_SHAPES.items()}


RELEASE = {
    "reference_unet.pth": reference_unet,
    "denoising_unet.pth": unet,
    "motion_module.pth": motion_module,
    "pose_guider.pth": pose_guider,
    "image_encoder.pth": image_encoder,
}


@pytest.fixture(scope="module", autouse=True)
def release(tmp_path_factory):
    """Every file in every folder, so that each can be chosen in each node."""
    folder = tmp_path_factory.mktemp("release")
    for name, make in RELEASE.items():
        torch.save(make(), folder / name)
    for key in FOLDERS:
        folder_paths.add_model_folder_path(key, str(folder), is_default=True)
    return folder


@pytest.fixture
def on_nothing(monkeypatch):
    """Networks hold no numbers; what every `load_state_dict` left out or did not know is gathered."""
    meta, loaded = torch.device("meta"), []
    for name in ("unet_offload_device", "text_encoder_offload_device", "text_encoder_device"):
        monkeypatch.setattr(comfy.model_management, name, lambda: meta)
    original = torch.nn.Module.load_state_dict

    def load(module, weights, *args, **kwargs):
        result = original(module, weights, *args, **kwargs)
        loaded.append((len(weights), list(result.missing_keys), list(result.unexpected_keys)))
        return result

    monkeypatch.setattr(torch.nn.Module, "load_state_dict", load)
    return loaded


@contextmanager
def without_copies():
    """torch says of each weight that it goes nowhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize(
    "name, load, count",
    [
        # 682 of its own, and the last layers, which nothing asks for
        ("reference_unet.pth", lambda name: LoadReferenceNet().load(name), 682 + 4),
        ("denoising_unet.pth", lambda name: nodes.UNETLoader().load_unet(name, "default"), 686),
        ("motion_module.pth", lambda name: LoadMotionModule().load(name), 21 * 28),
        ("pose_guider.pth", lambda name: LoadPoseGuider().load(name), 16),
        ("image_encoder.pth", lambda name: nodes.CLIPVisionLoader().load_clip(name), 392),
    ],
)
def test_released_layouts_load_with_every_key_used(on_nothing, name, load, count):
    with without_copies():
        load(name)
    assert on_nothing == [(count, [], [])]


WRONG = {
    LoadReferenceNet: "a ReferenceNet",
    LoadPoseGuider: "a Pose Guider",
    LoadMotionModule: "a motion module",
}
IS = {
    "reference_unet.pth": ("a ReferenceNet of Animate Anyone", "load it with the node Load Reference Net"),
    "denoising_unet.pth": ("a whole image UNet", "load it with the node Load Diffusion Model"),
    "motion_module.pth": ("a motion module", "load it with the node Load Motion Module"),
    "pose_guider.pth": ("a Pose Guider of Animate Anyone", "load it with the node Load Pose Guider"),
    "image_encoder.pth": ("a CLIP Vision model", "load it with the node Load CLIP Vision"),
}
OWN = {LoadReferenceNet: "reference_unet.pth", LoadPoseGuider: "pose_guider.pth", LoadMotionModule: "motion_module.pth"}


@pytest.mark.parametrize("name", RELEASE)
@pytest.mark.parametrize("node", WRONG)
def test_each_file_in_each_others_loader_has_its_own_message(node, name):
    if OWN[node] == name:
        return
    with pytest.raises(ValueError) as caught:
        node().load(name)
    kind, remedy = IS[name]
    message = str(caught.value)
    assert message.startswith(f"{name} cannot be used as {WRONG[node]}: this file is {kind}") and remedy in message


@pytest.mark.parametrize(
    "change, problem",
    [
        (lambda w: w.pop("mid_block.resnets.1.conv2.weight"), "misses weights: mid_block.resnets.1.conv2.weight"),
        (lambda w: w.update({"up_blocks.0.extra.weight": full((3,))}), "unexpected weights: up_blocks.0.extra.weight"),
        (lambda w: w.update({"conv_in.bias": full((64,))}), r"conv_in.bias is \(64,\), not \(320,\)"),
        (
            lambda w: [w.pop(key) for key in list(w) if ".attn1.to_k." in key],
            r"misses weights: down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight.* and 12 more",
        ),
        (lambda w: w.update({"conv_in.bias": full((320,)) * torch.nan}), "values that are not numbers at conv_in.bias"),
        (
            lambda w: [w.pop(key) for key in list(w) if "up_blocks.1.resnets.2." in key],
            "up block 1 has 2 parts where 3 belong",
        ),
        (lambda w: [w.pop(key) for key in list(w) if ".attn2.to_k." in key], "no cross-attention"),
    ],
    ids=["missing", "unexpected", "shape", "a whole layer", "not a number", "a whole part", "no prompt"],
)
def test_half_a_reference_net_is_refused_with_names(release, change, problem):
    weights = reference_unet()
    change(weights)
    torch.save(weights, release / "half.pth")
    with pytest.raises(ValueError, match=f"half.pth cannot be used as a ReferenceNet: this .*{problem}"):
        LoadReferenceNet().load("half.pth")


def test_a_motion_module_without_its_mid_block_is_named_for_what_it_is():
    """A file cut short never loads as a smaller one in silence."""
    weights = motion_module()
    del weights["up_blocks.3.motion_modules.2.temporal_transformer.proj_out.weight"]
    torch.save(weights, folder_paths.get_folder_paths("animatediff_models")[0] + "/cut.pth")
    with pytest.raises(ValueError, match=r"misses weights: up_blocks.3.motion_modules.2\S+proj_out.weight"):
        LoadMotionModule().load("cut.pth")


class Vision:
    """A CLIP Vision model of some width."""

    def __init__(self, width):
        self.width = width

    def encode_image(self, images, crop=True):
        assert not crop, "training squeezed pictures to a square"
        return {"image_embeds": torch.full((images.shape[0], self.width), 0.3)}


@pytest.fixture
def thin_files(release, monkeypatch):
    """A narrow release, which the host does not know by its width."""
    config = unet_config("SD1.5")
    generator = torch.Generator().manual_seed(2)
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        shapes = UNet2DConditionModel(cross_attention_dim=768, block_out_channels=(32, 64, 128, 128)).state_dict()
    weights = {key: random_like(value, key, generator) for key, value in shapes.items()}
    torch.save(
        {k: v for k, v in weights.items() if not k.startswith("conv_") or k.startswith("conv_in")}, release / "thin.pth"
    )
    shapes = {key: value.shape for key, value in PoseGuider(GUIDER, device="meta").state_dict().items()}
    torch.save(pose_guider_state_dict(shapes), release / "thin_guider.pth")
    family = type(image_model().model.model_config)
    monkeypatch.setattr(comfy.model_detection, "model_config_from_unet", lambda *a, **k: family({**config}))
    return weights


def test_nodes_from_files_to_a_clip(thin_files):
    encoder = vae()
    (net,) = LoadReferenceNet().load("thin.pth")
    told = LoadPoseGuider().load("thin_guider.pth", 0.8)
    assert "4, 4, 8, 8, 8, 8, 8 channels; added to the first convolution" in told["ui"]["text"][0]
    unet = net.patcher.model.diffusion_model
    names = {value.data_ptr(): key for key, value in unet.state_dict().items()}
    assert len(names) == 686 and not unet.out[2].weight.any() and not unet.out[0].weight.any()
    for name, attention in self_attentions(unet).items():
        assert torch.equal(attention.to_q.weight, thin_files[f"{name}.attn1.to_q.weight"]), name
    (model,) = AnimateAnyoneSampling().set(image_model(), "v prediction, zero terminal SNR (released weights)")
    inputs = (model, net, pictures(2), encoder, Vision(768), 1.0, 0.0, 1.0, "cropped to the clip", "down_blocks = 0.5")
    animated, positive, negative = ApplyAnimateAnyone().apply(*inputs, told["result"][0], pictures(4))
    assert positive[0][0].shape == (1, 2, 768) and torch.equal(negative[0][0], torch.zeros(1, 2, 768))
    result = sample(animated, 4, steps=2, positive=positive, negative=negative, sampler="ddim", scheduler="simple")
    assert result.shape == (4, 4, 8, 12) and result.isfinite().all()
    with pytest.raises(ValueError, match="gives embeddings of 1024 numbers, but this model takes 768"):
        ApplyAnimateAnyone().apply(*inputs[:4], Vision(1024), *inputs[5:])
    with pytest.raises(
        ValueError, match="thin.pth does not fit this model: its prompts are 768 wide, the model's 2048"
    ):
        ApplyAnimateAnyone().apply(image_model("SDXL"), *inputs[1:])
