"""FizzNodes' schedules: prompts and numbers that change along the clip."""

import re
from typing import Any

from .graph import Node, Out
from .work import Work

NEGATIVE = "--neg"
# `0:(1.3)`. A value may hold brackets: it ends before the next entry of its line, or with the line.
NUMBER = re.compile(r'"?([^":,()\n]+?)"?\s*:\s*\((.*?)\)\s*(?=,?\s*$|,\s*"?[^":,()\n]+"?\s*:\s*\()', re.MULTILINE)


def travel(work: Work, node: Node) -> None:
    """Prompt Travel, with what stood behind --neg as negative prompts."""
    given: dict[str, Any] = {"clip": node.source("clip")}
    given |= _texts(work, node)
    for name in ("pw_a", "pw_b", "pw_c", "pw_d"):
        value = work.setting(node, name)
        if value:
            given[name] = value if isinstance(value, Out) else str(value)
    work.only(node, {"start_frame": None} if node.values.get("start_frame") else {}, "it only counted in print")
    names = []
    if node.type == "BatchPromptScheduleLatentInput":
        counted = work.add("AnimaticFrameNumbers", node, latent=node.source("num_latents"))
        given["num_frames"] = Out(counted.node, 2)
        names.append("AnimaticFrameNumbers")
    else:
        given["num_frames"] = work.setting(node, "max_frames")
    if node.type == "PromptSchedule":
        given["current_frame"] = work.setting(node, "current_frame")
    out = work.add("AnimaticPromptTravel", node, True, **{k: v for k, v in given.items() if v is not None})
    outputs = {0: out, 1: Out(out.node, 1), 2: node.source("num_latents")}
    work.finish(node, outputs, names)


def _texts(work: Work, node: Node) -> dict[str, Any]:
    """prompts, prefix and suffix, and what stood behind --neg in them.

    A text that comes by a link cannot be looked into: it is passed on, and that is said.
    """
    text, before, after = (work.setting(node, name) for name in ("text", "pre_text", "app_text"))
    texts = {"text": text, "pre_text": before, "app_text": after}
    linked = [name for name, value in texts.items() if isinstance(value, Out) and _may_be_negative(work, value)]
    if linked:
        work.lost(
            node, f"{' and '.join(linked)} by a link: what it says behind {NEGATIVE} must go into negative_prompts"
        )
    prompts, negatives = _divided(text) if isinstance(text, str) else (text, {})
    (before, before_not), (after, after_not) = _positive(before), _positive(after)
    around = " ".join(part for part in (before_not, "{}", after_not) if part)
    if negatives or around != "{}":
        negatives = {frame: around.format(negative).strip() for frame, negative in (negatives or {"0": ""}).items()}
    written = "\n".join(f'"{frame}": "{negative}",' for frame, negative in negatives.items())
    return {"prompts": prompts, "negative_prompts": written, "prefix": before, "suffix": after}


def _may_be_negative(work: Work, source: Out) -> bool:
    said = work.graph.constant(source)
    return said is None or NEGATIVE in str(said)


def _positive(text: Any) -> tuple[Any, str]:
    if not isinstance(text, str) or NEGATIVE not in text:
        return text, ""
    positive, negative = text.split(NEGATIVE, 1)
    return positive.strip(), negative.strip()


def _divided(text: str) -> tuple[str, dict[str, str]]:
    """The schedule, one entry a line, without its negative parts, and these by frame; some of them may be empty."""
    if NEGATIVE not in text and not re.search(r'"[^"\n]*"\s*:\s*"[^"\n]*"[ \t]*,?[ \t]*"[^"\n]*"\s*:', text):
        return text, {}
    negatives: dict[str, str] = {}

    def positive(found: re.Match) -> str:
        kept, _, negative = found[2].partition(NEGATIVE)
        negatives[found[1]] = negative.strip()
        return f'"{found[1]}" :"{kept.strip()}",\n'

    divided = re.sub(r'"([^"]*)"\s*:\s*"([^"]*)"\s*,?\s*', positive, text).strip()
    return divided, negatives if any(negatives.values()) else {}


def values(work: Work, node: Node) -> None:
    """Numbers by Frame: `0:(1.3)` in FizzNodes' manner is `0: 1.3`."""
    text = work.setting(node, "text")
    if isinstance(text, str) and (found := NUMBER.findall(text)):
        text = ", ".join(f"{frame.strip()}: {value.strip()}" for frame, value in found)
    given: dict[str, Any] = {"by_frame": text}
    latent = node.source("num_latents")
    given |= {"latent": latent} if latent else {"num_frames": work.setting(node, "max_frames")}
    work.finish(node, {0: work.add("AnimaticFrameNumbers", node, True, **given), 2: latent})
