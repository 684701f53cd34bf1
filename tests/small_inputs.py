"""Small pictures and videos for workflows: a reference character, and a stick figure that waves, in OpenPose style."""

import math
from pathlib import Path
import subprocess

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 128, 192


def write_character(folder: Path, frames: int) -> None:
    """reference.png and pose.mp4, of 12 frames a second; what stands there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "reference.png").exists():
        Image.fromarray(reference_picture()).save(folder / "reference.png")
    if not (folder / "pose.mp4").exists():
        write_video(folder / "pose.mp4", np.stack([pose_picture(i / frames) for i in range(frames)]), 12)


def write_video(path: Path, frames: np.ndarray, rate: int, *sound: str) -> None:
    """frames: (N, H, W, 3) of 0 to 255. sound: a further input in ffmpeg's words."""
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-framerate", str(rate), "-i", "pipe:0"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *raw, *sound, "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, input=frames.tobytes(), check=True)


def joints(phase: float) -> dict[str, tuple[float, float]]:
    """A figure that waves with its left arm, by the part of its cycle."""
    angle = 0.6 + 0.8 * math.sin(2 * math.pi * phase)
    elbow = (92, 72)
    hand = (elbow[0] + 30 * math.sin(angle), elbow[1] - 30 * math.cos(angle))
    fixed = {"nose": (64, 30), "neck": (64, 50), "hip_r": (56, 104), "hip_l": (72, 104), "shoulder_r": (46, 52)}
    fixed |= {
        "shoulder_l": (82, 52),
        "elbow_r": (40, 78),
        "hand_r": (38, 104),
        "knee_r": (54, 140),
        "foot_r": (52, 176),
    }
    return fixed | {"knee_l": (74, 140), "foot_l": (76, 176), "elbow_l": elbow, "hand_l": hand}


LIMBS = (
    ("neck", "shoulder_r", (255, 0, 0)),
    ("neck", "shoulder_l", (255, 85, 0)),
    ("shoulder_r", "elbow_r", (255, 170, 0)),
    ("elbow_r", "hand_r", (255, 255, 0)),
    ("shoulder_l", "elbow_l", (170, 255, 0)),
    ("elbow_l", "hand_l", (85, 255, 0)),
    ("neck", "hip_r", (0, 255, 0)),
    ("hip_r", "knee_r", (0, 255, 85)),
    ("knee_r", "foot_r", (0, 255, 170)),
    ("neck", "hip_l", (0, 255, 255)),
    ("hip_l", "knee_l", (0, 170, 255)),
    ("knee_l", "foot_l", (0, 85, 255)),
    ("neck", "nose", (0, 0, 255)),
)


def pose_picture(phase: float) -> np.ndarray:
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    draw, places = ImageDraw.Draw(picture), joints(phase)
    for first, second, colour in LIMBS:
        draw.line([places[first], places[second]], fill=tuple(int(0.6 * c) for c in colour), width=5)
    for _, (x, y) in places.items():
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(255, 170, 0))
    return np.asarray(picture)


def reference_picture() -> np.ndarray:
    """A figure in striped clothes before a lawn."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), (150, 190, 230))
    draw, places = ImageDraw.Draw(picture), joints(0.0)
    draw.rectangle((0, 150, WIDTH, HEIGHT), fill=(90, 150, 80))
    for first, second, _ in LIMBS:
        draw.line([places[first], places[second]], fill=(60, 60, 130), width=12)
    draw.rectangle((46, 50, 82, 108), fill=(200, 60, 60))
    for y in range(52, 108, 8):
        draw.line((46, y, 82, y), fill=(250, 230, 120), width=3)
    draw.ellipse((52, 14, 76, 44), fill=(235, 190, 160))
    return np.asarray(picture)
