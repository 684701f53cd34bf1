"""Animate Anyone's narrow networks against the wide files that the pack's nodes and the host's loaders open."""

from functools import partial
import re

from animatic_pack.evaluation.world import autoencoder, files, look
from animatic_pack.evaluation.world.characters import draw_character, draw_dance, portrait, skeletons
from animatic_pack.evaluation.world.dancing import GUIDER, first_stage, first_stage_files, networks_of
from animatic_pack.nodes.animate_anyone import (
    AnimateAnyoneSampling,
    ApplyAnimateAnyone,
    LoadPoseGuider,
    LoadReferenceNet,
)
from animatic_pack.nodes.host.core.folders import ANIMATE_ANYONE
from animatic_pack.nodes.host.evaluation.networks import NarrowNetworks, narrow_patcher
from animatic_pack.nodes.host.reference.load import LoadedPoseGuider, LoadedReferenceNet, guider_patcher
from animatic_pack.training.animate_anyone import AnimateNetworks
from animatic_pack.training.stages import DENOISING_UNET, POSE_GUIDER, REFERENCE_UNET
import folder_paths
from host_models import CPU, sample
import pytest
from small_models import random_like
import torch

import nodes

HOST = NarrowNetworks()
FRAMES = 2
FOLDERS = (ANIMATE_ANYONE, "diffusion_models", "clip_vision", "vae")


@pytest.fixture(scope="module")
def narrow():
    """A first stage with weights that file precision keeps, and its decoder."""
    denoiser = first_stage(HOST.fresh_base(0))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        denoiser.trained.pose_guider.conv_out.weight.normal_(0, 0.3, generator=generator)
        for key, value in denoiser.trained.state_dict().items():
            stronger = 8 if re.search(r"attn1\.to_(v|out)", key) else 1  # or the reference would hardly be seen
            guider = key.startswith(POSE_GUIDER)
            value.copy_((3 * value if guider else stronger * random_like(value, key, generator)).half())
    torch.manual_seed(1)
    return denoiser.trained, autoencoder.decoder()


@pytest.fixture(scope="module")
def models(narrow, tmp_path_factory):
    """ComfyUI's model folders with the wide files."""
    networks, decoder = narrow
    folder, models = (tmp_path_factory.mktemp(name) for name in ("narrow", "models"))
    base = HOST.fresh_base(0)
    written = first_stage_files(base, networks_of(base, networks.state_dict()), HOST.reference_names())
    written |= {files.CLIP_VISION: {look.NAME: look.LOOK}, files.DANCERS_DECODER: decoder.state_dict()}
    for part, weights in written.items():
        files.save_narrow(files.narrow_path(folder, part), weights, {})
    paths = {path.name for path in files.write_models(models, folder)}
    assert paths == {f"small_world_{part}.safetensors" for part in written if part != files.CLIP_VISION} | {
        "small_world_clip_vision.pth"
    }
    return models


@pytest.fixture
def folders(models, monkeypatch):
    for name in FOLDERS:
        monkeypatch.setitem(folder_paths.folder_names_and_paths, name, ([str(models / name)], {".safetensors", ".pth"}))
        folder_paths.filename_list_cache.pop(name, None)


def test_clip_vision_sees_the_same_in_every_picture(folders):
    (vision,) = nodes.CLIPVisionLoader().load_clip("small_world_clip_vision.pth")
    pictures = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(vision.encode_image(pictures)["image_embeds"].float(), look.LOOK.expand(2, -1), atol=1e-3)


def test_the_wide_files_dance_as_the_narrow_networks_do(folders, narrow):
    networks, _ = narrow
    (vae,) = nodes.VAELoader().load_vae(wide(files.DANCERS_DECODER))
    (net,) = LoadReferenceNet().load(wide(REFERENCE_UNET))
    guider = LoadPoseGuider().load(wide(POSE_GUIDER))["result"][0]
    (model,) = nodes.UNETLoader().load_unet(wide(DENOISING_UNET), "default")
    for patcher in (model, net.patcher):
        patcher.model.float()  # a processor may compute in halves
        patcher.model.manual_cast_dtype = None
    expected = clip_of(1, 1, *narrow_models(networks), vae)
    assert relative(clip_of(1, 1, model, net, guider, vae), expected) < 1e-5
    assert relative(clip_of(2, 1, model, net, guider, vae), expected) > 0.01
    assert relative(clip_of(1, 2, model, net, guider, vae), expected) > 0.01


def narrow_models(networks: AnimateNetworks):
    """As the loaders would give them, if they could open narrow files."""
    unets = []
    for weights in (networks.denoising_unet, networks.reference_unet):
        base = HOST.fresh_base(0)
        base.unet.load_state_dict(weights.state_dict())
        unets.append(narrow_patcher(base, "linear"))
    source = partial(lambda: (GUIDER, networks.pose_guider.state_dict()))
    guider = LoadedPoseGuider("narrow", guider_patcher(source, CPU), source)
    return unets[0], LoadedReferenceNet("narrow", unets[1]), guider


def clip_of(character: int, dance: int, model, net, guider, vae) -> torch.Tensor:
    """Latents, through the nodes."""
    (vision,) = nodes.CLIPVisionLoader().load_clip("small_world_clip_vision.pth")
    (model,) = AnimateAnyoneSampling().set(model, "noise prediction (paper)")
    reference, poses = portrait(draw_character(0, character)), skeletons(draw_dance(0, dance).frames(FRAMES))
    model, positive, negative = ApplyAnimateAnyone().apply(
        model, net, reference, vae, vision, 1.0, 0.0, 1.0, "cropped to the clip", "", guider, poses
    )
    return sample(model, FRAMES, steps=2, cfg=1.5, size=(16, 16), sampler="ddim", positive=positive, negative=negative)


def wide(part: str) -> str:
    return f"small_world_{part}.safetensors"


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Root mean square of the difference, in that of b."""
    return ((a - b).square().mean() / b.square().mean()).sqrt().item()
