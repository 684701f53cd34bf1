"""PNG files of 16 bits a channel, which Pillow cannot write."""

from pathlib import Path
import struct
import zlib

import numpy as np

COLOUR_TYPES = {3: 2, 4: 6}  # by channels
LEVEL = 4  # of zlib, 1 is the fastest and 9 the smallest
FILTER_UP = 2  # each row as its difference from the one above


def write_png16(path: Path, picture: np.ndarray, text: list[tuple[bytes, bytes]]) -> None:
    """picture: uint16 (H, W, 3 or 4). text: kinds and contents of text chunks."""
    height, width, channels = picture.shape
    rows = np.ascontiguousarray(picture.astype(">u2")).view(np.uint8).reshape(height, -1)
    lines = np.empty((height, 1 + rows.shape[1]), np.uint8)
    lines[:, 0] = FILTER_UP
    lines[0, 1:] = rows[0]
    lines[1:, 1:] = rows[1:] - rows[:-1]  # modulo 256, as the format has it
    header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), *text, (b"IDAT", zlib.compress(lines.tobytes(), LEVEL)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
