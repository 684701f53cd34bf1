"""Poses as keypoints, and moving a sequence of them to where and how large a reference character is.

Keypoints come as pose preprocessors give them (OpenPose's JSON, frame by frame, with 18 body points); here
a person is an array (points, 3) of x, y in pixels and confidence for each part of the body, by the JSON's own names.
The paper scales the lengths of a pose to the reference's; no open version of it does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

BODY, FACE = "pose_keypoints_2d", "face_keypoints_2d"
RIGHT_HAND, LEFT_HAND = "hand_right_keypoints_2d", "hand_left_keypoints_2d"
PARTS = (BODY, FACE, LEFT_HAND, RIGHT_HAND)
BODY_POINTS = 18
NECK, NOSE, RIGHT_WRIST, LEFT_WRIST = 1, 0, 4, 7
# What hangs on what, (parent, child) from the neck outwards, in the order of OpenPose's colours; and the same limb of
# the other side, by child.
LIMBS = ((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13))
LIMBS += ((1, 0), (0, 14), (14, 16), (0, 15), (15, 17))
OTHER_SIDE = {2: 5, 3: 6, 4: 7, 8: 11, 9: 12, 10: 13, 14: 15, 16: 17}
OTHER_SIDE |= {right: left for left, right in OTHER_SIDE.items()}
WHOLE, BY_LIMB = "whole figure", "limb by limb"

NO_KEYPOINTS = "These are no pose keypoints. Connect POSE_KEYPOINT of a pose preprocessor, such as DWPose."

Person = dict[str, np.ndarray]


@dataclass(frozen=True)
class PoseFrame:
    width: int
    height: int
    people: tuple[Person, ...]


def read_poses(frames) -> list[PoseFrame]:
    """What POSE_KEYPOINT holds, with numbers in pixels or as shares of the picture. Raises ValueError if it is not."""
    frames = [frames] if isinstance(frames, dict) else frames
    if not frames or not all(isinstance(frame, dict) and isinstance(frame.get("people"), list) for frame in frames):
        raise ValueError(NO_KEYPOINTS)
    return [_read_frame(frame) for frame in frames]


def write_poses(frames: Sequence[PoseFrame]) -> list[dict]:
    """The same form again, in pixels."""
    return [
        {
            "people": [
                {part: person[part].flatten().tolist() if part in person else None for part in PARTS}
                for person in frame.people
            ],
            "canvas_width": frame.width,
            "canvas_height": frame.height,
        }
        for frame in frames
    ]


def _read_frame(frame: dict) -> PoseFrame:
    width, height = int(frame.get("canvas_width") or 512), int(frame.get("canvas_height") or 512)
    people = []
    for found in frame["people"]:
        try:
            person = {part: np.array(found[part], float).reshape(-1, 3) for part in PARTS if found.get(part)}
        except (AttributeError, TypeError, ValueError):
            raise ValueError(NO_KEYPOINTS) from None
        body = person.get(BODY)
        if body is None:
            raise ValueError("A pose has no body points. Switch on the body in the pose preprocessor, such as DWPose.")
        if len(body) != BODY_POINTS:
            raise ValueError(
                f"A pose has {len(body)} body points; OpenPose's {BODY_POINTS} are needed (not BODY_25). Use DWPose."
            )
        people.append(person)
    # up to 2, because a point may be outside of the picture, and no figure is two pixels large
    shares = [np.abs(points[:, :2]).max(initial=0) <= 2 for person in people for points in person.values()]
    if shares and all(shares):
        scale = np.array((width, height, 1.0))
        people = [{part: points * scale for part, points in person.items()} for person in people]
    return PoseFrame(width, height, tuple(people))


def seen(points: np.ndarray) -> np.ndarray:
    """Which points were found: preprocessors write zeros for others, detectors a low confidence."""
    return (points[:, 2] >= 0.3) & (points[:, :2] != 0).any(axis=1)


def align_poses(frames: Sequence[PoseFrame], reference: PoseFrame, mode: str = WHOLE) -> list[PoseFrame]:
    """The sequence on the reference's canvas, as large as the reference's figure and beginning at its neck.

    mode: WHOLE scales everything alike; BY_LIMB gives each limb the reference's length too, both sides alike.
    Raises ValueError if nobody, or no limb that both show, is found.
    """
    model = _first_person([reference], "The reference pose")
    start = _first_person(frames, "The pose sequence")
    lengths, wanted = _lengths(frames), _lengths([reference])
    shared = [limb for limb in LIMBS if limb in lengths and limb in wanted]
    if not shared:
        raise ValueError(
            "The reference pose and the pose sequence have no limb in common that both show. Show more of the body."
        )
    scale = sum(wanted[limb] for limb in shared) / sum(lengths[limb] for limb in shared)
    ratios = {limb: scale for limb in LIMBS}
    if mode == BY_LIMB:
        ratios |= _ratios(shared, lengths, wanted, scale)
    anchor, target = _root(start), _root(model)

    def moved(points: np.ndarray) -> np.ndarray:
        return np.concatenate([(points[:, :2] - anchor) * scale + target, points[:, 2:]], axis=1)

    return [
        PoseFrame(
            reference.width, reference.height, tuple(_fitted(person, moved, ratios, scale) for person in frame.people)
        )
        for frame in frames
    ]


def _fitted(person: Person, moved, ratios: dict[tuple[int, int], float], scale: float) -> Person:
    """A person with limbs of other lengths; hands hang on their wrists and the face on the nose."""
    body, visible = person[BODY], seen(person[BODY])
    fitted = moved(body)
    for parent, child in LIMBS:
        if visible[parent] and visible[child]:
            step = (body[child, :2] - body[parent, :2]) * ratios[parent, child]
            fitted[child, :2] = fitted[parent, :2] + step
    fitted[~visible] = 0
    result = {BODY: fitted}
    for part, joint in ((FACE, NOSE), (LEFT_HAND, LEFT_WRIST), (RIGHT_HAND, RIGHT_WRIST)):
        if part in person:
            points = person[part]
            hanging = visible[joint]
            new = moved(points)
            if hanging:
                new[:, :2] = fitted[joint, :2] + (points[:, :2] - body[joint, :2]) * scale
            new[~seen(points)] = 0
            result[part] = new
    return result


def _first_person(frames: Sequence[PoseFrame], what: str) -> Person:
    """The largest one of the first frame that shows anybody."""
    for frame in frames:
        people = [person for person in frame.people if seen(person[BODY]).any()]
        if people:
            return max(people, key=lambda person: np.ptp(person[BODY][seen(person[BODY]), :2], axis=0).sum())
    raise ValueError(f"{what} shows nobody. Choose a picture in which the preprocessor finds a person.")


def _lengths(frames: Sequence[PoseFrame]) -> dict[tuple[int, int], float]:
    """The median length of each limb that is seen, of the largest person."""
    found: dict[tuple[int, int], list[float]] = {}
    for frame in frames:
        if not any(seen(person[BODY]).any() for person in frame.people):
            continue
        body = _first_person([frame], "")[BODY]
        visible = seen(body)
        for parent, child in LIMBS:
            if visible[parent] and visible[child]:
                length = float(np.linalg.norm(body[child, :2] - body[parent, :2]))
                found.setdefault((parent, child), []).append(length)
    medians = {limb: float(np.median(lengths)) for limb, lengths in found.items()}
    return {limb: length for limb, length in medians.items() if length > 0}


def _ratios(shared, lengths: dict, wanted: dict, scale: float) -> dict[tuple[int, int], float]:
    """By limb, both sides alike; within a factor of two, because a limb that points at the camera looks short."""
    found = {child: wanted[parent, child] / lengths[parent, child] for parent, child in shared}
    ratios = {}
    for parent, child in LIMBS:
        sides = [found[side] for side in (child, OTHER_SIDE.get(child)) if side in found]
        if sides:
            ratios[parent, child] = float(np.clip(np.mean(sides), scale / 2, scale * 2))
    return ratios


def _root(person: Person) -> np.ndarray:
    body, visible = person[BODY], seen(person[BODY])
    return body[NECK, :2] if visible[NECK] else body[visible, :2].mean(axis=0)


def without_parts(frames: Sequence[PoseFrame], parts: Sequence[str]) -> list[PoseFrame]:
    return [
        replace(frame, people=tuple({p: v for p, v in person.items() if p not in parts} for person in frame.people))
        for frame in frames
    ]
