"""All frames of a clip in one picture."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont
import torch
from torch import Tensor

GAP = 4  # pixels between pictures
BACKGROUND = 30
ASPECT = 16 / 9  # that a sheet comes near to, if the columns are ours to choose


def contact_sheet(images: Tensor, width: int, columns: int = 0, numbers: list[int] | None = None) -> Tensor:
    """images: (F, h, w, 3) in 0..1, each `width` pixels wide in the sheet (H, W, 3). columns: 0 chooses.

    numbers: of the frames, to stand in their corners.
    """
    frames, height = images.shape[0], max(1, round(images.shape[1] * width / images.shape[2]))
    columns = min(frames, columns or max(1, round(math.sqrt(frames * ASPECT * height / width))))
    rows = math.ceil(frames / columns)
    size = GAP + columns * (width + GAP), GAP + rows * (height + GAP)
    sheet = Image.new("RGB", size, (BACKGROUND,) * 3)
    font = ImageFont.load_default(max(10, min(width, height) // 8))
    for index, image in enumerate(images):
        pixels = image[..., :3].clamp(0, 1).mul(255).round().byte().cpu().numpy()
        picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
        if numbers:
            draw = ImageDraw.Draw(picture)
            draw.text((4, 2), str(numbers[index]), "white", font, stroke_width=2, stroke_fill="black")
        row, column = divmod(index, columns)
        sheet.paste(picture, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return torch.from_numpy(np.array(sheet)).float() / 255
