"""Video files and image folders to frames, at the size that the user wants and within the memory that there is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import comfy.utils
from comfy_execution.graph_utils import ExecutionBlocker
from einops import rearrange
import numpy as np
import torch

from ...media.decode import Selection, nothing_left, probe, read_frames, read_sound
from ...media.images import IMAGES, images_of, read_image
from ..core.progress import check_interrupted, progress_bar, with_progress
from .pieces import EncodedFrames


@dataclass(frozen=True)
class LoadedVideo:
    """count: of frames. audio: their sound as AUDIO, or None. rate: frames per second."""

    count: int
    audio: dict | None
    rate: float


def load_images(path: Path, selection: Selection, width: int, height: int) -> tuple[torch.Tensor, LoadedVideo]:
    """Images (N, H, W, 3) in 0..1. Raises ValueError if they cannot fit into memory."""
    frames: list[np.ndarray] = []
    loaded = load_video(path, selection, width, height, frames.append, require_memory)
    return as_images(frames), loaded


def load_latent(path: Path, selection: Selection, width: int, height: int, vae) -> tuple[dict, LoadedVideo]:
    """A LATENT, encoded a few frames at a time; the pictures are never there all at once."""
    frames = EncodedFrames(vae)
    loaded = load_video(path, selection, width, height, frames.add)
    return frames.latent(), loaded


def withheld(why: str) -> ExecutionBlocker:
    """An output that is not there; a node that uses it does not run, and says why."""
    return ExecutionBlocker(why)


def load_video(
    path: Path,
    selection: Selection,
    width: int,
    height: int,
    take: Callable[[np.ndarray], None],
    check_size: Callable[[int, int, int], None] = lambda count, width, height: None,
) -> LoadedVideo:
    """Hand over each frame, uint8 (H, W, 3). check_size: called before the first, with how many there are about."""
    info = probe(path, check_interrupted)
    expected = selection.expected(info)
    step = progress_bar(expected)
    size = None

    def keep(frame: np.ndarray) -> None:
        nonlocal size
        if size is None:
            size = target_size(frame.shape[1], frame.shape[0], width, height)
            check_size(expected, *size)
        if (frame.shape[1], frame.shape[0]) != size:
            frame = resize(torch.from_numpy(frame) / 255, *size).mul(255).round().byte().numpy()
        take(frame)
        step()

    times = read_frames(path, info, selection, keep, check_interrupted)
    if not times:
        raise nothing_left(path, selection)
    rate = selection.rate(info, times)
    sound = read_sound(path, times[0], len(times) / rate, check_interrupted) if info.sound else None
    audio = sound and {"waveform": torch.from_numpy(sound[0])[None], "sample_rate": sound[1]}
    return LoadedVideo(len(times), audio, rate)


def load_image_sequence(
    folder: Path, skip: int, nth: int, cap: int, width: int, height: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, H, W, 3) and masks (N, H, W), 1 where transparent. cap: how many at most, 0 for all.

    Raises ValueError, naming the folder, if there are none.
    """
    found = images_of(folder)
    if not found:
        raise ValueError(f"The folder {folder.name} holds no images. Load Image Sequence reads {', '.join(IMAGES)}.")
    paths = found[skip::nth][: cap or None]
    if not paths:
        count = "one image" if len(found) == 1 else f"{len(found)} images"
        raise ValueError(f"{folder.name} holds only {count}: lower skip_first_frames.")
    images = masks = None
    for index, path in enumerate(with_progress(paths)):
        colour, hidden = read_image(path)
        if images is None:
            size = target_size(colour.shape[1], colour.shape[0], width, height)
            require_memory(len(paths), *size)
            images = torch.empty(len(paths), size[1], size[0], 3)
            masks = torch.zeros(images.shape[:3])
        images[index] = resize(colour, *size)
        if hidden is not None:
            masks[index] = resize(hidden[..., None].expand(-1, -1, 3), *size)[..., 0]
    return images, masks


def as_images(frames: list[np.ndarray]) -> torch.Tensor:
    """Float (N, H, W, 3) in 0..1; empties the list, and there is no other copy of floats."""
    images = torch.empty(len(frames), *frames[0].shape)
    while frames:
        last = torch.from_numpy(frames.pop())
        torch.div(last, 255, out=images[len(frames)])
    return images


def target_size(width: int, height: int, wanted_width: int, wanted_height: int) -> tuple[int, int]:
    """Width and height of the output. A wanted 0 follows the other one and the aspect ratio; two: nothing changes."""
    if not wanted_width and not wanted_height:
        return width, height
    return (
        wanted_width or max(1, round(width * wanted_height / height)),
        wanted_height or max(1, round(height * wanted_width / width)),
    )


def resize(frame: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """One frame, float (H, W, 3) in 0..1, centre-cropped to the new aspect ratio and scaled."""
    if frame.shape[:2] == (height, width):
        return frame
    frame = rearrange(frame, "h w c -> 1 c h w")
    frame = comfy.utils.common_upscale(frame, width, height, "lanczos", "center")
    return rearrange(frame, "1 c h w -> h w c")


def require_memory(count: int, width: int, height: int) -> None:
    """Raises ValueError if so many float frames cannot fit, before the computer starts to swap."""
    needed = count * width * height * 3 * 4
    free = comfy.model_management.get_free_memory(torch.device("cpu"))
    if needed > free:
        raise ValueError(
            f"{count} frames of {width} x {height} need {needed / 2**30:.1f} GB of memory, {free / 2**30:.1f} GB are "
            "free. Set frame_load_cap, a higher select_every_nth, or a smaller width and height."
        )
