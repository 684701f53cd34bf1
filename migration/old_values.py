"""The widget values of old nodes by name, out of lists whose order grew from release to release."""

import json
from typing import Any

from .old_nodes import OLD_NODES, usual_name
from .old_rows import EXPRESSIONS, FIZZ
from .shape import as_list

# lists of VHS's early files, in the order that its own page reads them
VHS_LISTS = {
    "VHS_VideoCombine": ("frame_rate", "loop_count", "filename_prefix", "format", "pingpong", "save_output"),
    "VHS_LoadVideo": ("video", "force_rate", "force_size", "frame_load_cap", "skip_first_frames", "select_every_nth"),
    "VHS_LoadImages": ("directory", "", "image_load_cap", "skip_first_images", "select_every_nth"),
    "VHS_LoadImagesPath": ("directory", "image_load_cap", "skip_first_images", "select_every_nth"),
}
VHS_LISTS["VHS_LoadVideoPath"] = VHS_LISTS["VHS_LoadVideo"]
WITHOUT_OVERRIDE = {"ADE_AnimateDiffSamplingSettings": (4, 5)}  # lengths of lists without the seed_override in them


def read_values(node_type: str, widgets: Any) -> tuple[dict[str, Any], list[str]]:
    """The widget values of an old node by name, missing ones as its newest release has them, and what is odd."""
    old = OLD_NODES[node_type]
    if isinstance(widgets, dict):
        given = {usual_name(node_type, name): value for name, value in widgets.items()}
        return {**old.widgets, **given}, []
    given, rest = _from_list(node_type, list(as_list(widgets)))
    odd = [f"keeps values at its end that cannot be told apart: {rest}"] if rest else []
    return {**old.widgets, **given}, odd


def _from_list(node_type: str, values: list) -> tuple[dict[str, Any], list]:
    """A list's values by name, and those beyond them that are not empty."""
    if node_type in VHS_LISTS:
        return _vhs_list(node_type, values)
    if OLD_NODES[node_type].pack == FIZZ:
        return _fizz_list(node_type, values)
    names = list(OLD_NODES[node_type].widgets)
    while values and values[-1] in ("", None):  # hidden widgets of the page
        values.pop()
    if len(values) in WITHOUT_OVERRIDE.get(node_type, ()):
        names.remove("seed_override")
    if node_type.endswith("AnimateDiffCombine") and len(values) == 4:  # of the first weeks, gif alone
        names = ["frame_rate", "loop_count", "save_image", "filename_prefix"]
        values[2] = values[2] == "Enabled"
    return dict(zip(names, values, strict=False)), values[len(names) :]


def _vhs_list(node_type: str, values: list) -> tuple[dict[str, Any], list]:
    given = {name: value for name, value in zip(VHS_LISTS[node_type], values, strict=False) if name}
    nth = given.get("select_every_nth", 1)
    if not isinstance(nth, int):  # earlier lists end with the preview's kind there
        given["select_every_nth"] = 1
    return given, []


def _fizz_list(node_type: str, values: list) -> tuple[dict[str, Any], list]:
    """The schedules' lists grew over time; what stands where shows by its type.

    text, [max_frames], [current_frame], [print_output], [pre_text, app_text], numbers: [start_frame, end_frame] pw_a..d
    """
    names = [name for name in OLD_NODES[node_type].widgets if name != "print_output"]
    given = {}
    for name in names:
        if values and isinstance(values[0], str) == (name == "text"):
            given[name] = values.pop(0)
    if values and isinstance(values[0], bool):
        values.pop(0)
    for name in ("pre_text", "app_text"):
        if values and isinstance(values[0], str):
            given[name] = values.pop(0)
    texts = " ".join(str(value) for value in given.values())
    unused = "pw_" not in texts and given.get("text")
    return given, [] if unused or not any(values) else _expressions(given, values)


def _expressions(given: dict[str, Any], numbers: list) -> list:
    """The numbers at the list's end when some are set: pw_a to pw_d alone are certain."""
    if len(numbers) == 4:
        given.update(zip(EXPRESSIONS.split(), numbers, strict=True))
        return []
    return numbers if len(numbers) != 2 else []  # start_frame and end_frame, of printing alone


def of_their_kinds(node_type: str, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values, those of a wrong kind as the newest release has them, and what was wrong by name."""
    kept, wrong = dict(values), {}
    for name, default in OLD_NODES[node_type].widgets.items():
        value = kept[name] = _number(kept[name]) if _is_number(default) else kept[name]
        if not fits(value, default):
            kept[name] = default
            if value is not None:
                wrong[name] = f"{name} {value!r} is of a wrong kind; {default!r} stands there now"
    return kept, wrong


def fits(value: Any, default: Any) -> bool:
    """Whether a value is of the kind that a widget with this default has; without a default it may be of any."""
    if _is_number(default):
        # a switch of an early release may have become a number; infinity and NaN are none
        return isinstance(value, int | float) and abs(value) < 2**63
    return default is None or not isinstance(value, list | dict)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any) -> Any:
    """Programs also send numbers as text, which the host reads."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
