"""Poses that come as pictures alone: a figure drawn on black, moved and scaled to the reference's."""

import torch
from torch import Tensor, nn

DARK = 0.1


def align_drawings(poses: Tensor, reference: Tensor) -> Tensor:
    """Poses (N, H, W, 3) on the canvas of the reference's pose (1, H', W', 3): (N, H', W', 3).

    One scale, from the figures' heights (the sequence's median), and one shift, which puts the feet of the first frame
    where the reference's are. Raises ValueError if a picture that counts is empty.
    """
    boxes = [box for pose in poses if (box := figure_box(pose)) is not None]
    wanted = figure_box(reference[0])
    if not boxes or wanted is None:
        what = "pose sequence" if not boxes else "reference pose"
        raise ValueError(f"The {what} shows no figure: poses are drawn in colours on black. Connect such a drawing.")
    heights = torch.tensor([bottom - top for _, top, _, bottom in boxes], dtype=torch.float32)
    scale = (wanted[3] - wanted[1]) / float(heights.median())
    (left, _, right, bottom), (to_left, _, to_right, to_bottom) = boxes[0], wanted
    height, width = reference.shape[1:3]
    x = (torch.arange(width) + 0.5 - (to_left + to_right) / 2) / scale + (left + right) / 2
    y = (torch.arange(height) + 0.5 - to_bottom) / scale + bottom
    grid = torch.stack(torch.meshgrid(2 * x / poses.shape[2] - 1, 2 * y / poses.shape[1] - 1, indexing="xy"), dim=-1)
    pictures = poses[..., :3].movedim(-1, 1).float()
    moved = [nn.functional.grid_sample(one[None], grid[None].to(one), align_corners=False) for one in pictures]
    return torch.cat(moved).movedim(1, -1)


def figure_box(pose: Tensor) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom edge, in pixels, of what is not black in (H, W, 3); None if all is."""
    bright = pose[..., :3].amax(-1) > DARK
    rows, columns = (bright.any(dim).nonzero().flatten().tolist() for dim in (1, 0))
    return (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if rows else None
