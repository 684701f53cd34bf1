"""Image files of a folder, as frames in the order of their numbers."""

from pathlib import Path
import re

import numpy as np
from PIL import Image, ImageOps
import torch

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def images_of(folder: Path) -> list[Path]:
    images = (path for path in folder.iterdir() if path.suffix.lower() in IMAGES and path.is_file())
    return sorted(images, key=lambda path: natural(path.name))


def natural(name: str) -> list:
    return [int(part) if part.isdecimal() else part for part in re.split("([0-9]+)", name.lower())]


def read_image(path: Path) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Colour (H, W, 3) and mask (H, W), 1 where transparent or None, as float in 0..1, turned as the camera says.

    Raises ValueError that names the file if it cannot be read.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path.name} cannot be read as an image ({error}). Mend or remove it.") from error
    if image.mode[0] in "IF":  # grey of 16 bits or floats, which Pillow would clip instead of scale
        grey = np.asarray(image).astype(np.float32) / (1 if image.mode == "F" else 65535)
        return torch.from_numpy(grey.clip(0, 1))[..., None].repeat(1, 1, 3), None
    if "A" not in image.getbands() and "transparency" not in image.info:
        return torch.from_numpy(np.array(image.convert("RGB"))) / 255, None
    pixels = torch.from_numpy(np.array(image.convert("RGBA"))) / 255
    return pixels[..., :3], 1 - pixels[..., 3]
