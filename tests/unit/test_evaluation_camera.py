"""The camera's way is found again in clips that were made with it."""

from animatic_pack.evaluation.camera import fit_camera, nearest_move
from animatic_pack.training.camera import MOVES, CameraMove, move_between, render
from moving_clips import texture
import pytest
import torch


def filmed(move: CameraMove, frames: int = 6) -> torch.Tensor:
    return render(texture(400).expand(frames, -1, -1, -1), move, (160, 128))


@pytest.mark.parametrize("name", MOVES)
def test_each_move_is_found(name):
    made = move_between(*MOVES[name], 0.6)
    found = fit_camera(filmed(made))
    assert nearest_move(found.move) == name and found.agreement > 0.9
    assert found.move.zoom == pytest.approx(made.zoom, rel=0.02)
    assert (found.move.pan, found.move.tilt) == pytest.approx((made.pan, made.tilt), abs=0.01)
    assert found.move.roll == pytest.approx(made.roll, abs=0.5)


def test_two_moves_at_once():
    made = CameraMove(zoom=1.3, pan=0.15, roll=10)
    found = fit_camera(filmed(made)).move
    assert (found.zoom, found.pan, found.roll) == pytest.approx((1.3, 0.15, 10), rel=0.05)


def test_something_that_goes_its_own_way_counts_little():
    clip = filmed(CameraMove(pan=0.2))
    thing = texture(80, seed=5)[:64, :64]
    for frame, picture in enumerate(clip):
        picture[50:114, 20 + 4 * frame : 84 + 4 * frame] = thing
    found = fit_camera(clip)
    assert found.move.pan == pytest.approx(0.2, abs=0.01) and abs(found.move.roll) < 1 and found.agreement < 0.9


def test_noise_is_no_camera_move():
    found = fit_camera(torch.rand(4, 96, 96, 3))
    assert found is None or found.agreement < 0.5


@pytest.mark.parametrize("clip", [torch.full((3, 96, 96, 3), 0.5), torch.rand(1, 96, 96, 3), torch.rand(3, 40, 96, 3)])
def test_nothing_is_said_without_texture_of_one_frame_or_of_tiny_pictures(clip):
    assert fit_camera(clip) is None


def test_what_cannot_be_told_from_standing_still_is_not_said():
    assert str(fit_camera(texture(96).expand(3, -1, -1, -1))) == "picture stays (100% of it)"
    assert str(fit_camera(filmed(CameraMove(tilt=0.25)))).startswith("picture moves down 0.2")
