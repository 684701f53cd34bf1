"""Numbers and prompts that change along a clip or along sampling: the little language of the pack's text inputs.

An entry is `position: value`; between two positions the value runs along a curve, outside of them it stays.
Positions are frames, or points of the sampling range from 0 to 1.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
import math
import re

from .expressions import evaluate
from .typed import half_width

CURVES = {
    "linear": lambda x: x,
    "ease_in": lambda x: x * x,
    "ease_out": lambda x: 1 - (1 - x) * (1 - x),
    "ease_in_out": lambda x: x * x * (3 - 2 * x),
    "step": lambda x: 0.0 if x < 1 else 1.0,
}

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
MARKS = '"\uff02\u201c\u201d'  # with those of East Asian keyboards
MARK, QUOTE, COLON = f"[{MARKS}]", f"[{MARKS}]?", "[:\uff1a]"
FRAME = re.compile(rf"{QUOTE}(\d+|[\d\s.+*/()-]*max_f[\d\s.+*/()-]*){QUOTE}\s*{COLON}(.*)")
QUOTED = re.compile(rf"^{MARK}(.*){MARK}[,\uff0c]?$")
# where an entry ends and the next one of the same line begins, with frames and prompts in quotes
NEXT_ENTRY = re.compile(rf"(?<={MARK})\s*[,\uff0c]?\s*(?={MARK}[^{MARKS}\n]+{MARK}\s*{COLON}\s*{MARK})")
NO_FRAME = re.compile(rf"{QUOTE}[-+\uff0d\uff0b]?\d*[.\uff0e]?\d+{QUOTE}\s*{COLON}")
FRAME_WITHOUT_COLON = re.compile(rf"{QUOTE}(\d+){QUOTE}\s+\S")
HOW_NUMBERS_ARE_WRITTEN = (
    "Write one number, a list such as '1, 0.9, 0.8' (the last one stays), or keyframes such as '0: 1, 8: 0.5'."
)
HOW_STEPS_ARE_WRITTEN = (
    "Write one number, or positions along sampling, from 0 to {end:g}, each with a number, such as '0: 1, 0.5: 0.3'."
)


def check_range(start_percent: float, end_percent: float) -> None:
    """Raises ValueError unless these two points of the sampling range, 0 its start and 1 its end, ascend."""
    if start_percent >= end_percent:
        raise ValueError(f"start_percent ({start_percent}) must be smaller than end_percent ({end_percent}).")


def neighbours(
    positions: Sequence[float], at: float, curve: str = "linear", period: float | None = None
) -> tuple[int, int, float]:
    """The two entries that `at` lies between, and the share of the second. positions ascend.

    With a period, the last entry runs on into the first, which comes again `period` later.
    """
    right = bisect_right(positions, at)
    if 0 < right < len(positions):
        before, after, start, end = right - 1, right, positions[right - 1], positions[right]
    elif period and len(positions) > 1:
        before, after, start = len(positions) - 1, 0, positions[-1] - (period if right == 0 else 0)
        end = start + period - positions[-1] + positions[0]
    else:
        nearest = min(right, len(positions) - 1)
        return nearest, nearest, 0.0
    if end <= start:
        return after, after, 0.0
    return before, after, CURVES[curve]((at - start) / (end - start))


@dataclass(frozen=True)
class Keyframes:
    """A number along positions that ascend."""

    positions: tuple[float, ...]
    values: tuple[float, ...]
    curve: str = "linear"

    @property
    def is_constant(self) -> bool:
        return len(set(self.values)) == 1

    def at(self, position: float) -> float:
        before, after, share = neighbours(self.positions, position, self.curve)
        return self.values[before] * (1 - share) + self.values[after] * share

    def over(self, frames: Iterable[int]) -> list[float]:
        """The number at each of these frames."""
        return [self.at(frame) for frame in frames]


Numbers = str | float | Sequence[float]  # text, or what comes by a link from a node that gives numbers


def is_blank(given: Numbers) -> bool:
    """Whether an input that may stay empty is."""
    return isinstance(given, str) and not given.strip()


def parse_numbers(text: Numbers, name: str, curve: str = "linear", end: float = math.inf) -> Keyframes:
    """Read `1`, `1, 0.9, 0.8` (one per frame) or `0: 1, 8: 0.5`, entries on lines or between commas.

    Full-width digits and signs of East Asian keyboards are as good. Numbers that are no text are one for each frame,
    or spread evenly over the range if it has an end.
    end: the last position there is. Raises ValueError that names the input and the entry that is not understood.
    """
    if not isinstance(text, str):
        return _keyframes_of(text, name, curve, end)
    entries = [entry.strip() for entry in re.split(r"[,;\n]", half_width(text)) if entry.strip()]
    keys: dict[float, float] = {}
    how = HOW_NUMBERS_ARE_WRITTEN if end == math.inf else HOW_STEPS_ARE_WRITTEN.format(end=end)
    for index, entry in enumerate(entries):
        found = re.fullmatch(rf"(?:({NUMBER})\s*:\s*)?({NUMBER})", entry)
        if not found or (found[1] is None) != (":" not in entries[0]):
            raise ValueError(f"{name}: '{entry}' is not understood. {how}")
        position = float(found[1]) if found[1] else float(index)
        if not found[1] and position > end:
            raise ValueError(f"{name}: '{entry}' has no position. {how}")
        if not 0 <= position <= end:
            limits = "begins at 0" if end == math.inf else f"begins at 0 and ends at {end:g}"
            raise ValueError(f"{name}: position {found[1]} is outside the range, which {limits}.")
        if position in keys:
            raise ValueError(f"{name}: position {found[1]} stands there twice. Remove one.")
        keys[position] = float(found[2])
    if not keys:
        raise ValueError(f"{name} is empty. {how}")
    positions = tuple(sorted(keys))
    return Keyframes(positions, tuple(keys[position] for position in positions), curve)


def _keyframes_of(given: float | Sequence[float], name: str, curve: str, end: float) -> Keyframes:
    try:
        values = tuple(float(value) for value in ([given] if isinstance(given, int | float) else given))
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} got something by its link that is no list of numbers: {given!r:.80}. Connect a FLOAT."
        ) from None
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(
            f"{name} got a list that is empty or holds numbers without end by its link. Look at the node it comes from."
        )
    apart = 1.0 if end == math.inf else end / max(1, len(values) - 1)
    return Keyframes(tuple(min(i * apart, end) for i in range(len(values))), values, curve)


def parse_prompts(text: str, name: str, num_frames: int = 0) -> dict[int, str]:
    """Read lines `frame: prompt` in ascending order of frames; a line without a frame goes on with the one before.

    Text before any frame belongs to frame 0. Full-width digits and colons before a prompt are as good. Quotes and
    commas around entries, as other prompt schedules have them, are dropped. A frame may be written with the number of
    frames, as "max_f / 2". Raises ValueError if a frame stands there twice or is no whole number.
    """
    prompts: dict[int, str] = {}
    frame, heading = 0, False
    for line in filter(None, map(str.strip, NEXT_ENTRY.sub("\n", text).splitlines())):
        found = FRAME.match(line)
        if found:
            written, line = half_width(found[1]).strip(), found[2].strip()
            frame = int(written) if written.isdecimal() else int(evaluate(written, {"max_f": num_frames}))
            if frame < 0:
                raise ValueError(f"{name}: '{written}' is frame {frame}; frames are counted from 0.")
            if frame == 0 and heading:
                raise ValueError(
                    f"{name}: '{prompts[0]:.40}' stands before frame 0, and text without a frame is frame 0 itself. "
                    "What belongs to all frames goes into prefix; take it out here."
                )
            if frame in prompts:
                raise ValueError(f"{name}: frame {frame} stands there twice. Remove one.")
        elif NO_FRAME.match(line):
            raise ValueError(f"{name}: '{line}' has no frame number; frames are whole numbers, the first is 0.")
        heading = heading or not (found or prompts)
        line = QUOTED.sub(r"\1", line)
        prompts[frame] = f"{prompts[frame]} {line}" if prompts.get(frame) else line
    return dict(sorted(prompts.items())) or {0: ""}


def doubts(text: str, name: str, prompts: Mapping[int, str], num_frames: int) -> list[str]:
    """What in a text that `parse_prompts` has read is probably not meant so, for the user: a sentence each."""
    found = []
    late = [str(frame) for frame in prompts if frame >= num_frames]
    if late:
        found.append(
            f"{name}: the clip ends before frame {', '.join(late)}; its last frame is {num_frames - 1}. "
            "Raise num_frames or lower the frame."
        )
    lines = [line.strip() for line in text.splitlines()]
    bare = [line for line in lines if FRAME_WITHOUT_COLON.match(line) and not FRAME.match(line)]
    # "2 girls" alone is a prompt
    if len(bare) > 1 or any(map(FRAME.match, lines)) or any(line[0] in "0\uff10" for line in bare):
        for line in bare:
            found.append(
                f"{name}: '{line:.40}' is taken as prompt text. If it begins with a frame, write a colon after it."
            )
    return found
