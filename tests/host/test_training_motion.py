"""What was trained moves as its clip did when the host samples it: in for a zoom in, out for the same clip reversed.

The base is the host's UNet with random weights, told where each place is and reading its output as an estimate of the
clean latents: so it can be led to a clip within seconds, as a trained one could, and everything around it is real.
"""

from functools import partial
import math

from animatic_pack.lora.files import read_motion_lora
from animatic_pack.motion_modules.checkpoint import read_motion_module
from animatic_pack.nodes.host.core.unet import motion_sites, site_channels
from animatic_pack.nodes.host.motion.attach import apply_motion_module
from animatic_pack.nodes.host.motion.loras import LoadedMotionLora
from animatic_pack.nodes.host.motion.module import motion_module_from
from animatic_pack.nodes.host.motion.sampling import MotionSettings
from animatic_pack.nodes.host.training.models import PlainLayers, PlainUNet, motion_module_of
from animatic_pack.training.base import Base, weights_digest
from animatic_pack.training.batches import EncodedClip
from animatic_pack.training.denoiser import LowRankSize, Parts, fresh_denoiser
from animatic_pack.training.motion import fresh_motion_module
from animatic_pack.training.noise import alphas_cumprod
from animatic_pack.training.stages import MOTION_LORA, MOTION_MODULE, STAGES
from animatic_pack.training.trainer import Trainer, TrainingSettings
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
import host_models
from one_level import ONE_LEVEL
import pytest
import torch
from torch import Tensor, nn
from training_models import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")
FRAMES, SIDE, ZOOM = 6, 6, 1.6
ALPHAS = alphas_cumprod("sqrt_linear")
SIZE = LowRankSize(32, 64)


class Estimating:
    """Reads a UNet's output as clean latents; returns the noise that this leaves."""

    def forward(self, x: Tensor, timesteps: Tensor, *args, **kwargs) -> Tensor:
        alpha = ALPHAS[timesteps.long()][:, None, None, None]
        return (x - alpha.sqrt() * super().forward(x, timesteps, *args, **kwargs)) / (1.05 - alpha).sqrt()


class HostedUNet(Estimating, UNetModel):
    pass


class TrainedUNet(Estimating, PlainUNet):
    pass


class PlacedConvolution(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(5)
        return super().forward(x) + 1.5 * torch.randn(1, self.out_channels, SIDE, SIDE, generator=generator)


@pytest.fixture
def model(monkeypatch):
    """A MODEL of the host with such a UNet."""
    few = {**host_models.UNETS["SD1.5"], **ONE_LEVEL, "num_heads": 2}
    monkeypatch.setitem(host_models.UNETS, "SD1.5", few)
    model = host_models.image_model()
    unet = model.model.diffusion_model
    unet.__class__ = HostedUNet
    unet.input_blocks[0][0].__class__ = PlacedConvolution
    return model


@pytest.fixture
def context():
    return host_models.conditioning("SD1.5", 1)[0][0][0]


def base_of(model) -> Base:
    unet = TrainedUNet(**{**model.model.model_config.unet_config, "dtype": torch.float32}, operations=PlainLayers)
    unet.load_state_dict(model.model.diffusion_model.state_dict())
    unet.input_blocks[0][0].__class__ = PlacedConvolution
    sites = motion_sites(unet)
    return Base(unet.eval(), sites, {site: site_channels(layer) for site, layer in sites.items()})


def texture(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.interpolate(torch.randn(1, 4, 8, 8, generator=generator), (64, 64), mode="bicubic")


def shown(picture: Tensor, share: float) -> Tensor:
    """The middle of a picture, a share of its sides, (4, SIDE, SIDE)."""
    view = nn.functional.affine_grid(torch.eye(2, 3)[None] * share, (1, 4, SIDE, SIDE), align_corners=False)
    return nn.functional.grid_sample(picture, view, align_corners=False)[0]


def zoom_clip(seed: int) -> Tensor:
    clip = torch.stack([shown(texture(seed), ZOOM ** -(frame / (FRAMES - 1))) for frame in range(FRAMES)])
    return (clip - clip.mean()) / clip.std()


def fitted_zoom(frames: Tensor, seed: int) -> tuple[float, float]:
    """By how much the picture grows from the first to the last frame, and how like the texture the frames are."""
    shares = [ZOOM ** (-step / 10) for step in range(-3, 14)]
    views = torch.stack([shown(texture(seed), share).flatten() for share in shares])
    alike = torch.stack([torch.corrcoef(torch.cat((frame.flatten()[None], views)))[0, 1:] for frame in frames])
    sizes = torch.tensor([-math.log(shares[best]) for best in alike.argmax(dim=1)])
    time = torch.arange(FRAMES) - (FRAMES - 1) / 2
    slope = (time * sizes).sum() / (time**2).sum()
    return math.exp(slope * (FRAMES - 1)), alike.amax(dim=1).mean().item()


def learnt(stage: str, model, clip: Tensor, context: Tensor, steps: int, module: dict | None = None, **options) -> dict:
    """Train a stage on one clip; its loss falls to a fifth, another clip's does not, and the base stays as it is."""
    source = partial(read_motion_module, module) if module else None
    parts = Parts(motion_module=motion_module_of(source) if source else None)
    denoiser = fresh_denoiser(STAGES[stage], base_of(model), parts, seed=0, low_rank=SIZE)
    clips = [EncodedClip(each, torch.zeros_like(each), context) for each in (clip, zoom_clip(3))]
    settings = TrainingSettings(steps=steps, precision="fp32", text_dropout=0.0, **options)
    trainer = Trainer(denoiser, clips[:1], torch.zeros_like(context), settings)
    before = weights_digest(denoiser.base.unet)
    losses = [trainer.validation_loss([each]) for each in clips]
    for _ in range(steps):
        trainer.train_step()
    assert trainer.validation_loss(clips[:1]) < losses[0] / 5
    assert trainer.validation_loss(clips[1:]) > losses[1] / 1.5
    assert weights_digest(denoiser.base.unet) == before
    return denoiser.file_weights()


def sampled_zooms(model, context: Tensor, module: dict, lora: dict | None = None, strength: float = 1.0) -> list:
    """Of clips of three seeds, by the host's own sampler."""
    loaded = motion_module_from("trained", partial(read_motion_module, module), ())
    stack = (LoadedMotionLora("trained", strength, read_motion_lora(lora, {}), ()),) if lora else ()
    applied = apply_motion_module(model, loaded, MotionSettings("trained"), motion_loras=stack)
    prompt = [[context[None], {}]]
    options = {"frames": FRAMES, "size": (SIDE, SIDE), "steps": 20, "cfg": 1.0, "positive": prompt, "negative": prompt}
    return [fitted_zoom(host_models.sample(applied, seed=seed, **options), 2) for seed in range(3)]


def test_a_motion_module_zooms_as_its_clip_did(model, context):
    for clip, inwards in ((zoom_clip(2), True), (zoom_clip(2).flip(0), False)):
        module = learnt(MOTION_MODULE, model, clip, context, steps=160, batch_size=2, learning_rate=1e-2)
        for zoom, alike in sampled_zooms(model, context, module):
            assert alike > 0.8 and (zoom > 1.2 if inwards else zoom < 1 / 1.2)


def test_a_motion_lora_zooms_as_its_clip_did_and_without_it_nothing_does(model, context):
    base = base_of(model)
    frozen = fresh_motion_module({s: c for s, c in base.site_channels.items() if "mid" not in s}, 32, seed=3)
    for transformer in frozen.sites.values():
        nn.init.normal_(transformer.proj_out.weight, std=0.3, generator=torch.Generator().manual_seed(1))
    module = frozen.state_dict()
    options = {"module": module, "steps": 260, "batch_size": 4, "learning_rate": 3e-3}
    for clip, inwards in ((zoom_clip(2), True), (zoom_clip(2).flip(0), False)):
        lora = learnt(MOTION_LORA, model, clip, context, **options)
        for zoom, alike in sampled_zooms(model, context, module, lora):
            assert alike > 0.8 and (zoom > 1.2 if inwards else zoom < 1 / 1.2)
        assert all(alike < 0.5 for _, alike in sampled_zooms(model, context, module, lora, strength=0.0))
