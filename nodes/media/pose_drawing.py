"""Poses in OpenPose's colours, as pose preprocessors draw them and Pose Guiders were trained on."""

import colorsys
import math

import numpy as np

from ...animate_anyone.poses import BODY, FACE, LEFT_HAND, LIMBS, RIGHT_HAND, PoseFrame, seen
from .opencv import opencv

# Of limbs and of joints, in their order.
COLOURS = ((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0))
COLOURS += ((0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255))
COLOURS += ((170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85))
FINGERS = tuple((joint - 1 if joint % 4 != 1 else 0, joint) for joint in range(1, 21))
STICK, JOINT, FACE_POINT, FINGER = 4, 4, 3, 2  # pixels, whatever the picture's size


def draw_pose(frame: PoseFrame, width: int = 0, height: int = 0) -> np.ndarray:
    """(height, width, 3) of 0 to 255. Without a size, the frame's own; otherwise it is scaled to it."""
    cv2 = opencv("Drawing poses")
    width, height = width or frame.width, height or frame.height
    scale = np.array((width / frame.width, height / frame.height))
    canvas = np.zeros((height, width, 3), np.uint8)
    for person in frame.people:
        points = {part: (values[:, :2] * scale, seen(values)) for part, values in person.items()}
        _draw_body(cv2, canvas, *points[BODY])
        for part in (LEFT_HAND, RIGHT_HAND):
            if part in points:
                _draw_hand(cv2, canvas, *points[part])
        if FACE in points:
            _draw_joints(cv2, canvas, *points[FACE], [(255, 255, 255)] * len(points[FACE][0]), FACE_POINT)
    return canvas


def _draw_body(cv2, canvas: np.ndarray, points: np.ndarray, visible: np.ndarray) -> None:
    for (first, second), colour in zip(LIMBS, COLOURS, strict=False):
        if visible[first] and visible[second]:
            (x, y), (dx, dy) = (points[first] + points[second]) / 2, points[second] - points[first]
            axes = int(math.hypot(dx, dy) / 2), STICK
            outline = cv2.ellipse2Poly((int(x), int(y)), axes, int(math.degrees(math.atan2(dy, dx))), 0, 360, 1)
            cv2.fillConvexPoly(canvas, outline, [int(0.6 * c) for c in colour])
    _draw_joints(cv2, canvas, points, visible, COLOURS, JOINT)


def _draw_hand(cv2, canvas: np.ndarray, points: np.ndarray, visible: np.ndarray) -> None:
    for number, (first, second) in enumerate(FINGERS):
        if visible[first] and visible[second]:
            colour = [255 * c for c in colorsys.hsv_to_rgb(number / len(FINGERS), 1, 1)]
            cv2.line(canvas, *(tuple(map(int, points[joint])) for joint in (first, second)), colour, FINGER)
    _draw_joints(cv2, canvas, points, visible, [(0, 0, 255)] * len(points), JOINT)


def _draw_joints(cv2, canvas: np.ndarray, points: np.ndarray, visible: np.ndarray, colours, radius: int) -> None:
    for (x, y), drawn, colour in zip(points, visible, colours, strict=False):
        if drawn:
            cv2.circle(canvas, (int(x), int(y)), radius, colour, thickness=-1)
