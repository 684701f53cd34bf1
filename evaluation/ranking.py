"""Average User Ranking: people put the methods' clips in order, and a method's score is its mean place from below.

A csv has the columns rater, item, axis, method, rank; rank 1 is the best of the M methods, whose score for it is
M + 1 - rank. So the scores of an axis add up to M (M + 1) / 2, which is checked.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
import csv
from dataclasses import dataclass
import math
from pathlib import Path

import numpy as np

from .certainty import Estimate

COLUMNS = ("rater", "item", "axis", "method", "rank")
RESAMPLES = 2000


@dataclass(frozen=True)
class Rating:
    rater: str
    item: str
    axis: str
    method: str
    rank: float


def read_ratings(paths: Sequence[Path]) -> list[Rating]:
    """Of one or several csv files. Raises FileNotFoundError, and ValueError that names file and line."""
    ratings: list[Rating] = []
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"There is no table {path}.")
        try:
            ratings += _ratings_of(path)
        except UnicodeDecodeError:
            raise ValueError(f"{path.name} is no table in UTF-8. Save it as a csv in UTF-8, with commas.") from None
    if not ratings:
        raise ValueError("There are no ratings in these files.")
    return ratings


def _ratings_of(path: Path) -> list[Rating]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise ValueError(f"{path.name} has no column {missing[0]}; its first line reads {','.join(COLUMNS)}.")
        return [_rating(row, f"{path.name}, line {rows.line_num}") for row in rows]


def _rating(row: Mapping[str, str | None], where: str) -> Rating:
    words = {key: (row[key] or "").strip() for key in COLUMNS}
    try:
        rank = float(words["rank"])
    except ValueError:
        raise ValueError(f"{where}: the rank is '{words['rank']}'; 1 is the best.") from None
    empty = [key for key in COLUMNS if not words[key]]
    if empty or not math.isfinite(rank):
        raise ValueError(f"{where}: {empty[0] if empty else 'rank'} is missing.")
    return Rating(words["rater"], words["item"], words["axis"], words["method"], rank)


def average_user_ranking(ratings: Sequence[Rating]) -> dict[str, dict[str, Estimate]]:
    """By axis, then by method. Intervals are the bootstrap's over raters, or over items if only one person rated.

    Raises ValueError where someone ranked a clip twice, left one out, or gave ranks that are no order.
    """
    methods = list(dict.fromkeys(rating.method for rating in ratings))
    if len(methods) < 2:
        raise ValueError(f"A ranking is of two methods or more, these ratings know only {methods[0]}.")
    groups: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for rating in ratings:
        group = groups[rating.axis, rating.rater, rating.item]
        if rating.method in group:
            raise ValueError(f"{_place(rating.axis, rating.rater, rating.item)}: {rating.method} is ranked twice.")
        group[rating.method] = rating.rank
    scores: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(dict)
    for (axis, rater, item), ranks in groups.items():
        scores[axis][rater, item] = _scores(ranks, methods, _place(axis, rater, item))
    result = {axis: dict(zip(methods, _estimates(found), strict=True)) for axis, found in scores.items()}
    for axis, row in result.items():
        require_sum(axis, [estimate.value for estimate in row.values()])
    return result


def require_sum(axis: str, values: Sequence[float]) -> None:
    """Raises RuntimeError unless an axis's scores add up as ranks do."""
    count = len(values)
    if abs(sum(values) - count * (count + 1) / 2) > 1e-6:
        raise RuntimeError(f"{axis}: scores add up to {sum(values):g}, not to {count * (count + 1) / 2:g}.")


def _scores(ranks: Mapping[str, float], methods: Sequence[str], place: str) -> list[float]:
    """M + 1 - rank for each method; those that tie share the places that they take together."""
    left_out = [method for method in methods if method not in ranks]
    if left_out:
        raise ValueError(f"{place}: {left_out[0]} has no rank; a ranking needs one for every method.")
    given = np.array([ranks[method] for method in methods])
    places = np.array([(given < rank).sum() + ((given == rank).sum() + 1) / 2 for rank in given])
    first = np.array([(given < rank).sum() + 1 for rank in given])  # 1, 1, 3
    dense = np.array([len(set(given[given < rank])) + 1 for rank in given])  # 1, 1, 2
    if not any(np.allclose(given, spelling) for spelling in (places, first, dense)):
        raise ValueError(f"{place}: {', '.join(f'{rank:g}' for rank in given)} are no ranks from 1 (best) on.")
    return (len(methods) + 1 - places).tolist()


def _estimates(scores: Mapping[tuple[str, str], Sequence[float]]) -> list[Estimate]:
    """For each method, of its scores by (rater, item)."""
    raters = {rater for rater, _ in scores}
    clusters: dict[str, list] = defaultdict(list)
    for (rater, item), values in scores.items():
        clusters[rater if len(raters) > 1 else item].append(values)
    sums = np.array([np.sum(values, axis=0) for values in clusters.values()])
    counts = np.array([len(values) for values in clusters.values()])
    drawn = np.random.default_rng(0).choice(len(counts), (RESAMPLES, len(counts)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)[:, None]
    low, high = np.percentile(means, (2.5, 97.5), axis=0)
    value = sums.sum(0) / counts.sum()
    return [Estimate(*(float(x) for x in numbers), len(scores)) for numbers in zip(value, low, high, strict=True)]


def _place(axis: str, rater: str, item: str) -> str:
    return f"{axis}, {item}, ranked by {rater}"


def ranking_table(result: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Markdown: a row for each method, a column for each axis, mean and 95 % interval."""
    axes = list(result)
    methods = list(result[axes[0]])
    lines = [f"| | {' | '.join(axes)} |", f"|---|{'---|' * len(axes)}"]
    lines += [f"| {method} | {' | '.join(str(result[axis][method]) for axis in axes)} |" for method in methods]
    counts = ", ".join(f"{axis} {next(iter(result[axis].values())).count}" for axis in axes)
    best = len(methods)
    return "\n".join([*lines, "", f"{best} is the best, {(best + 1) / 2:g} the mean. Rankings: {counts}."])
