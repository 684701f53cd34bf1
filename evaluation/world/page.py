"""docs/small_world.md: what came out, claim by claim, with clips beside the numbers."""

from collections.abc import Mapping, Sequence
import json
import logging
from pathlib import Path

from PIL import Image
from torch import Tensor

from ...training.atomic import write_file
from ...training.state import curve_of
from ..certainty import Estimate
from .claims import CLAIMS, Claim
from .figures import Effort, Figure
from .programme import rows
from .world import World

logger = logging.getLogger(__name__)

FRAME_MS = 120
NOTES = Path(__file__).with_name("notes.md")  # what people found on the way to the shipped files
NOTHING_YET = "means nothing yet: this run was too short to learn anything"
INTRODUCTION = """# The small world

Comets and fish of five colours over four grounds, in 128 pixels and 8 frames: small enough that a processor learns it,
and drawn by a generator, so that what a clip should show is known; for Animate Anyone, characters that dance. The
pack's own trainer made every model of it. They are SD1.5 in ComfyUI's own layout (narrow networks inside wide ones that
compute the same) and run on the stock nodes and ours; the demo's stand in `evaluation/world/files`, and `python dev.py
demo --prompt "a red fish moving up over forest"` renders it. It shows how the parts work together, not how good
released weights are.

Each table below says what the paper states (Guo et al. 2023, [arXiv 2307.04725](https://arxiv.org/abs/2307.04725); for
A1 Hu et al. 2023, [arXiv 2311.17117](https://arxiv.org/abs/2311.17117)), how it was measured, and what came out: means
over scenes that no training saw, with 95 % intervals (Wilson's for shares, bootstrap for means). What did not come out
stands here as well. Seeds are fixed in `evaluation/world`, so that the same command gives the same data and draws; a
card or another processor rounds differently.
"""
STRIPS = """One scene, seed and motion module in three styles:

![a scene in three styles](small_world/styles.webp)

One ground under two MotionLoRAs, PanRight and TiltDown, and under both:

![two camera moves and both](small_world/moves.webp)

One dance by three characters: the poses, then each reference and its clip. No training saw any of it:

![three characters in one dance](small_world/dancers.webp)
"""


def figures_of(world: World, effort: Effort, claim: Claim) -> list[dict]:
    """A claim's figures, measured now or, if they were before, read; their clips lie beside as .webp."""
    path = world.folder / "figures" / f"{claim.name}.json"
    if not path.is_file():
        logger.info("measuring %s", claim.name)
        found = [_kept(world, claim, number, one) for number, one in enumerate(claim.figures(world, effort))]
        write_file(path, lambda part: part.write_text(json.dumps(found), encoding="utf-8"))
    return json.loads(path.read_text(encoding="utf-8"))


def write_page(path: Path, world: World, effort: Effort, made_by: Mapping[str, str], smoke: bool) -> None:
    """made_by: how, such as the command. smoke: say of every figure that it means nothing."""
    parts = [INTRODUCTION, "\n".join(f"- {name}: {value}" for name, value in made_by.items()) + "\n"]
    parts += [_trained(world), STRIPS]
    for claim in CLAIMS:
        parts.append(_section(claim, figures_of(world, effort, claim), path.parent, world, smoke))
    parts += [] if smoke else [NOTES.read_text(encoding="utf-8")]
    write_file(path, lambda part: part.write_text("\n".join(parts), encoding="utf-8"))


def _section(claim: Claim, figures: Sequence[dict], docs: Path, world: World, smoke: bool) -> str:
    columns = list(dict.fromkeys(name for figure in figures for name in figure["estimates"]))
    clips = any(figure["clip"] for figure in figures)
    lines = [
        f"## {claim.name}: {claim.title}\n",
        f"The paper: {claim.says}. Measured: {claim.measured}.\n",
        _row(["", *columns, *(["clip"] if clips else [])]),
        _row(["---"] * (1 + len(columns) + clips)),
    ]
    for figure in figures:
        cells = [str(Estimate(**figure["estimates"][name])) if name in figure["estimates"] else "" for name in columns]
        if smoke:
            cells = [f"{cell} ({NOTHING_YET})" if cell else "" for cell in cells]
        shown = [_picture(figure, docs, world)] if clips else []
        lines.append(_row([figure["what"], *cells, *shown]))
    seeds = next((e["count"] for figure in figures for e in figure["estimates"].values()), 0)
    return "\n".join([*lines, f"\n{seeds} seeds.\n"])


def _trained(world: World) -> str:
    """What was trained, for how long, and whether it was still learning."""
    lines = [_row(["part", "steps", "minutes", "fixed-noise loss, first to last"]), _row(["---"] * 4)]
    for row in rows():
        curves = [curve_of(folder) for folder in sorted(world.folder.glob(f"{row.name}-[0-9]"))]
        reports = [report for curve in curves for report in curve.reports]
        losses = [loss for curve in curves for _, loss in curve.validation]
        if reports:  # the decoder has no states
            minutes = sum(report.seconds for report in reports) / 60
            learnt = f"{losses[0]:.4f} to {losses[-1]:.4f}" if losses else ""
            lines.append(_row([row.name, f"{len(reports):,}", f"{minutes:.0f}", learnt]))
    return "\n".join(lines) + "\n"


def _picture(figure: dict, docs: Path, world: World) -> str:
    if not figure["clip"]:
        return ""
    name = Path(figure["clip"]).name
    (docs / "small_world").mkdir(parents=True, exist_ok=True)
    content = (world.folder / "figures" / name).read_bytes()
    write_file(docs / "small_world" / name, lambda part: part.write_bytes(content))
    return f"![{figure['what']}](small_world/{name})"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _kept(world: World, claim: Claim, number: int, figure: Figure) -> dict:
    """A figure as JSON holds it."""
    clip = ""
    if figure.clip is not None:
        clip = f"{claim.name}_{number}.webp"
        pictures = world.pictures(figure.clip) if figure.pictures is None else figure.pictures
        save_clip(world.folder / "figures" / clip, pictures)
    return {"what": figure.what, "estimates": {n: vars(e) for n, e in figure.estimates.items()}, "clip": clip}


def save_clip(path: Path, pictures: Tensor) -> None:
    """Frames (F, H, W, 3) in 0..1 as an animation."""
    frames = [Image.fromarray((frame * 255).round().byte().numpy()) for frame in pictures]

    def write(part: Path) -> None:
        frames[0].save(part, "WEBP", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, quality=80)

    write_file(path, write)

