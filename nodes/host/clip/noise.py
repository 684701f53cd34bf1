"""The noise that a clip starts from: shared between windows, blended with an image, refined by earlier passes.

One wrapper does all three, so that their order does not depend on the order of nodes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
import logging

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
import torch
from torch import Tensor

from ...timeline.free_init import mix_frequencies
from ...timeline.keyframes import Keyframes, neighbours
from ...timeline.windows import free_noise, rows_of
from ..core.arguments import call_with, named_arguments
from ..core.latents import encode_images
from ..core.patcher import set_wrapper
from ..core.progress import check_interrupted
from ..core.unet import require_unet

logger = logging.getLogger(__name__)
KEY = "animatic_noise"
KINDS = AS_SAMPLER, CONSTANT, EMPTY = "sampler", "constant", "empty"
REFINING = 0x5EED  # xor the seed, which by itself would give the noise that the run began with


@dataclass(frozen=True, eq=False)
class StartImage:
    """image: (N, H, W, 3), frame by frame, the last one staying. weight: its share in the noise, by frame."""

    image: Tensor
    vae: object
    weight: Keyframes


@dataclass(frozen=True, eq=False)
class NoiseOptions:
    """shared: context length and overlap of FreeNoise. iterations: FreeInit's passes, 1 for plain sampling.

    kind: one of KINDS. seeds: by frame, in place of the sampler's seed.
    """

    shared: tuple[int, int] | None = None
    start: StartImage | None = None
    iterations: int = 1
    kind: str = AS_SAMPLER
    seeds: Keyframes | None = None


def set_noise_options(model: ModelPatcher, **changes) -> ModelPatcher:
    """A clone of `model` with these fields of its NoiseOptions changed.

    Raises ValueError for a model of another kind than Stable Diffusion, whose noise means something else.
    """
    require_unet(model, "This node")
    model = model.clone()
    model.set_attachments(KEY, replace(model.get_attachment(KEY) or NoiseOptions(), **changes))
    set_wrapper(model, WrappersMP.OUTER_SAMPLE, KEY, sample_from_noise)
    return model


def sample_from_noise(executor, *args, **kwargs):
    """OUTER_SAMPLE wrapper: FreeNoise wherever noise is added; image and FreeInit in runs from an empty latent."""
    named = named_arguments(executor, args, kwargs)
    patcher, seed, sigmas = executor.class_obj.model_patcher, named.get("seed") or 0, named["sigmas"]
    options, noise = patcher.get_attachment(KEY), named["noise"]
    pure = starts_from_noise_alone(noise, named["latent_image"], options)
    if noise.any():
        noise = noise_of_kind(noise, options)
    passes = passes_of(sigmas, options) if pure else 1
    if options.shared:
        noise = free_noise(noise, *options.shared, torch.Generator().manual_seed(seed))
    if pure and options.start:
        noise = blended(noise, options.start, patcher.model.process_latent_in)

    def sampled(noise: Tensor) -> Tensor:
        changed_args, changed_kwargs = call_with(executor, args, kwargs, noise=noise)
        return executor(*changed_args, **changed_kwargs)

    output, first = sampled(noise), noise
    generator = torch.Generator().manual_seed(seed ^ REFINING)
    for _ in range(passes - 1):
        check_interrupted()
        clean = patcher.model.process_latent_in(output.to(noise))
        output = sampled(refined(clean, first, sigmas[0].to(noise), generator))
    return output


def noise_of_kind(noise: Tensor, options: NoiseOptions) -> Tensor:
    """The noise that the sampler brings, or another of the same shape."""
    if options.kind == EMPTY:
        return torch.zeros_like(noise)
    if options.seeds is not None:
        noise = travelled(noise, options.seeds)
    return noise[:1].expand_as(noise).clone() if options.kind == CONSTANT else noise


def travelled(like: Tensor, seeds: Keyframes) -> Tensor:
    """(F, ..): each frame between the noises that it has with the two seeds beside it, at the variance of either."""
    clips = {seed: noise_of_seed(like, int(seed)) for seed in set(seeds.values)}
    rows = []
    for frame in range(like.shape[0]):
        before, after, share = neighbours(seeds.positions, frame, seeds.curve)
        seed, other = seeds.values[before], seeds.values[after]
        if share == 0 or seed == other:
            rows.append(clips[seed][frame])
            continue
        mixed = (1 - share) * clips[seed][frame] + share * clips[other][frame]
        rows.append(mixed / ((1 - share) ** 2 + share**2) ** 0.5)
    return torch.stack(rows).to(like)


def noise_of_seed(like: Tensor, seed: int) -> Tensor:
    """As the host's samplers make it."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def starts_from_noise_alone(noise: Tensor, latent_image: Tensor, options: NoiseOptions) -> bool:
    """Whether there is nothing under the noise, which an image or another pass could begin from."""
    if not noise.any():
        return False
    empty = not latent_image.any()
    if not empty and (options.start or options.iterations > 1):
        logger.warning("Start From Image and FreeInit do nothing here: the latent that comes in is not empty.")
    return empty


def passes_of(sigmas: Tensor, options: NoiseOptions) -> int:
    """How often the clip is sampled; once if the run leaves noise, from which FreeInit could not go on."""
    if options.iterations > 1 and float(sigmas[-1]) > 0:
        logger.warning("FreeInit does nothing here: the run ends before all noise is gone.")
        return 1
    return options.iterations


def blended(noise: Tensor, start: StartImage, process_in: Callable[[Tensor], Tensor]) -> Tensor:
    """Noise has unit variance, as latents in the UNet's scale have, so a weight is a share of both."""
    num_frames = noise.shape[0]
    latents = encode_images(start.vae, start.image[:num_frames], *noise.shape[-2:], process_in).to(noise)
    rows = rows_of(latents, range(num_frames), last_stays=True)
    weight = torch.tensor(start.weight.over(range(num_frames))).to(noise)
    return torch.lerp(noise, rows, weight[:, None, None, None])


def refined(clean: Tensor, first: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
    """FreeInit's next noise: the last result noised again with the first noise, its detail replaced by fresh noise."""
    diffused = (clean + sigma * first) / (1 + sigma**2) ** 0.5
    fresh = torch.randn(first.shape, generator=generator, dtype=torch.float32).to(first)
    return mix_frequencies(diffused, fresh)
