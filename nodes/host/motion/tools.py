"""Motion modules and MotionLoRAs made of others: combined, extracted, merged, baked."""

from collections.abc import Callable, Iterable
from functools import partial

from torch import Tensor

from ....lora.low_rank import LowRank, MotionLora, combine
from ....lora.merge import average, bake, extract, linear_targets, reduce, relative_error
from ....motion_modules.config import MotionModuleConfig
from ...timeline.blocks import block_number, check_blocks, parse_block_numbers
from ..core.progress import with_progress
from .loras import LoadedMotionLora, part_that_fits
from .module import FileShare, LoadedMotionModule, Source, motion_module_from


def combine_motion_loras(stack: tuple[LoadedMotionLora, ...], rank: int) -> tuple[LoadedMotionLora, str]:
    """One MotionLoRA of strength 1 for a whole stack, and a report. rank 0 is exact; a smaller one loses a part.

    Raises ValueError for an empty stack, a strength that changes while sampling, or MotionLoRAs of different kinds.
    """
    constant = constant_entries(stack)
    check_shapes(constant)
    weighted = [(entry.lora, entry.strength) for entry in constant]
    if rank == 0:
        lora, error = combine(weighted), 0.0
    else:
        count = len({target for entry in constant for target in entry.lora})
        lora, error = collected(reduce(weighted, rank), count)
    name = " + ".join(f"{entry.strength:g} {entry.name}" for entry in constant)
    combined = LoadedMotionLora(name, 1.0, lora, files_of(constant))
    return combined, f"rank {combined.rank}, relative error {error:.2e}"


def extract_motion_lora(tuned: LoadedMotionModule, base: LoadedMotionModule, rank: int) -> tuple[LoadedMotionLora, str]:
    """The MotionLoRA that turns `base` into `tuned`, as near as its rank allows, and a report of the relative error."""
    tuned_weights, base_weights = tuned.source()[1], base.source()[1]
    if tuned_weights.keys() != base_weights.keys():
        raise ValueError(f"{tuned.name} and {base.name} have different blocks; extract from two of the same kind.")
    targets = linear_targets(base_weights, tuned_weights)
    if not targets:
        raise ValueError(
            f"{tuned.name} and {base.name} are the same in every layer that a MotionLoRA can change. "
            "Choose two that differ."
        )
    lora, error = collected(extract(tuned_weights, base_weights, rank), len(targets))
    others = sum(
        not value.equal(base_weights[key])
        for key, value in tuned_weights.items()
        if value.ndim == 1 and key in base_weights
    )
    report = f"{len(lora)} layers, rank {rank}, relative error {error:.2e}"
    if others:
        report += f"; {others} biases and norms differ too, which a MotionLoRA cannot hold"
    name = f"{tuned.name} - {base.name}"
    return LoadedMotionLora(name, 1.0, lora, tuned.files + scaled(base.files, -1.0)), report


def merge_motion_modules(
    first: LoadedMotionModule, second: LoadedMotionModule, share: float, block_shares: str
) -> LoadedMotionModule:
    """A motion module between two: (1 - share) * first + share * second, and other shares for named blocks."""
    shares = parse_block_numbers(block_shares)
    check_blocks(shares, first.source()[1], first.patcher.model.sites, "block_shares")
    source = partial(_merged, first.source, second.source, partial(block_number, otherwise=share, numbers=shares))
    return motion_module_from(
        f"{first.name} and {second.name}", source, scaled(first.files, 1 - share) + scaled(second.files, share)
    )


def _merged(
    first: Source, second: Source, share_of: Callable[[str], float]
) -> tuple[MotionModuleConfig, dict[str, Tensor]]:
    (config, weights), (_, others) = first(), second()
    return config, average(weights, others, share_of)


def bake_motion_loras(module: LoadedMotionModule, stack: tuple[LoadedMotionLora, ...]) -> LoadedMotionModule:
    """The motion module with a stack's changes added to its weights."""
    constant = constant_entries(stack)
    weighted = [(part_that_fits(module.patcher.model, entry), entry.strength) for entry in constant]
    name = " + ".join([module.name, *(entry.name for entry in constant)])
    return motion_module_from(name, partial(_baked, module.source, weighted), module.files + files_of(constant))


def _baked(source: Source, weighted: list[tuple[MotionLora, float]]) -> tuple[MotionModuleConfig, dict[str, Tensor]]:
    config, weights = source()
    return config, bake(weights, combine(weighted))


def collected(changes: Iterable[tuple[str, LowRank, float, float]], count: int) -> tuple[MotionLora, float]:
    """All changes and their relative error together, with progress over `count` targets."""
    lora, lost, whole = {}, 0.0, 0.0
    for target, change, lost_here, whole_here in with_progress(changes, count):
        lora[target] = change
        lost, whole = lost + lost_here, whole + whole_here
    return lora, relative_error(lost, whole)


def constant_entries(stack: tuple[LoadedMotionLora, ...]) -> list[LoadedMotionLora]:
    """Raises ValueError for an empty stack, or a strength that changes while sampling."""
    if not stack:
        raise ValueError("There is no MotionLoRA in the stack. Connect Load MotionLoRA.")
    entries = [entry.with_constant_folded() for entry in stack]
    for entry in entries:
        if entry.schedule is not None:
            raise ValueError(
                f"{entry.name} has a strength that changes while sampling, which a file cannot hold. "
                "Connect it without MotionLoRA Schedule."
            )
    return entries


def check_shapes(entries: list[LoadedMotionLora]) -> None:
    """Raises ValueError, naming both, for two MotionLoRAs that change a layer of different size."""
    first: dict[str, tuple[LoadedMotionLora, LowRank]] = {}
    for entry in entries:
        for target, change in entry.lora.items():
            other, known = first.setdefault(target, (entry, change))
            if change.shape != known.shape:
                raise ValueError(
                    f"{other.name} and {entry.name} are for different kinds of motion modules: {target} is "
                    f"{known.shape} in one and {change.shape} in the other. Combine MotionLoRAs of the same kind."
                )


def scaled(files: tuple[FileShare, ...], strength: float) -> tuple[FileShare, ...]:
    return tuple((folder, name, own * strength) for folder, name, own in files)


def files_of(entries: list[LoadedMotionLora]) -> tuple[FileShare, ...]:
    return tuple(share for entry in entries for share in scaled(entry.files, entry.strength))
