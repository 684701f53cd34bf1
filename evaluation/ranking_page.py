"""The page on which people rank clips: a folder that opens in any browser, without a server, and saves a csv."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
import hashlib
import json
from pathlib import Path
import shutil

from ..training.atomic import write_file

TEMPLATE = Path(__file__).with_suffix(".html")
SHOWN = (".mp4", ".webm", ".mov", ".m4v", ".gif", ".webp", ".png", ".jpg", ".jpeg")  # of one name, the first is taken


@dataclass(frozen=True)
class Axis:
    name: str
    question: str


AXES = {
    "text": Axis("text", "Which fits the prompt best?"),
    "domain": Axis("domain", "Which keeps the style best?"),
    "smooth": Axis("smooth", "Which moves most smoothly?"),
}


@dataclass(frozen=True)
class Item:
    """What is ranked at once. clips: one of each method; reference: a picture of the style, or none."""

    name: str
    clips: Mapping[str, Path]
    prompt: str = ""
    reference: Path | None = None


def items_of(methods: Mapping[str, Path], references: Path | None = None) -> list[Item]:
    """The clips of the same name in every method's folder; a .txt of that name beside one holds its prompt.

    Raises FileNotFoundError and ValueError that name the folder, or the clip that a method lacks.
    """
    if len(methods) < 2:
        raise ValueError("A ranking needs the clips of two methods or more.")
    found = {method: _shown_in(folder) for method, folder in methods.items()}
    names = sorted(set().union(*found.values()))
    for method, files in found.items():
        missing = [name for name in names if name not in files]
        if missing:
            raise ValueError(f"{methods[method]} has no clip {missing[0]}, which another method has.")
    pictures = _shown_in(references) if references else {}
    return [
        Item(name, {m: files[name] for m, files in found.items()}, _prompt(name, methods), pictures.get(name))
        for name in names
    ]


def write_page(folder: Path, items: Sequence[Item], axes: Sequence[Axis]) -> Path:
    """Fill the folder with the page and copies of the clips, whose names do not tell the method. Returns the page."""
    copied = [_copied(folder, item) for item in items]
    study = {"axes": [asdict(axis) for axis in axes], "methods": list(items[0].clips), "items": copied}
    study["id"] = _digest(json.dumps(study))
    content = json.dumps(study).replace("<", "\\u003c")  # which would end the script
    page = TEMPLATE.read_text(encoding="utf-8").replace("STUDY", content)
    path = folder / "index.html"
    write_file(path, lambda part: part.write_text(page, encoding="utf-8"))
    return path


def _shown_in(folder: Path) -> dict[str, Path]:
    """By name; the video rather than the still of its name, which some nodes save beside it."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    shown = [path for path in folder.iterdir() if path.suffix.lower() in SHOWN]
    shown.sort(key=lambda path: SHOWN.index(path.suffix.lower()), reverse=True)
    files = {path.stem: path for path in shown}
    if not files:
        raise ValueError(f"{folder} holds nothing that a browser shows ({', '.join(SHOWN)}).")
    return files


def _prompt(name: str, methods: Mapping[str, Path]) -> str:
    texts = [path for folder in methods.values() if (path := folder / f"{name}.txt").is_file()]
    try:
        return texts[0].read_text(encoding="utf-8-sig").strip() if texts else ""
    except UnicodeDecodeError:
        raise ValueError(f"{texts[0]} is no text in UTF-8. Save the prompt in UTF-8.") from None


def _copied(folder: Path, item: Item) -> dict:
    clips = {method: _copy(folder, path, f"{method} {item.name}") for method, path in item.clips.items()}
    reference = _copy(folder, item.reference, f" {item.name}") if item.reference else ""
    return {"name": item.name, "prompt": item.prompt, "clips": clips, "reference": reference}


def _copy(folder: Path, path: Path, what: str) -> str:
    name = f"clips/{_digest(what)}{path.suffix.lower()}"
    write_file(folder / name, lambda part: shutil.copyfile(path, part))
    return name


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
