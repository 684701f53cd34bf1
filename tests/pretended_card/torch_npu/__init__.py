"""A card that only pretends, for tests on machines without one: PyTorch and ComfyUI find it when this is on their path.

It goes by the name of Ascend's extension, for which ComfyUI has a branch. Its memory is the machine's and its work is
done by the processor, but as on a real card an operation refuses tensors of two devices, and memory ends.

PRETENDED_CARDS: how many there are; 1 unless set. PRETENDED_MB: what each holds; 8192.
PRETENDED_BUILD: where its library is built, once; in PyTorch's own folder of extensions unless set.
"""

import os
from pathlib import Path
import types

import torch
from torch.utils import cpp_extension

NAME = "npu"


def register() -> None:
    """PyTorch calls this when it is imported."""
    source = Path(__file__).with_name("card.cpp")
    card = cpp_extension.load(
        "pretended_card",
        [str(source)],
        extra_cflags=["-O1", "-w"],
        build_directory=os.environ.get("PRETENDED_BUILD"),
    )
    card.set_limit(int(os.environ.get("PRETENDED_MB", "8192")) * 2**20)
    torch.version.cuda = None  # as in Ascend's builds; else ComfyUI asks CUDA what this card can do
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, device_module(card))
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)


def device_module(card: types.ModuleType) -> types.ModuleType:
    """What PyTorch and ComfyUI ask of torch.npu."""

    def number(device: torch.device | int | str | None = None) -> int:
        if device is None:
            return card.current()
        return device if isinstance(device, int) else torch.device(device).index or 0

    class OnDevice:
        def __init__(self, device: torch.device | int | str):
            self.number = number(device)

        def __enter__(self):
            self.former = card.current()
            card.set_device(self.number)

        def __exit__(self, *_):
            card.set_device(self.former)

    def memory_stats(device: torch.device | None = None) -> dict[str, int]:
        held = card.held(number(device))
        return {"active_bytes.all.current": held, "reserved_bytes.all.current": held}

    module = types.ModuleType(f"torch.{NAME}")
    module.is_available = lambda: True
    module.device_count = lambda: int(os.environ.get("PRETENDED_CARDS", "1"))
    module.current_device = card.current
    module.set_device = lambda device: card.set_device(number(device))
    module.device = OnDevice
    module.get_device_name = lambda device=None: "pretended card"
    module.memory_allocated = lambda device=None: card.held(number(device))
    module.memory_stats = memory_stats
    module.mem_get_info = lambda device=None: (card.limit() - card.held(number(device)), card.limit())
    module.max_memory_allocated = lambda device=None: card.peak(number(device))
    module.reset_peak_memory_stats = lambda device=None: card.reset_peak(number(device))
    module.synchronize = module.empty_cache = module.manual_seed_all = lambda *_: None
    module._is_in_bad_fork = lambda: False
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    module.get_rng_state = lambda *_: torch.get_rng_state()
    module.set_rng_state = lambda state, *_: torch.set_rng_state(state)
    return module
