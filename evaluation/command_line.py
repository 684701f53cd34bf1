"""`python -m evaluation`: measure clips, make a page to rank them on, work out the ranking."""

import argparse
import json
import logging
import math
from pathlib import Path
import sys

import torch

from .clips import read_clip, read_pictures
from .fvd import FRAMES, distance_table, video_distances
from .i3d import read_i3d
from .perceptual import read_lpips
from .ranking import average_user_ranking, ranking_table, read_ratings
from .ranking_page import AXES, items_of, write_page
from .scores import Against, Scores, evaluate, table

METHOD = "NAME=PATH"
EVERY = 10  # clips between two lines

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """The exit code: 0 when the result is written, 1 for a mistake that is said."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)  # the table alone goes to stdout
    try:
        if getattr(options, "json", None):
            options.json.parent.mkdir(parents=True, exist_ok=True)  # before the work that it shall keep
        sys.stdout.write(f"{options.run(options)}\n")
    except (OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__.split(": ")[1])
    commands = parser.add_subparsers(required=True)

    measure = commands.add_parser("measure", help="clips below each other in a table")
    measure.add_argument("clips", nargs="+", type=_named, metavar=METHOD, help="a video or a folder of frames")
    measure.add_argument("--clip-folder", type=Path, help="of a whole CLIP, such as a copy of clip-vit-large-patch14")
    measure.add_argument("--prompt", default="", help="for CLIP text")
    measure.add_argument("--references", type=Path, help="pictures of the same checkpoint without motion")
    measure.add_argument("--truth", type=Path, help="the clip as it should be, for PSNR and SSIM; or real clips")
    measure.add_argument("--lpips", type=Path, help="a folder with its weights (docs/evaluation.md), beside --truth")
    measure.add_argument("--fvd", type=Path, metavar="FILE", help="I3D's weights, for folders of clips and --truth's")
    measure.add_argument("--fvd-frames", type=int, default=FRAMES, help="of each clip, from its first on")
    measure.add_argument("--json", type=Path, help="a file for all numbers, frame by frame")
    measure.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of CLIP and I3D")
    measure.set_defaults(run=_measure)

    page = commands.add_parser("page", help="a folder with a page on which people rank clips")
    page.add_argument("folder", type=Path)
    page.add_argument("methods", nargs="+", type=_named, metavar=METHOD, help="a folder of clips, named alike in all")
    page.add_argument("--references", type=Path, help="a folder of pictures of the style, by the clips' names")
    page.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    page.set_defaults(run=_page)

    ranking = commands.add_parser("ranking", help="Average User Ranking of the page's csv files")
    ranking.add_argument("tables", nargs="+", type=Path)
    ranking.set_defaults(run=lambda options: ranking_table(average_user_ranking(read_ratings(options.tables))))
    return parser


def _named(text: str) -> tuple[str, Path]:
    name, sign, path = text.partition("=")
    return (name, Path(path)) if sign else (Path(text).stem, Path(text))


def _measure(options: argparse.Namespace) -> str:
    if options.fvd:
        return _measure_folders(options)
    against = Against(
        options.prompt,
        read_pictures(options.references) if options.references else (),
        clip=_clip(options),
        truth=read_clip(options.truth) if options.truth else None,
        perceptual=read_lpips(options.lpips) if options.lpips else None,
    )
    rows = {name: evaluate(read_clip(path), against, name) for name, path in _apart(options.clips)}
    if options.json:
        _write_json(options.json, {name: _as_json(scores) for name, scores in rows.items()})
    return table(rows)


def _measure_folders(options: argparse.Namespace) -> str:
    if options.truth is None:
        raise ValueError("FVD is a distance from real clips: name their folder with --truth.")
    if options.prompt or options.references or options.clip_folder or options.lpips:
        raise ValueError(
            "--fvd compares folders of clips, and --prompt, --references, --clip-folder and --lpips are about single "
            "ones. Run it twice."
        )
    network = read_i3d(options.fvd).to(options.device)
    found = video_distances(network, dict(_apart(options.clips)), options.truth, options.fvd_frames, _progress_line)
    if options.json:
        rows = {name: {"FVD": distance.value, "clips": distance.clips} for name, distance in found.items()}
        _write_json(options.json, rows)
    return distance_table(found)


def _progress_line(done: int, total: int) -> None:
    if done == total or done % EVERY == 0:
        logger.info("I3D looks at clips: %d of %d", done, total)


def _write_json(path: Path, found: dict) -> None:
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")


def _clip(options: argparse.Namespace):
    if options.clip_folder is None:
        if options.prompt or options.references:
            raise ValueError("--prompt and --references need --clip-folder: CLIP compares them with the clip.")
        return None
    from .clip_folder import ClipFolder  # transformers takes seconds

    return ClipFolder(options.clip_folder, torch.device(options.device))


def _page(options: argparse.Namespace) -> str:
    items = items_of(dict(_apart(options.methods)), options.references)
    return str(write_page(options.folder, items, [AXES[name] for name in options.axes]))


def _apart(named: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    names = [name for name, _ in named]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"Two are called {twice[0]}: give them names, such as one={named[0][1]}.")
    return named


def _as_json(scores: Scores) -> dict:
    """JSON has neither nan nor inf."""

    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    camera = scores.camera and {**vars(scores.camera.move), "agreement": scores.camera.agreement}
    by_frame = {key: [(frame, known(value)) for frame, value in points] for key, points in scores.by_frame.items()}
    return {"values": {key: known(v) for key, v in scores.values.items()}, "by_frame": by_frame, "camera": camera}
