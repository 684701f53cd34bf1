"""What a page's file must be made of to be read. What is not so is said with its place in the file."""

from typing import Any, NamedTuple


class Shape(NamedTuple):
    """An object: entries that it needs and those that may be missing or null, each with its types or shape."""

    needed: dict[str, Any]
    usual: dict[str, Any]


NUMBER, TEXT, LIST = (int,), (str,), (list,)
INPUT, OUTPUT = Shape({}, {"name": TEXT, "link": NUMBER}), Shape({}, {"name": (str, int), "links": LIST})
NODE = Shape({"id": (int, str)}, {"type": TEXT, "inputs": [INPUT], "outputs": [OUTPUT]})
LINK = Shape(
    {}, {"id": NUMBER, "origin_id": (int, str), "origin_slot": NUMBER, "target_id": (int, str), "target_slot": NUMBER}
)
LINK_NAMES = (*LINK.usual, "type")  # in the order that the older schema's lists have them in
EDGE = Shape({"name": TEXT}, {})
PART = Shape({"nodes": [NODE]}, {"links": LIST, "inputs": [EDGE], "outputs": [EDGE]})
CANVAS = Shape(PART.needed, {**PART.usual, "definitions": Shape({}, {"subgraphs": [PART]})})

WORDS = {int: "a number", str: "text", list: "a list", dict: "an object", bool: "yes or no", type(None): "nothing"}


def check_canvas(content: dict) -> None:
    """Raises ValueError that names the first place where anything else stands than can be read."""
    _check(content, CANVAS, "")
    _check_links(content, "")
    for place, part in enumerate((content.get("definitions") or {}).get("subgraphs") or []):
        _check_links(part, f"definitions.subgraphs[{place}].")


def _check_links(part: dict, where: str) -> None:
    """Links are lists of six in the older schema and objects in the newer one; the page leaves gaps between them."""
    for place, raw in enumerate(part.get("links") or []):
        if not raw:
            continue
        name = f"{where}links[{place}]"
        if isinstance(raw, list) and len(raw) < len(LINK_NAMES):
            _refuse(name, f"has {len(raw)} values, not {len(LINK_NAMES)}")
        _check(dict(zip(LINK_NAMES, raw, strict=False)) if isinstance(raw, list) else raw, LINK, name)


def _check(value: Any, shape: Any, place: str) -> None:
    kinds = shape if type(shape) is tuple else (list,) if isinstance(shape, list) else (dict,)
    if not isinstance(value, kinds):
        wanted = " or ".join(WORDS[kind] for kind in kinds)
        _refuse(place, f"is {WORDS.get(type(value), repr(value))}, where {wanted} belongs")
    if isinstance(shape, list):
        for number, one in enumerate(value):
            _check(one, shape[0], f"{place}[{number}]")
    elif isinstance(shape, Shape):
        for name, inner in {**shape.needed, **shape.usual}.items():
            if name in shape.needed or value.get(name) is not None:
                _check(value.get(name), inner, f"{place}.{name}" if place else name)


def _refuse(place: str, what: str) -> None:
    raise ValueError(f"The workflow is damaged: {place} {what}. Open it on ComfyUI's page and save it anew.")


def as_dict(value: Any) -> dict:
    """Of what a workflow can do without: nothing where anything else stands than an object."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list:
    return value if isinstance(value, list) else []


def as_number(value: Any) -> int:
    return value if isinstance(value, int) else 0
