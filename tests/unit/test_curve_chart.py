"""The drawing of how a training went."""

import math

from animatic_pack.nodes.media.curve_chart import BOTTOM, LEFT, RIGHT, SIZE, TOP, Panel, curve_chart, running_mean
import pytest
import torch


def bright(picture: torch.Tensor) -> torch.Tensor:
    """Where the curve's own blue is."""
    return (picture[..., 2] > 0.8) & (picture[..., 0] < 0.75)


def test_a_falling_loss_is_drawn_falling():
    picture = curve_chart([Panel("loss", [(step, 1 / step) for step in range(1, 101)])])
    assert picture.shape == (SIZE[1], SIZE[0], 3) and 0 <= picture.min() and picture.max() <= 1
    curve = bright(picture)
    left, right = (curve[TOP:, column].nonzero().float().mean() for column in (LEFT + 2, SIZE[0] - RIGHT - 4))
    assert right > left + 60, "rows are counted from above"


def test_panels_are_below_each_other_and_empty_ones_left_out():
    panels = [Panel("a", [(1, 1.0)]), Panel("b", []), Panel("c", [(1, math.nan), (2, 3.0)], smoothed=True)]
    assert curve_chart(panels).shape == (2 * SIZE[1], SIZE[0], 3)
    with pytest.raises(ValueError, match="nothing to draw"):
        curve_chart([Panel("a", []), Panel("b", [(1, math.inf)])])


def test_a_constant_is_a_line_in_the_middle():
    rows = bright(curve_chart([Panel("rate", [(1, 1e-4), (90, 1e-4)])]))[TOP:, LEFT + 300].nonzero()
    middle = (SIZE[1] - TOP - BOTTOM) / 2
    assert abs(rows.float().mean() - middle) < 3


def test_the_running_mean_has_no_bias_at_its_start():
    assert running_mean([(1, 5.0), (2, 5.0)]) == [(1, 5.0), (2, 5.0)]
    noisy = [(step, 1.0 + (-1) ** step) for step in range(200)]
    assert max(value for _, value in running_mean(noisy)[50:]) < 1.2
