"""Clips at a glance: all frames in one picture, and motion in colours."""

from animatic_pack.nodes.media.contact_sheet import BACKGROUND, GAP, contact_sheet
from animatic_pack.nodes.media.flow_picture import flow_picture
import numpy as np
import pytest
import torch


def greys(count: int, height: int = 20, width: int = 40) -> torch.Tensor:
    return torch.linspace(0.2, 0.9, count)[:, None, None, None].expand(-1, height, width, 3)


def test_frames_stand_in_rows_from_left_to_right():
    sheet = contact_sheet(greys(5), width=40, columns=3)
    assert sheet.shape == (2 * 20 + 3 * GAP, 3 * 40 + 4 * GAP, 3)
    middles = [sheet[y, x, 0] for y in (GAP + 10, 2 * GAP + 30) for x in (GAP + 20, 2 * GAP + 60, 3 * GAP + 100)]
    assert middles[:5] == pytest.approx(greys(5)[:, 0, 0, 0].tolist(), abs=0.003)
    assert middles[5] == pytest.approx(BACKGROUND / 255) and sheet[0, 0, 0] == pytest.approx(BACKGROUND / 255)


def test_pictures_keep_their_shape_and_the_sheet_is_wide():
    sheet = contact_sheet(greys(16, 64, 64), width=32)
    assert sheet.shape[0] < sheet.shape[1] and (sheet.shape[0] - GAP) % (32 + GAP) == 0
    assert contact_sheet(greys(2), width=100, columns=7).shape == (50 + 2 * GAP, 2 * 100 + 3 * GAP, 3)


def test_numbers_are_written_into_corners():
    images = greys(2, 64, 64)
    plain, numbered = contact_sheet(images, 64, 2), contact_sheet(images, 64, 2, [0, 8])
    differs = (plain != numbered).any(-1)
    assert differs[:, : GAP + 32].any() and not differs[GAP + 32 :].any()
    assert not torch.equal(numbered[:24, GAP : GAP + 32], numbered[:24, 64 + 2 * GAP : 96 + 2 * GAP])


@pytest.mark.parametrize(
    ("direction", "colour"), [((1, 0), (1, 0, 0)), ((0, 1), (0.5, 1, 0)), ((-1, 0), (0, 1, 1)), ((0, -1), (0.5, 0, 1))]
)
def test_a_direction_has_its_hue_and_its_length_the_strength(direction, colour):
    flow = np.array([[direction, (0, 0), np.multiply(direction, 0.5), np.multiply(direction, 9)]], np.float32)
    full, none, half, beyond = flow_picture(flow, 1.0)[0]
    assert full == pytest.approx(colour, abs=1e-5) and beyond == pytest.approx(full)
    assert none.tolist() == [1, 1, 1] and half == pytest.approx((full + 1) / 2)
