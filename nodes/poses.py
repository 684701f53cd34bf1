"""Nodes that draw poses, and bring a sequence of them to where and how large a reference character is."""

import numpy as np
import torch

from ..animate_anyone import poses as keypoints
from ..animate_anyone.drawn_poses import align_drawings
from . import widgets
from .host.core.progress import with_progress
from .media.pose_drawing import draw_pose

KEYPOINTS = "POSE_KEYPOINT"  # as the pose preprocessors of comfyui_controlnet_aux name theirs


def drawn(frames, width: int = 0, height: int = 0) -> torch.Tensor:
    """(N, H, W, 3) of 0 to 1; all as large as the first one."""
    width, height = width or frames[0].width, height or frames[0].height
    pictures = [draw_pose(frame, width, height) for frame in with_progress(frames)]
    return torch.from_numpy(np.stack(pictures)) / 255


class DrawPose:
    CATEGORY = "Animatic/Animate Anyone"
    DESCRIPTION = (
        "Draws pose keypoints in OpenPose's colours, as Pose Guiders and OpenPose ControlNets were trained on."
    )
    SEARCH_ALIASES = ["OpenPose", "DWPose", "skeleton", "POSE_KEYPOINT", "render pose"]
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("poses",)
    OUTPUT_TOOLTIPS = ("A picture for each frame, for Apply Animate Anyone or a ControlNet.",)
    FUNCTION = "draw"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "pose_keypoint": widgets.socket(KEYPOINTS, "From a pose preprocessor, or from Align Pose."),
                "width": widgets.integer(0, 0, 16384, "In pixels; 0 is that of the keypoints."),
                "height": widgets.integer(0, 0, 16384, "In pixels; 0 is that of the keypoints."),
                "hands": widgets.switch(True, "Whether hands are drawn, if the keypoints have them."),
                "face": widgets.switch(True, "Whether points of the face are drawn, if the keypoints have them."),
            }
        }

    def draw(self, pose_keypoint, width, height, hands, face):
        frames = keypoints.read_poses(pose_keypoint)
        left_out = () if hands else (keypoints.LEFT_HAND, keypoints.RIGHT_HAND)
        left_out += () if face else (keypoints.FACE,)
        return (drawn(keypoints.without_parts(frames, left_out), width, height),)


class AlignPose:
    CATEGORY = "Animatic/Animate Anyone"
    DESCRIPTION = (
        "Scales and moves a pose sequence to the reference character, so that it keeps its size and place in the "
        "picture. Connect keypoints of both, or else drawn poses of both."
    )
    SEARCH_ALIASES = ["pose alignment", "retarget", "rescale pose", "match pose", "Animate Anyone"]
    RETURN_TYPES = ("IMAGE", KEYPOINTS)
    RETURN_NAMES = ("poses", "pose_keypoint")
    OUTPUT_TOOLTIPS = (
        "The aligned poses, as large as the reference's picture, for Apply Animate Anyone.",
        "Their keypoints; empty where drawn poses were aligned.",
    )
    FUNCTION = "align"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "mode": widgets.choice(
                    [keypoints.WHOLE, keypoints.BY_LIMB],
                    keypoints.WHOLE,
                    "whole figure: one scale for all. limb by limb: each limb as long as the reference's, for another "
                    "build or a child; that needs keypoints.",
                ),
            },
            "optional": {
                "pose_keypoint": widgets.socket(KEYPOINTS, "The pose sequence, from a pose preprocessor."),
                "reference_keypoint": widgets.socket(KEYPOINTS, "The reference picture's pose, from the same one."),
                "poses": widgets.socket("IMAGE", "The pose sequence, drawn on black, if there are no keypoints."),
                "reference_pose": widgets.socket("IMAGE", "The reference picture's pose, drawn in the same way."),
            },
        }

    def align(self, mode, pose_keypoint=None, reference_keypoint=None, poses=None, reference_pose=None):
        if pose_keypoint is not None and reference_keypoint is not None:
            frames, reference = keypoints.read_poses(pose_keypoint), keypoints.read_poses(reference_keypoint)[0]
            aligned = keypoints.align_poses(frames, reference, mode)
            return drawn(aligned), keypoints.write_poses(aligned)
        if poses is None or reference_pose is None:
            raise ValueError("Align Pose needs the keypoints, or the drawn poses, of both sequence and reference.")
        if mode == keypoints.BY_LIMB:
            raise ValueError("Align Pose: 'limb by limb' needs the keypoints of both; drawn poses have only a size.")
        return align_drawings(poses, reference_pose[:1]), []


NODE_CLASSES = {
    "AnimaticDrawPose": (DrawPose, "Draw Pose"),
    "AnimaticAlignPose": (AlignPose, "Align Pose"),
}
