"""Clips as all measures take them: colours (F, h, w, 3), float32 in 0..1."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..nodes.media.decode import Selection, VideoInfo, read_frames
from ..nodes.media.images import IMAGES, images_of, natural, read_image
from ..training.sources import VIDEO_ENDINGS


def checked(clip: Tensor, name: str) -> Tensor:
    """An IMAGE (F, h, w, 3 or 4) as measures take it; what is transparent is laid on black.

    Raises ValueError, with the clip's name, for what is no clip and for numbers that are none.
    """
    if clip.ndim != 4 or clip.shape[-1] not in (3, 4) or 0 in clip.shape:
        raise ValueError(f"{name}: pictures are (frames, height, width, 3 or 4 channels), not {tuple(clip.shape)}.")
    if not clip.is_floating_point():
        raise ValueError(f"{name}: colours are numbers from 0 to 1, not {clip.dtype}.")
    clip = clip.detach().cpu().float()
    if not torch.isfinite(clip).all():
        frame = int((~torch.isfinite(clip)).flatten(1).any(1).nonzero()[0])
        raise ValueError(
            f"{name}: frame {frame} holds numbers that are not finite, so it would show as black. A VAE in half "
            "precision does this; decode it in float32."
        )
    clip = clip.clamp(0, 1)
    return clip[..., :3] * clip[..., 3:] if clip.shape[-1] == 4 else clip


def clips_in(folder: Path) -> list[Path]:
    """Its videos and its folders of frames, in the order of their numbers. Raises FileNotFoundError."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder of clips {folder}.")
    found = (path for path in folder.iterdir() if path.is_dir() and images_of(path) or _is_video(path))
    return sorted(found, key=lambda path: natural(path.name))


def _is_video(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in VIDEO_ENDINGS


def read_clip(path: Path, most: int = 0) -> Tensor:
    """A video, a picture, or a folder of frames that are all of one size; `most` frames from the first on, 0: all.

    Raises FileNotFoundError, and ValueError, that name the file.
    """
    if path.is_dir() or path.suffix.lower() in IMAGES and path.suffix.lower() != ".webp":
        pictures = read_pictures(path, most)
        sizes = {tuple(picture.shape[1:]) for picture in pictures}
        if len(sizes) > 1:
            raise ValueError(f"{path}: frames of a clip are of one size, but here are {len(sizes)} different ones.")
        return torch.cat(pictures)
    if not path.is_file():
        raise FileNotFoundError(f"There is no clip {path}.")
    frames: list[np.ndarray] = []
    read_frames(path, VideoInfo(), Selection(cap=most), frames.append, lambda: None)
    if not frames:
        raise ValueError(f"{path.name} has no frames. Export it again.")
    return checked(torch.from_numpy(np.stack(frames)).float() / 255, path.name)


def read_pictures(path: Path, most: int = 0) -> list[Tensor]:
    """A picture, or those of a folder, each (1, h, w, 3) of its own size. most: at most so many, 0: all.

    Raises as `read_clip` does.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is no picture and no folder {path}.")
    files = images_of(path) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"The folder {path} holds no pictures ({', '.join(IMAGES)}).")
    return [_read_picture(file) for file in files[: most or None]]


def _read_picture(file: Path) -> Tensor:
    colour, hidden = read_image(file)
    if hidden is not None:
        colour = colour * (1 - hidden)[..., None]
    return checked(colour[None], file.name)
