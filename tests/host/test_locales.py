"""What ComfyUI shows of the nodes in other languages: `locales/<language>/nodeDefs.json`, as its frontend reads them.

A message lists what is missing, what is left over of something renamed, and what no longer says what the English does.
"""

import json
import re

from animatic_pack import ROOT
from animatic_pack.nodes.registry import NODE_CLASSES
import pytest

LANGUAGES = ("ja", "ko", "zh", "zh-TW")
PLACEHOLDERS = re.compile(r"[{}@|]")  # vue-i18n takes them for places to fill in, links, and plurals
# numbers and files are the same in every language
KEPT = re.compile(r"\d+(?:\.\d+)?|models/\w+|\w+\.(?:pth|ckpt|txt)", re.ASCII)


def english() -> dict[str, str]:
    """All that a user reads, by its path in nodeDefs.json."""
    texts = {}
    for node_id, (node, title) in NODE_CLASSES.items():
        texts[f"{node_id}.display_name"] = title
        texts[f"{node_id}.description"] = node.DESCRIPTION
        for number, (name, tooltip) in enumerate(zip(node.RETURN_NAMES, node.OUTPUT_TOOLTIPS, strict=True)):
            texts[f"{node_id}.outputs.{number}.name"] = name
            texts[f"{node_id}.outputs.{number}.tooltip"] = tooltip
        for group in ("required", "optional"):
            for name, (_, options) in node.INPUT_TYPES().get(group, {}).items():
                texts[f"{node_id}.inputs.{name}.name"] = name
                texts[f"{node_id}.inputs.{name}.tooltip"] = options["tooltip"]
    return texts


def translated(language: str) -> dict[str, str]:
    texts: dict[str, str] = {}

    def walk(value, path: str) -> None:
        if isinstance(value, str):
            texts[path] = value
        else:
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else key)

    walk(json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8")), "")
    return texts


def listed(paths) -> str:
    return "".join(f"\n  {path}" for path in sorted(paths))


def test_every_folder_of_locales_is_tested():
    assert sorted(folder.name for folder in (ROOT / "locales").iterdir()) == sorted(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_input_and_output_is_translated_and_none_is_left_over(language):
    wanted, found = english(), translated(language)
    missing = {path: text for path, text in wanted.items() if not found.get(path, "").strip()}
    assert not missing, f"locales/{language}/nodeDefs.json lacks" + listed(f"{p} ({t!r})" for p, t in missing.items())
    assert not found.keys() - wanted.keys(), "no longer there:" + listed(found.keys() - wanted.keys())


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_say_the_same_numbers_and_files(language):
    found, changed = translated(language), []
    for path, text in english().items():
        lost = set(KEPT.findall(text)) - set(KEPT.findall(found.get(path, text)))
        if lost and not path.endswith(".name"):
            changed.append(f"{path} lacks {', '.join(sorted(lost))}: {text!r}")
    assert not changed, listed(changed)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_frontend_takes_every_text_as_it_stands(language):
    assert not [path for path, text in translated(language).items() if PLACEHOLDERS.search(text)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_labels_of_a_node_are_told_apart(language):
    labels: dict[str, list[str]] = {}
    for path, text in translated(language).items():
        if re.search(r"\.inputs\.\w+\.name$", path):
            labels.setdefault(path.split(".")[0], []).append(text)
    assert not {node: names for node, names in labels.items() if len(set(names)) < len(names)}
