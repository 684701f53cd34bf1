"""What benchmarks measure with: the device's clock and memory, and what the machine is."""

from contextlib import contextmanager
import os
import platform
import threading
import time

import psutil
import torch

HAS_GPU = torch.cuda.is_available()


@contextmanager
def peak_memory():
    """The highest use of the device (GPU memory, or this process's memory on a processor) while the context lasts."""
    result = {}
    if HAS_GPU:
        torch.cuda.reset_peak_memory_stats()
        yield result
        result["gigabytes"] = torch.cuda.max_memory_allocated() / 2**30
        return
    process, done, highest = psutil.Process(), threading.Event(), [0]

    def watch():
        while not done.wait(0.01):
            highest[0] = max(highest[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield result
    finally:
        done.set()
        watcher.join()
    result["gigabytes"] = highest[0] / 2**30


def now() -> float:
    if HAS_GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


def machine() -> str:
    if HAS_GPU:
        return torch.cuda.get_device_name()
    return f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GB"
