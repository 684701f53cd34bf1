"""python draw_icon.py: the registry's icon and banner, drawn as Preview Context draws a clip's windows."""

from animatic_pack import ROOT
from animatic_pack.nodes.media.window_chart import window_chart
from animatic_pack.nodes.timeline.windows import fuse_weights
import numpy as np
from PIL import Image

PICTURES = {"icon.png": ((384, 384), 12, 6, 3), "banner.png": ((1344, 576), 36, 12, 4)}  # size, frames, window, overlap


def draw(size: tuple[int, int], num_frames: int, length: int, overlap: int) -> Image.Image:
    starts = range(0, num_frames - length + 1, length - overlap)
    windows = [list(range(start, start + length)) for start in starts]
    chart = window_chart([windows], [fuse_weights(windows, num_frames, "overlap-linear", overlap)], num_frames)
    return Image.fromarray((chart.numpy() * 255).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)


if __name__ == "__main__":
    for name, (size, *shape) in PICTURES.items():
        draw(size, *shape).save(ROOT / "docs" / name, optimize=True)
