"""Draw Pose and Align Pose, with keypoints as a pose preprocessor gives them and with drawings."""

import sys

from animatic_pack.nodes.poses import AlignPose, DrawPose
import pytest
import torch

cv2 = pytest.importorskip("cv2", reason="OpenCV draws")
# Neck, shoulders, arms and legs of a figure of height 1, from its neck; the head's five points follow.
BODY = [(0, -0.12), (0, 0), (-0.1, 0), (-0.12, 0.2), (-0.12, 0.38), (0.1, 0), (0.12, 0.2), (0.12, 0.38), (-0.06, 0.35)]
BODY += [(-0.06, 0.6), (-0.06, 0.85), (0.06, 0.35), (0.06, 0.6), (0.06, 0.85), (-0.03, -0.15), (0.03, -0.15)]
BODY += [(-0.06, -0.14), (0.06, -0.14)]


def pose(height, x, y, width=96, canvas=128, **parts):
    body = [number for dx, dy in BODY for number in (x + dx * height, y + dy * height, 1.0)]
    return {"people": [{"pose_keypoints_2d": body, **parts}], "canvas_width": width, "canvas_height": canvas}


SEQUENCE = [pose(60, 30 + 4 * i, 40) for i in range(3)]
REFERENCE = [pose(90, 60, 40, width=120, canvas=160)]


def test_keypoints_are_drawn_frame_by_frame():
    face = [20.0, 100.0, 1.0]
    (drawn,) = DrawPose().draw([pose(60, 48, 40, face_keypoints_2d=face), *SEQUENCE], 0, 0, True, True)
    assert drawn.shape == (4, 128, 96, 3) and drawn.dtype == torch.float32 and drawn.max() == 1
    assert drawn[0, 100, 20].tolist() == [1, 1, 1] and not torch.equal(drawn[1], drawn[2])
    (without,) = DrawPose().draw([pose(60, 48, 40, face_keypoints_2d=face)], 192, 256, True, False)
    assert without.shape == (1, 256, 192, 3) and not without[0, 200, 40].any()
    with pytest.raises(ValueError, match="no pose keypoints"):
        DrawPose().draw([], 0, 0, True, True)


@pytest.mark.parametrize("mode", ["whole figure", "limb by limb"])
def test_keypoints_are_aligned_and_drawn_on_the_references_canvas(mode):
    poses, keypoints = AlignPose().align(mode, SEQUENCE, REFERENCE)
    assert poses.shape == (3, 160, 120, 3) and len(keypoints) == 3
    assert keypoints[0]["people"][0]["pose_keypoints_2d"] == pytest.approx(
        REFERENCE[0]["people"][0]["pose_keypoints_2d"]
    )
    (again,) = DrawPose().draw(keypoints, 0, 0, True, True)
    assert torch.equal(again, poses)
    (reference,) = DrawPose().draw(REFERENCE, 0, 0, True, True)
    assert torch.equal(poses[0], reference[0]) and not torch.equal(poses[1], reference[0])


def test_drawings_are_aligned_without_keypoints():
    (poses,), (reference,) = (DrawPose().draw(frames, 0, 0, True, True) for frames in (SEQUENCE, REFERENCE))
    aligned, keypoints = AlignPose().align("whole figure", poses=poses, reference_pose=reference)
    assert aligned.shape == (3, 160, 120, 3) and keypoints == []
    wanted = reference[0].amax(-1) > 0.3
    overlap = ((aligned[0].amax(-1) > 0.3) & wanted).sum() / wanted.sum()
    assert overlap > 0.8


def test_what_is_missing_is_said():
    (poses,) = DrawPose().draw(SEQUENCE, 0, 0, True, True)
    with pytest.raises(ValueError, match="needs the keypoints, or the drawn poses, of both"):
        AlignPose().align("whole figure", pose_keypoint=SEQUENCE, reference_pose=poses)
    with pytest.raises(ValueError, match="'limb by limb' needs the keypoints of both"):
        AlignPose().align("limb by limb", poses=poses, reference_pose=poses[:1])


def test_without_opencv_the_way_out_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(RuntimeError, match="Drawing poses needs OpenCV: pip install opencv-python-headless"):
        DrawPose().draw(SEQUENCE, 0, 0, True, True)
