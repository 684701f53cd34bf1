"""Thin networks of Animate Anyone on the real host, with random weights, and a MODEL that they act on."""

from functools import partial

from animatic_pack.animate_anyone.pose_guider import PoseGuider, PoseGuiderLayout, released_layout
from animatic_pack.nodes.host.reference.animate import Animation, apply_animate_anyone
from animatic_pack.nodes.host.reference.load import LoadedPoseGuider, LoadedReferenceNet, guider_patcher
from animatic_pack.nodes.host.reference.pictures import Reference
import comfy.sd
from host_models import CPU, WIDTH, image_model
from small_models import pose_guider_state_dict, vae_state_dict
import torch

TOKEN = 768
GUIDER = released_layout((4, 8, 8, 8), WIDTH)


def vae() -> comfy.sd.VAE:
    return comfy.sd.VAE(sd={key.removeprefix("first_stage_model."): value for key, value in vae_state_dict().items()})


def reference_net(seed: int = 9, dtype: torch.dtype = torch.float32) -> LoadedReferenceNet:
    return LoadedReferenceNet("reference_unet.pth", image_model(seed=seed, dtype=dtype))


def pictures(count: int = 1, height: int = 64, width: int = 128, seed: int = 3) -> torch.Tensor:
    """In 256 steps: the host's lanczos rounds to them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, height, width, 3), generator=generator) / 255


def reference(net: LoadedReferenceNet, encoder, images: torch.Tensor, **options) -> Reference:
    """embeddings: of each picture its own, as CLIP Vision would give."""
    seeds = (images.flatten(1).sum(1) * 1000).long().tolist()
    rows = [torch.randn(TOKEN, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return Reference(net, images, torch.stack(rows), encoder, **options)


def pose_guider(layout: PoseGuiderLayout = GUIDER, seed: int = 5) -> LoadedPoseGuider:
    shapes = {key: value.shape for key, value in PoseGuider(layout, device="meta").state_dict().items()}
    weights = pose_guider_state_dict(shapes, seed)
    source = partial(lambda: (layout, dict(weights)))
    return LoadedPoseGuider("pose_guider.pth", guider_patcher(source, CPU), source)


def animate(model, seen: Reference, guider: LoadedPoseGuider | None = None, **options):
    return apply_animate_anyone(model, Animation(seen, **options), guider)


def passes_of(net: LoadedReferenceNet) -> list:
    """Grows by the number of pictures with every pass of the ReferenceNet's UNet from now on."""
    passes = []
    net.patcher.model.diffusion_model.register_forward_hook(lambda module, args, out: passes.append(args[0].shape[0]))
    return passes
