"""Nodes that make clips to learn from."""

from ..training.camera import MOVES
from ..training.config import Camera
from ..training.manifest import ClipSampling
from ..training.sources import FrameBatch
from . import widgets
from .host.core.paths import name_problem
from .host.frames.save import play_clip
from .host.training.clips import (
    TrainingClips,
    beside_poses,
    describe,
    folder_fingerprint,
    side_by_side,
    video_folders,
    videos_of,
    with_drawn_poses,
)
from .sockets import TRAINING_CLIPS

ONLY_IMAGES = "(the images input)"
OWN_MOVE = "own"


class OfVideoFolder:
    """A node with an input `folder`, of videos in the input folder."""

    @classmethod
    def VALIDATE_INPUTS(cls, folder):
        return folder == ONLY_IMAGES or name_problem(folder, folder=True)

    @classmethod
    def IS_CHANGED(cls, folder, **_):
        return "" if folder == ONLY_IMAGES else folder_fingerprint(folder)


class VideoDataset(OfVideoFolder):
    CATEGORY = "Animatic/Training"
    DESCRIPTION = (
        "Clips to learn from: of the videos in a folder with a .txt caption beside each, of a WebVid-style table, or "
        "of images. Videos that are damaged or too short are named and left out."
    )
    SEARCH_ALIASES = ["training data", "dataset", "videos", "captions", "WebVid"]
    RETURN_TYPES = (TRAINING_CLIPS,)
    RETURN_NAMES = ("clips",)
    OUTPUT_TOOLTIPS = ("For the training nodes, or for Camera Motion Clips.",)
    FUNCTION = "draw"

    @classmethod
    def INPUT_TYPES(cls):
        folders = [*video_folders(), ONLY_IMAGES]
        return {
            "required": {
                "folder": (folders, {"tooltip": "A folder of videos in ComfyUI's input folder."}),
                "table": widgets.text(
                    "", "A csv in that folder with the columns videoid and name (the caption). Empty: .txt files."
                ),
                "caption": widgets.text("", "For images, and for videos that have no caption.", multiline=True),
                "num_frames": widgets.integer(16, 1, 256, "Frames of a clip. AnimateDiff learns from 16."),
                "stride": widgets.integer(
                    2, 1, 64, "Every how many-th frame of a video is taken: more is faster motion. The paper has 4."
                ),
                "frame_rate": widgets.number(
                    0.0, 0.0, 240.0, "Bring videos to this rate first, so that stride means the same in all. 0: don't."
                ),
                "width": widgets.integer(
                    256, 64, 2048, "Of the clips; a multiple of 8. Videos are cut, not stretched."
                ),
                "height": widgets.integer(
                    256, 64, 2048, "Of the clips; a multiple of 8. 512 takes 4 times the memory."
                ),
                "clips_per_video": widgets.integer(1, 1, 1000, "How many clips are drawn from each video."),
                "flip": widgets.switch(False, "Mirror half of the clips, but never those of a pan or a roll."),
                "clip_seed": widgets.integer(0, 0, 2**32 - 1, "Draws where clips begin; same seed, same clips."),
            },
            "optional": {"images": widgets.socket("IMAGE", "Frames of one video, beside those of the folder.")},
        }

    def draw(self, folder, table, caption, width, height, clip_seed, images=None, **drawn):
        videos = [] if folder == ONLY_IMAGES else videos_of(folder, table, caption)
        if images is not None:
            videos.append(FrameBatch(images, caption, "images"))
        if not videos:
            raise ValueError("There is nothing to learn from: choose a folder of videos, or connect images.")
        sampling = ClipSampling(size=(width, height), seed=clip_seed, **drawn)
        clips = TrainingClips(tuple(videos), sampling)
        return {"ui": {"text": (describe(clips.manifest()),)}, "result": (clips,)}


class CameraMotionClips:
    CATEGORY = "Animatic/Training"
    DESCRIPTION = (
        "Gives each clip a camera move, by cutting and scaling its frames without borders, so that a MotionLoRA can "
        "learn the move. The first clips play in the node."
    )
    SEARCH_ALIASES = ["camera motion", "zoom", "pan", "tilt", "roll", "augmentation"]
    RETURN_TYPES = (TRAINING_CLIPS, "IMAGE")
    RETURN_NAMES = ("clips", "images")
    OUTPUT_TOOLTIPS = ("The moving clips, for Train MotionLoRA.", "The first clips, side by side.")
    FUNCTION = "move"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        own = "for move 'own'."
        return {
            "required": {
                "clips": widgets.socket(TRAINING_CLIPS, "From Video Dataset; best without much camera motion."),
                "move": widgets.choice(
                    [*MOVES, OWN_MOVE], "ZoomIn", "One of AnimateDiff's eight; own: the numbers below."
                ),
                "speed": widgets.number(1.0, 0.1, 4.0, "Faster or slower than usual; multiplies any move."),
                "zoom": widgets.number(1.0, 0.1, 10.0, f"By how much the picture grows (below 1: shrinks), {own}"),
                "pan": widgets.number(0.0, -4.0, 4.0, f"Picture widths that the camera goes to the right, {own}"),
                "tilt": widgets.number(0.0, -4.0, 4.0, f"Picture heights that the camera goes up, {own}"),
                "roll": widgets.number(0.0, -360.0, 360.0, f"Degrees that the picture turns clockwise, {own}"),
            }
        }

    def move(self, clips, move, speed, zoom, pan, tilt, roll):
        camera = Camera(move, speed) if move != OWN_MOVE else Camera("", speed, zoom, pan, tilt, roll)
        gentle_and_strong = camera.moves()
        if gentle_and_strong is None:
            raise ValueError("This camera stays where it is: set zoom, pan, tilt or roll, or choose a move.")
        moved = clips.moved(*gentle_and_strong)
        manifest = moved.manifest()
        images = side_by_side(manifest)
        text = f"{describe(manifest)}\n{moved.sampling.strong.picture_motion()}, at most"
        return {"ui": {**play_clip(images), "text": (text,)}, "result": (moved, images)}


class PoseClips(OfVideoFolder):
    CATEGORY = "Animatic/Training"
    DESCRIPTION = (
        "Puts drawn poses beside the videos, for Train Animate Anyone: a folder with a pose video of each video's "
        "name, or images. The first clip plays in the node beside its poses, to see that they belong together."
    )
    SEARCH_ALIASES = ["training data", "pose dataset", "DWPose", "OpenPose", "Animate Anyone"]
    RETURN_TYPES = (TRAINING_CLIPS, "IMAGE")
    RETURN_NAMES = ("clips", "images")
    OUTPUT_TOOLTIPS = ("Clips with poses, for Train Animate Anyone.", "The first clip, beside its poses.")
    FUNCTION = "pose"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        folders = [*video_folders(), ONLY_IMAGES]
        return {
            "required": {
                "clips": widgets.socket(TRAINING_CLIPS, "From Video Dataset."),
                "folder": (folders, {"tooltip": "A folder of pose videos in ComfyUI's input folder."}),
            },
            "optional": {"poses": widgets.socket("IMAGE", "Poses of Video Dataset's images, one for each of them.")},
        }

    def pose(self, clips, folder, poses=None):
        posed = with_drawn_poses(clips, None if folder == ONLY_IMAGES else folder, poses)
        manifest = posed.manifest()
        images = beside_poses(manifest)
        return {"ui": {**play_clip(images), "text": (describe(manifest),)}, "result": (posed, images)}


NODE_CLASSES = {
    "AnimaticVideoDataset": (VideoDataset, "Video Dataset"),
    "AnimaticCameraMotionClips": (CameraMotionClips, "Camera Motion Clips"),
    "AnimaticPoseClips": (PoseClips, "Pose Clips"),
}
