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


def add_webp_exif(path: Path, metadata: dict[str, str]) -> None:
    """Append an EXIF chunk to an animated webp and set its flag (RIFF container: VP8X chunk, bit 3)."""
    exif = Image.Exif()
    tag = EXIF_OTHERS
    for name, value in metadata.items():
        if name == "prompt":
            exif[EXIF_PROMPT] = f"prompt:{value}"
        else:
            exif[tag] = f"{name}:{value}"
            tag -= 1
    payload = exif.tobytes().removeprefix(b"Exif\0\0")
    with open(path, "r+b") as file:
        head = file.read(21)
        if head[:4] != b"RIFF" or head[12:16] != b"VP8X":
            raise ValueError(f"{path.name} is not an animated webp")
        file.seek(20)
        file.write(bytes([head[20] | 0x08]))
        file.seek(0, 2)
        file.write(b"EXIF" + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2))
        size = file.tell() - 8
        file.seek(4)
        file.write(struct.pack("<I", size))


def add_gif_comment(path: Path, metadata: dict[str, str]) -> None:
    """Put the metadata into a comment extension before the trailer of a GIF, one JSON-like line per name."""
    text = "\n".join(f"{name}:{value}" for name, value in metadata.items()).encode("utf-8")
    blocks = b"".join(bytes([len(part)]) + part for part in (text[i : i + 255] for i in range(0, len(text), 255)))
    with open(path, "r+b") as file:
        file.seek(-1, 2)
        if file.read(1) != b"\x3b":
            raise ValueError(f"{path.name} does not end like a GIF")
        file.seek(-1, 2)
        file.write(b"\x21\xfe" + blocks + b"\0\x3b")
