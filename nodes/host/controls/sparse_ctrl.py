"""SparseCtrl: a ControlNet with a motion module of its own, which fills the frames between a few key images."""

from collections import Counter
from collections.abc import Sequence
import copy
from functools import partial

import comfy.controlnet
import comfy.latent_formats
from comfy.ldm.modules.diffusionmodules.openaimodel import TimestepEmbedSequential
import comfy.model_management
from comfy.model_patcher import ModelPatcher
import comfy.ops
import comfy.utils
from einops import rearrange
import torch
from torch import Tensor

from ....motion_modules.checkpoint import read_sparse_ctrl
from ....motion_modules.file_kind import FileKind
from ....motion_modules.motion_module import MotionModule
from ..core.attention import attention_over_frames
from ..core.call import Answer, Call, check_length
from ..core.file_advice import cannot_be_used
from ..core.folders import CONTROLNETS
from ..core.latents import encode_images
from ..core.patcher import patcher_of
from ..core.positions import PositionTables
from ..core.unet import answers_in_unet
from ..core.weight_files import load_weights
from .kept import Kept

EMBEDDING = "controlnet_cond_embedding."


class SparseNetwork:
    """The host's ControlNet, run with zeros for the noisy latent and with temporal transformers in its down blocks."""

    def __init__(self, network: torch.nn.Module, motion: ModelPatcher):
        self.network = network
        self.motion = motion
        self.dtype = network.dtype
        keys = (value for name, value in network.state_dict().items() if name.endswith("attn2.to_k.weight"))
        self.text_width = next(keys).shape[1]

    def __call__(
        self, x: Tensor, hint: Tensor, num_frames: int, views: list | None, tables: PositionTables, **inputs
    ) -> dict[str, list[Tensor]]:
        """x, hint: (B*F, C, H, W); the hint's last channel is 1 in key frames and 0 elsewhere."""
        shared = {"num_frames": num_frames, "attention": attention_over_frames, "views": views}
        sites = {
            site: partial(transformer, positions=tables.of(self.motion.model, site, x.device, x.dtype), **shared)
            for site, transformer in self.motion.model.sites.items()
        }
        with answers_in_unet(self.network, {0: Answer(sites)}, num_frames, Counter()):
            return self.network(x=torch.zeros_like(x), hint=hint, **inputs)


class SparseControl(comfy.controlnet.ControlNet):
    """What the stock Apply ControlNet nodes take; their image batch holds the key images.

    key_frames: the frame of each key image, below 0 from the end; empty spreads them evenly over the clip.
    """

    sub_idxs = None  # the name by which Advanced-ControlNet's classes, too, say that they find their frames themselves

    def __init__(self, network: SparseNetwork, patcher: ModelPatcher, key_frames: tuple[int, ...], **options):
        super().__init__(None, **options)
        self.control_model = network
        self.control_model_wrapped = patcher
        self.key_frames = key_frames
        self.prepared = Kept()
        self.tables = PositionTables()

    @property
    def takes_latents(self) -> bool:
        return self.latent_format is not None

    def copy(self) -> "SparseControl":
        options = {"load_device": self.load_device, "manual_cast_dtype": self.manual_cast_dtype}
        control = SparseControl(self.control_model, self.control_model_wrapped, self.key_frames, **options)
        self.copy_to(control)
        return control

    def get_models(self) -> list[ModelPatcher]:
        return [*super().get_models(), self.control_model.motion]

    def get_control(self, x_noisy: Tensor, t: Tensor, cond: dict, batched_number: int, transformer_options: dict):
        model_sampling = self.model_sampling_current
        call = Call.at_hand(x_noisy, t[0], range(batched_number), transformer_options, model_sampling)
        if cond["c_crossattn"].shape[-1] != self.control_model.text_width:
            raise ValueError(
                "SparseCtrl was made for SD1.5 checkpoints; this one has another text encoder. "
                "Load an SD1.5 checkpoint."
            )
        check_length("SparseCtrl", self.control_model.motion.model.config.max_frames, call)
        # already of the right size and length, so that the host takes it as it is
        self.cond_hint = self.hint_for(call).repeat(batched_number, 1, 1, 1)
        self.set_extra_arg("num_frames", call.num_frames)
        self.set_extra_arg("views", call.views)
        self.set_extra_arg("tables", self.tables)
        return super().get_control(x_noisy, t, cond, batched_number, transformer_options)

    def hint_for(self, call: Call) -> Tensor:
        """(F, C + 1, H, W) for the call's frames: key images and, in the last channel, where they are."""
        key = call.frames, call.full_length, *call.latents.shape[2:]
        hint = self.prepared.get(key)
        if hint is None:
            positions = key_positions(self.key_frames, self.cond_hint_original.shape[0], call.full_length)
            images = self.key_images(*call.latents.shape[2:])
            hint = torch.zeros(call.num_frames, images.shape[1] + 1, *images.shape[2:])
            for place, image in key_places(call.frames, positions):
                hint[place, :-1], hint[place, -1] = images[image], 1.0
            hint = hint.to(call.latents.device, self.manual_cast_dtype or self.control_model.dtype)
            self.prepared.put(key, hint)
        return hint

    def key_images(self, height: int, width: int) -> Tensor:
        """The key images (K, C, h, w) as the network wants them, for latents of this size; kept until the run ends."""
        keys = self.prepared.get((height, width))
        if keys is None:
            images = self.cond_hint_original[:, :3]
            keys = self.encoded(images, height, width) if self.takes_latents else self.resized(images, height, width)
            keys = keys.float().cpu()
            self.prepared.put((height, width), keys)
        return keys

    def encoded(self, images: Tensor, height: int, width: int) -> Tensor:
        if self.vae is None:
            raise ValueError("An RGB SparseCtrl needs the checkpoint's VAE: connect vae on Apply ControlNet.")
        loaded = comfy.model_management.loaded_models(only_currently_used=True)
        images = rearrange(images, "k c h w -> k h w c")
        keys = encode_images(self.vae, images, height, width, self.latent_format.process_in)
        comfy.model_management.load_models_gpu(loaded)  # the VAE may have pushed them out
        return keys

    def resized(self, images: Tensor, height: int, width: int) -> Tensor:
        return comfy.utils.common_upscale(images, width * 8, height * 8, "bilinear", "center")

    def deepclone_multigpu(self, load_device: torch.device, autoregister: bool = False) -> "SparseControl":
        """A copy with networks of its own on another device, as the host's ControlNets make them."""
        clone = self.copy()
        offload_device = comfy.model_management.unet_offload_device()
        network, motion = (copy.deepcopy(m) for m in (self.control_model.network, self.control_model.motion.model))
        clone.control_model = SparseNetwork(network, ModelPatcher(motion, load_device, offload_device))
        clone.control_model_wrapped = ModelPatcher(network, load_device, offload_device)
        clone.load_device = load_device
        if autoregister:
            self.multigpu_clones[load_device] = clone
        return clone

    def cleanup(self) -> None:
        self.prepared.clear()
        self.tables = PositionTables()
        super().cleanup()


def load_sparse_ctrl(name: str, key_frames: tuple[int, ...]) -> SparseControl:
    """Load a file of the `controlnet` folders. Raises ValueError, naming the file, for anything but a SparseCtrl."""
    content = load_weights(CONTROLNETS, name)
    try:
        config, motion_weights, weights = read_sparse_ctrl(content)
    except ValueError as error:
        raise cannot_be_used(name, "a SparseCtrl", FileKind.SPARSE_CTRL, content, error) from None
    latents = f"{EMBEDDING}weight" in weights
    try:
        convolution = {key: weights.pop(EMBEDDING + key) for key in ("weight", "bias")} if latents else {}
        control = comfy.controlnet.load_controlnet_state_dict(
            weights | (placeholder_embedding(convolution["weight"].shape[0]) if latents else {})
        )
        network = control.control_model
    except (KeyError, IndexError, TypeError, AttributeError) as error:  # the host takes for granted that it is whole
        raise ValueError(
            f"{name} is a SparseCtrl of which parts are missing, or of another size than SD1.5. Download it again."
        ) from error
    if latents:
        channels, inputs = convolution["weight"].shape[:2]
        layer = comfy.ops.manual_cast.Conv2d(inputs, channels, 3, padding=1, dtype=network.dtype)
        layer.load_state_dict({key: value.to(network.dtype) for key, value in convolution.items()})
        network.input_hint_block = TimestepEmbedSequential(layer)
    motion = patcher_of(partial(MotionModule, config), motion_weights, control.load_device, eight_bits=True)
    options = {"load_device": control.load_device, "manual_cast_dtype": control.manual_cast_dtype}
    sparse = SparseControl(SparseNetwork(network, motion), control.control_model_wrapped, key_frames, **options)
    if latents:
        sparse.latent_format = comfy.latent_formats.SD15()
        sparse.compression_ratio = 1
    return sparse


def placeholder_embedding(width: int) -> dict[str, Tensor]:
    """Zeros for the image embedding that the host's loader looks for and that an RGB SparseCtrl does not have."""
    widths = [(5, 16), (16, 16), (16, 32), (32, 32), (32, 96), (96, 96), (96, 256), (256, width)]
    names = ["conv_in", *(f"blocks.{i}" for i in range(6)), "conv_out"]
    weights = {}
    for name, (into, out) in zip(names, widths, strict=True):
        weights[f"{EMBEDDING}{name}.weight"] = torch.zeros(out, into, 3, 3)
        weights[f"{EMBEDDING}{name}.bias"] = torch.zeros(out)
    return weights


def key_positions(key_frames: tuple[int, ...], num_images: int, full_length: int) -> list[int]:
    """The frame of each key image. Raises ValueError if they are not as many, or outside the clip."""
    if num_images > full_length:
        raise ValueError(
            f"SparseCtrl got {num_images} images for {full_length} frames; each needs a frame of its own. "
            "Connect fewer."
        )
    if not key_frames:
        steps = max(1, num_images - 1)
        return [round(i * (full_length - 1) / steps) for i in range(num_images)]
    if len(key_frames) != num_images:
        raise ValueError(
            f"SparseCtrl: the number of images ({num_images}) and of key_frames ({len(key_frames)}) differ. Write a "
            "number for each image into key_frames of Load SparseCtrl, or none to spread them evenly."
        )
    frames = [frame + full_length if frame < 0 else frame for frame in key_frames]
    for given, frame in zip(key_frames, frames, strict=True):
        if not 0 <= frame < full_length:
            raise ValueError(f"SparseCtrl: key frame {given} is outside the clip of {full_length} frames.")
        if frames.count(frame) > 1:
            raise ValueError(f"SparseCtrl: key_frames names frame {frame} twice. Give each image a frame of its own.")
    return frames


def key_places(frames: Sequence[int], positions: list[int]) -> list[tuple[int, int]]:
    """(row, image) for the key images among these frames; a window without any has the nearest at its nearer end."""
    images = {position: image for image, position in enumerate(positions)}
    places = [(row, images[frame]) for row, frame in enumerate(frames) if frame in images]
    if places:
        return places
    ends = [(abs(frame - position), row, images[position]) for position in images for row, frame in _ends(frames)]
    return [min(ends)[1:]]


def _ends(frames: Sequence[int]) -> list[tuple[int, int]]:
    return [(0, frames[0]), (len(frames) - 1, frames[-1])]
