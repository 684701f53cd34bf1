"""Prompt and workflow inside media files, in the places where ComfyUI's canvas looks for them.

Metadata is a dict of name -> JSON text, such as {"prompt": ..., "workflow": ...}.
"""

from pathlib import Path
import re
import struct

from PIL import Image
from PIL.PngImagePlugin import PngInfo

# EXIF tags that ComfyUI uses in webp files: "prompt:" in Model, the others downward from Make.
EXIF_PROMPT, EXIF_OTHERS = 0x0110, 0x010F


def ffmetadata(metadata: dict[str, str]) -> str:
    """The text of an ffmetadata file; a file, because a command line cannot hold a large workflow on Windows."""
    lines = [name + "=" + re.sub(r"([=;#\\\n])", r"\\\1", value) for name, value in metadata.items()]
    return "\n".join([";FFMETADATA1", *lines, ""])


def png_text(metadata: dict[str, str]) -> PngInfo:
    """Text chunks for Pillow's PNG writer, as the stock Save Image node writes them."""
    info = PngInfo()
    for name, value in metadata.items():
        info.add_text(name, value)
    return info


def finish_webp(path: Path, metadata: dict[str, str], alpha: bool, width: int, height: int) -> None:
    """Append the metadata as an EXIF chunk to a webp file and set its flags (RIFF container, VP8X chunk).

    ffmpeg leaves out the alpha flag of lossy frames, without which their transparency is not shown, and the whole
    VP8X chunk when there is one frame.
    """
    exif = Image.Exif()
    tag = EXIF_OTHERS
    for name, value in metadata.items():
        if name == "prompt":
            exif[EXIF_PROMPT] = f"prompt:{value}"
        else:
            exif[tag] = f"{name}:{value}"
            tag -= 1
    payload = exif.tobytes().removeprefix(b"Exif\0\0") if metadata else b""
    flags = (0x08 if payload else 0) | (0x10 if alpha else 0)
    data = bytearray(path.read_bytes())
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError(f"{path.name} is not the webp file that ffmpeg was to write. Reinstall imageio-ffmpeg.")
    if data[12:16] != b"VP8X":
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        data[12:12] = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size
    data[20] |= flags
    if payload:
        data += b"EXIF" + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)
    data[4:8] = struct.pack("<I", len(data) - 8)
    path.write_bytes(data)


def add_gif_comment(path: Path, metadata: dict[str, str]) -> None:
    """Put the metadata into a comment extension before the trailer of a GIF, one JSON-like line per name."""
    text = "\n".join(f"{name}:{value}" for name, value in metadata.items()).encode("utf-8")
    blocks = b"".join(bytes([len(part)]) + part for part in (text[i : i + 255] for i in range(0, len(text), 255)))
    with open(path, "r+b") as file:
        file.seek(-1, 2)
        if file.read(1) != b"\x3b":
            raise ValueError(f"{path.name} is not the gif that ffmpeg was to write. Reinstall imageio-ffmpeg.")
        file.seek(-1, 2)
        file.write(b"\x21\xfe" + blocks + b"\0\x3b")
