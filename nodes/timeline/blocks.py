"""Numbers for single blocks of a motion module, one a line: `down_blocks.0 = 0.3`."""

from collections.abc import Collection, Iterable, Mapping
import re

from .keyframes import NUMBER
from .typed import half_width


def parse_block_numbers(text: str) -> dict[str, float]:
    """Lines like `down_blocks.0 = 0.3` or `mid_block: 1`. Raises ValueError naming a line that is not understood."""
    numbers = {}
    for line in filter(None, (line.strip() for line in half_width(text).splitlines())):
        found = re.fullmatch(rf"([\w.]+?)\s*[=:]\s*({NUMBER})", line)
        if not found:
            raise ValueError(f"'{line}' is not a block and a number, such as 'down_blocks.0 = 0.3' or 'mid_block = 1'.")
        numbers[found[1]] = float(found[2])
    return numbers


def check_blocks(
    blocks: Iterable[str], keys: Collection[str], sites: Iterable[str], who: str, of: str = "this motion module"
) -> None:
    """Raises ValueError, naming who asked and the sites there are, for a block that begins none of the keys."""
    for block in blocks:
        if not any(f"{key}.".startswith(f"{block}.") for key in keys):
            raise ValueError(f"{who}: {of} has no block {block}; it has {', '.join(sites)}.")


def block_number(key: str, otherwise: float, numbers: Mapping[str, float]) -> float:
    """That of the longest block name that `key` begins with."""
    matching = [block for block in numbers if key.startswith(block + ".")]
    return numbers[max(matching, key=len)] if matching else otherwise
