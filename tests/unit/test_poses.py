"""Poses as keypoints: read, drawn in OpenPose's colours, and brought to a reference's size, place and build."""

from animatic_pack.animate_anyone import poses
from animatic_pack.animate_anyone.drawn_poses import align_drawings, figure_box
from animatic_pack.nodes.media.pose_drawing import COLOURS, draw_pose
import numpy as np
import pytest
import torch

WIDTH, HEIGHT = 200, 300
# A figure that stands with its arms down, as shares of its height, from its neck; 18 points.
FIGURE = np.array(
    [(0, -0.12), (0, 0), (-0.1, 0), (-0.12, 0.2), (-0.12, 0.38), (0.1, 0), (0.12, 0.2), (0.12, 0.38), (-0.06, 0.35)]
    + [(-0.06, 0.6), (-0.06, 0.85), (0.06, 0.35), (0.06, 0.6), (0.06, 0.85), (-0.03, -0.15), (0.03, -0.15)]
    + [(-0.06, -0.14), (0.06, -0.14)]
)


def person(height, at, **parts):
    body = np.concatenate([FIGURE * height + np.array(at), np.ones((18, 1))], axis=1)
    return {"pose_keypoints_2d": body.flatten().tolist(), **parts}


def frame(*people, width=WIDTH, height=HEIGHT):
    return {"people": list(people), "canvas_width": width, "canvas_height": height}


def body_of(pose):
    return pose.people[0][poses.BODY]


def test_shares_outside_of_the_picture_are_shares():
    points = np.array(person(100, (90, 120))["pose_keypoints_2d"]).reshape(-1, 3) / (WIDTH, HEIGHT, 1.0)
    points[10, 1] = 1.08  # an ankle below the picture
    (read,) = poses.read_poses(frame({"pose_keypoints_2d": points.flatten().tolist()}))
    assert np.allclose(body_of(read)[:, :2], points[:, :2] * (WIDTH, HEIGHT))


def test_keypoints_come_in_pixels_or_as_shares_and_go_out_in_pixels():
    hand = [value for i in range(21) for value in (10.0 + i, 20.0, 1.0)]
    pixels = frame(person(100, (90, 120), hand_left_keypoints_2d=hand, face_keypoints_2d=None))
    scale = np.array((WIDTH, HEIGHT, 1.0))

    def shared(values):
        return (np.array(values).reshape(-1, 3) / scale).flatten().tolist()

    shares = frame({key: shared(value) for key, value in pixels["people"][0].items() if value})
    (read,), (again,) = poses.read_poses([pixels]), poses.read_poses(shares)
    assert set(read.people[0]) == {poses.BODY, poses.LEFT_HAND}
    for part in read.people[0]:
        assert np.allclose(read.people[0][part], again.people[0][part])
    written = poses.write_poses([again])
    assert written[0]["canvas_width"] == WIDTH and written[0]["people"][0]["face_keypoints_2d"] is None
    assert np.allclose(written[0]["people"][0]["pose_keypoints_2d"], pixels["people"][0]["pose_keypoints_2d"])


@pytest.mark.parametrize(
    "content, problem",
    [
        ([], "no pose keypoints"),
        ([{"a": 1}], "no pose keypoints"),
        ([{"people": None}], "no pose keypoints"),
        ([frame([1, 2])], "no pose keypoints"),
        ([frame({"pose_keypoints_2d": [1.0] * 50})], "no pose keypoints"),
        ([frame({"pose_keypoints_2d": ["a"] * 54})], "no pose keypoints"),
        ([frame({"face_keypoints_2d": [1.0] * 210})], "no body points. Switch on the body"),
        ([frame({"pose_keypoints_2d": [1.0] * 75})], "25 body points"),
    ],
)
def test_other_content_is_refused(content, problem):
    with pytest.raises(ValueError, match=problem):
        poses.read_poses(content)


def test_drawings_have_openposes_colours_at_their_joints():
    pytest.importorskip("cv2", reason="OpenCV draws")
    (pose,) = poses.read_poses([frame(person(200, (100, 80)))])
    canvas = draw_pose(pose)
    assert canvas.shape == (HEIGHT, WIDTH, 3)
    assert [tuple(canvas[int(y), int(x)]) for x, y, _ in body_of(pose)] == list(COLOURS)
    middle = (body_of(pose)[8, :2] + body_of(pose)[9, :2]) / 2  # right thigh, the eighth limb
    assert tuple(canvas[int(middle[1]), int(middle[0])]) == tuple(int(0.6 * c) for c in COLOURS[7])
    body_of(pose)[4] = 0  # the right wrist was not found
    assert not (draw_pose(pose) == COLOURS[4]).all(-1).any()
    assert draw_pose(pose, 400, 600).shape == (600, 400, 3)
    assert not draw_pose(poses.read_poses([frame()])[0]).any()


def test_hands_and_faces_are_drawn_where_they_are():
    pytest.importorskip("cv2", reason="OpenCV draws")
    points = [value for i in range(21) for value in (150.0 + (i % 5) * 8, 200.0 + i, 1.0)]
    found = {"hand_right_keypoints_2d": points, "face_keypoints_2d": [20.0, 30.0, 1.0, 0.0, 0.0, 0.0]}
    read = poses.read_poses([frame(person(100, (60, 60), **found))])
    canvas = draw_pose(read[0])
    assert tuple(canvas[30, 20]) == (255, 255, 255) and tuple(canvas[200, 150]) == (0, 0, 255)
    assert not canvas[:8, :8].any(), "a point at the corner was not found"
    alone = poses.without_parts(read, (poses.FACE, poses.RIGHT_HAND))
    assert not draw_pose(alone[0])[30, 20].any() and set(alone[0].people[0]) == {poses.BODY}


def sequence(height, steps):
    """A figure that walks to the right and turns its right forearm."""
    frames = []
    for step in range(steps):
        figure = person(height, (60 + 10 * step, 120))
        body = np.array(figure["pose_keypoints_2d"]).reshape(-1, 3)
        angle = 0.4 * step
        turn = np.array(((np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))))
        body[4, :2] = body[3, :2] + turn @ (body[4, :2] - body[3, :2])
        frames.append(frame({"pose_keypoints_2d": body.flatten().tolist()}))
    return poses.read_poses(frames)


def test_a_sequence_is_as_large_and_where_the_reference_is():
    (reference,) = poses.read_poses([frame(person(200, (150, 90)), width=320, height=400)])
    before = sequence(100, 4)
    after = poses.align_poses(before, reference)
    assert np.allclose(body_of(after[0]), body_of(reference))
    for old, new in zip(before, after, strict=True):
        assert (new.width, new.height) == (320, 400)
        assert np.allclose(body_of(new)[:, :2] - body_of(after[0])[1, :2], 2 * (body_of(old)[:, :2] - (60, 120)))


def test_limbs_get_the_references_lengths_and_keep_their_directions():
    """A child's build: long head, short legs."""
    model = person(120, (150, 150))
    body = np.array(model["pose_keypoints_2d"]).reshape(-1, 3)
    for knee, ankle in ((9, 10), (12, 13)):
        body[ankle, :2] = body[knee, :2] + (body[ankle, :2] - body[knee, :2]) * 0.6
    model["pose_keypoints_2d"] = body.flatten().tolist()
    (reference,) = poses.read_poses([frame(model)])
    hand = [value for i in range(21) for value in (48.0 + i, 151.0 + i, 1.0)]
    before = sequence(100, 3)
    before[2].people[0][poses.RIGHT_HAND] = np.array(hand).reshape(-1, 3)
    after = poses.align_poses(before, reference, poses.BY_LIMB)
    assert np.allclose(body_of(after[0]), body_of(reference))

    def step(pose, parent, child):
        return body_of(pose)[child, :2] - body_of(pose)[parent, :2]

    for parent, child in poses.LIMBS:
        old, new, wanted = step(before[2], parent, child), step(after[2], parent, child), step(reference, parent, child)
        assert np.cross(np.append(old, 0), np.append(new, 0))[2] == pytest.approx(0, abs=1e-6)
        assert np.linalg.norm(new) == pytest.approx(np.linalg.norm(wanted))
    old, new = (pose.people[0][poses.RIGHT_HAND][:, :2] - body_of(pose)[4, :2] for pose in (before[2], after[2]))
    assert np.allclose(new / old, new[0, 0] / old[0, 0]), "the hand hangs on its wrist"


def test_points_that_were_not_found_stay_so():
    (reference,) = poses.read_poses([frame(person(150, (100, 100)))])
    before = sequence(100, 2)
    body_of(before[1])[[3, 7]] = 0
    after = poses.align_poses(before, reference, poses.BY_LIMB)
    assert not body_of(after[1])[[3, 7]].any() and body_of(after[1])[[2, 4, 6]].all()
    empty = poses.read_poses([frame(), frame(person(80, (50, 50)))])
    assert [len(pose.people) for pose in poses.align_poses(empty, reference)] == [0, 1]
    with pytest.raises(ValueError, match="The pose sequence shows nobody"):
        poses.align_poses(empty[:1], reference)


def test_drawings_are_scaled_and_stand_on_the_references_feet():
    sequence = torch.zeros(3, 60, 80, 3)
    for i in range(3):
        sequence[i, 20:40, 10 + 5 * i : 16 + 5 * i] = 0.8
    reference = torch.zeros(1, 100, 120, 3)
    reference[0, 30:70, 40:60] = 1.0
    aligned = align_drawings(sequence, reference)
    assert aligned.shape == (3, 100, 120, 3)
    boxes = [figure_box(pose > 0.4) for pose in aligned]
    assert boxes == [(44 + 10 * i, 30, 56 + 10 * i, 70) for i in range(3)]
    with pytest.raises(ValueError, match="reference pose shows no figure"):
        align_drawings(sequence, torch.zeros(1, 8, 8, 3))
