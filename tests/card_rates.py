"""What a card can do at best, measured with its own clock."""

from collections.abc import Callable
import statistics

import torch


def seconds_between(events: list[torch.cuda.Event]) -> list[float]:
    """Of each recorded event to the next."""
    torch.cuda.synchronize()
    return [a.elapsed_time(b) / 1000 for a, b in zip(events, events[1:], strict=False)]


def recorded_event(*_) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def median_seconds(work: Callable[[], object], times: int = 10) -> float:
    """After one run to warm up."""
    work()
    events = [recorded_event()]
    for _ in range(times):
        work()
        events.append(recorded_event())
    return statistics.median(seconds_between(events))


def matmul_rate(dtype: torch.dtype, side: int = 8192) -> float:
    """FLOP per second of a large product."""
    a, b = torch.randn(2, side, side, device="cuda", dtype=dtype)
    return 2 * side**3 / median_seconds(lambda: a @ b)


def copy_rate(size: int = 2**30) -> float:
    """Bytes per second, read and written, of a large copy."""
    source = torch.zeros(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * size / median_seconds(lambda: target.copy_(source))
