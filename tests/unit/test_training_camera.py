"""Camera moves: the motion that is recovered from a clip is the one that was asked for."""

from itertools import pairwise
import math

from animatic_pack.training.camera import MOVES, CameraMove, move_between, render, views
import numpy as np
import pytest
import torch
from training_models import one_thread  # noqa: F401

cv2 = pytest.importorskip("cv2", reason="OpenCV recovers the motion in these tests")
pytestmark = pytest.mark.usefixtures("one_thread")

NUM_FRAMES, OUTPUT, SOURCE = 8, (96, 72), (240, 176)


MEASURED, GROUND = (192, 144), (480, 352)  # large enough that OpenCV measures well within what is allowed


def texture(seed: int = 0, size: tuple[int, int] = SOURCE) -> torch.Tensor:
    """(H, W, 3) in 0..1, with detail of every size."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(11, 15), (22, 30), (44, 60), (88, 120)]
    layers = [torch.randn(1, 1, *size, generator=generator) for size in sizes]
    width, height = size
    picture = sum(torch.nn.functional.interpolate(layer, (height, width), mode="bicubic") for layer in layers)
    picture = (picture - picture.min()) / (picture.max() - picture.min())
    return picture[0, 0, :, :, None].repeat(1, 1, 3)


def recovered(first: torch.Tensor, second: torch.Tensor, guess: np.ndarray) -> np.ndarray:
    """OpenCV's ECC: the affine map (3, 3) from pixels of the first picture to those of the second."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-8)
    pictures = (np.ascontiguousarray(frame[..., 0].numpy(), np.float32) for frame in (first, second))
    start = guess[:2].astype(np.float32)
    _, matrix = cv2.findTransformECC(*pictures, start, cv2.MOTION_AFFINE, criteria, None, 3)
    return np.vstack([matrix, [0, 0, 1]])


def similarity(matrix: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Growth, turn in degrees (clockwise on a screen) and shift of the middle, in pixels."""
    middle = np.array([(MEASURED[0] - 1) / 2, (MEASURED[1] - 1) / 2, 1.0])
    growth = math.sqrt(np.linalg.det(matrix[:2, :2]))
    turn = math.degrees(math.atan2(matrix[1, 0] - matrix[0, 1], matrix[0, 0] + matrix[1, 1]))
    return growth, turn, (matrix @ middle - middle)[:2]


OWN = {
    "zoom and pan": CameraMove(zoom=1.4, pan=0.2),
    "all at once": CameraMove(zoom=0.7, pan=-0.15, tilt=0.2, roll=15),
    "fast": CameraMove(zoom=1.2, pan=0.1, roll=-10).at_speed(1.7),
}


GENTLEST_AND_STRONGEST = [(name, share) for name in MOVES for share in (0.0, 1.0)]


@pytest.mark.parametrize(("name", "share"), [*GENTLEST_AND_STRONGEST, *((name, 0.0) for name in OWN)])
def test_recovered_motion_is_what_was_asked(name, share):
    move = OWN.get(name) or move_between(*MOVES[name], share)
    clip = render(texture(size=GROUND)[None].expand(NUM_FRAMES, -1, -1, -1), move, MEASURED)
    asked = move.step(NUM_FRAMES, *MEASURED)
    growth, turn, shift = similarity(asked)
    corners = np.array([[x, y, 1.0] for x in (12, MEASURED[0] - 13) for y in (12, MEASURED[1] - 13)]).T
    for first, second in pairwise(clip):
        found = recovered(first, second, np.eye(3))
        assert np.abs(((found - asked) @ corners)[:2]).max() < 0.1  # pixels, whatever was asked for or not
        found_growth, found_turn, found_shift = similarity(found)
        if move.zoom != 1:
            assert abs(math.log(found_growth / growth)) < 0.02 * abs(math.log(growth))
        if move.roll:
            assert abs(found_turn - turn) < 0.02 * abs(turn)
        if move.pan or move.tilt:
            assert np.linalg.norm(found_shift - shift) < 0.02 * np.linalg.norm(shift)


@pytest.mark.parametrize("name", [*MOVES, *OWN])
@pytest.mark.parametrize("source", (SOURCE, (120, 400), (97, 73)))
def test_no_border_gets_into_the_picture(name, source):
    move = OWN.get(name) or move_between(*MOVES[name], 1.0)
    white = torch.ones(1, source[1], source[0], 3).expand(5, -1, -1, -1)
    assert render(white, move, OUTPUT).min() > 1 - 1e-5  # outside of the source there is black


def test_the_view_is_as_large_as_it_can_be():
    first, *_, last = views(CameraMove(zoom=2.0), NUM_FRAMES, SOURCE, OUTPUT)
    assert first[0, 0] == pytest.approx((SOURCE[1] - 2) / (OUTPUT[1] - 1))  # all of the height, which is the tighter
    assert last[0, 0] == pytest.approx(first[0, 0] / 2)
    start, *_, end = views(CameraMove(pan=0.5), NUM_FRAMES, (300, 72), OUTPUT)
    assert end[0, 2] - start[0, 2] == pytest.approx(0.5 * OUTPUT[0] * start[0, 0])
    assert start[0, 2] + end[0, 2] + start[0, 0] * (OUTPUT[0] - 1) == pytest.approx(299)  # around the middle


def test_directions_have_the_words_of_what_one_sees():
    width, height = OUTPUT
    middle = np.array([(width - 1) / 2, (height - 1) / 2, 1])
    right, clockwise = CameraMove(pan=0.1), CameraMove(roll=30)
    assert (right.step(2, *OUTPUT) @ middle - middle)[0] < 0
    assert right.picture_motion() == "picture moves left 0.1 widths"
    edge = middle + [10, 0, 0]
    assert (clockwise.step(2, *OUTPUT) @ edge)[1] > middle[1]  # what is on the right goes down
    assert MOVES["RollingClockwise"][0].picture_motion() == "picture turns clockwise 20 degrees"
    assert MOVES["TiltUp"][0].picture_motion() == "picture moves down 0.12 heights"
    assert MOVES["ZoomOut"][1].picture_motion() == "picture shrinks 2 times"
    assert CameraMove().picture_motion() == "picture stays"


def test_a_flip_is_only_for_moves_that_it_leaves():
    assert {name for name, (gentle, _) in MOVES.items() if gentle.mirrors_unlike} == {
        "PanLeft", "PanRight", "RollingClockwise", "RollingAnticlockwise",
    }  # fmt: skip


def test_what_is_made_smaller_is_blurred_first():
    width, height = SOURCE
    checks = (torch.arange(width)[None] + torch.arange(height)[:, None]) % 2
    checks = checks.float()[None, :, :, None].repeat(2, 1, 1, 3)
    assert render(checks, CameraMove(), (48, 36)).std() < 0.02  # grey, not a coarser pattern


def test_a_source_that_is_too_small_and_an_impossible_zoom_are_said():
    with pytest.raises(ValueError, match="1 x 40 pixels is too small"):
        render(torch.ones(2, 40, 1, 3), CameraMove(), OUTPUT)
    with pytest.raises(ValueError, match="zoom of 0 is impossible"):
        CameraMove(zoom=0)
