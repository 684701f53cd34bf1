"""Where a training runs: one device, or several processes under Hugging Face accelerate."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import torch
from torch import Tensor, nn


class Engine(Protocol):
    """rank, world_size: the number of this process, and of how many. device: where its network has to be."""

    rank: int
    world_size: int
    device: torch.device

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network to call in training, whose gradients are the mean over all processes."""

    def backward(self, loss: Tensor) -> None: ...

    def mean(self, value: Tensor) -> Tensor:
        """Over all processes."""

    def wait(self) -> None:
        """Until all processes are here."""


def best_device() -> torch.device:
    """A card of NVIDIA, AMD, Apple or Intel if there is one."""
    for kind, cards in (("cuda", torch.cuda), ("mps", torch.backends.mps), ("xpu", torch.xpu)):
        if cards.is_available():
            return torch.device(kind)
    return torch.device("cpu")


@dataclass(frozen=True)
class OneDevice:
    device: torch.device = torch.device("cpu")
    rank: int = 0
    world_size: int = 1

    def wrap(self, network: nn.Module) -> nn.Module:
        return network

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def mean(self, value: Tensor) -> Tensor:
        return value

    def wait(self) -> None:
        pass


ONE_DEVICE = OneDevice()


class Accelerated:
    """Data-parallel processes, as `accelerate launch` starts them; each holds the network and a share of every batch.

    A process that dies ends the others' next exchange of gradients, at the latest after `timeout`.
    """

    def __init__(self, cpu: bool = False, timeout: timedelta = timedelta(minutes=10)):
        """Raises RuntimeError if accelerate is not installed."""
        try:
            from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
        except ImportError as error:
            raise RuntimeError(
                "Training in several processes needs accelerate, which is not installed: run 'pip install accelerate', "
                "or start a single process."
            ) from error
        # position tables are buffers that never change, so there is nothing to broadcast
        handlers = [DistributedDataParallelKwargs(broadcast_buffers=False), InitProcessGroupKwargs(timeout=timeout)]
        # autocast and gradient scaling are the trainer's own, the same with and without accelerate
        self.accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=handlers)
        self.rank, self.world_size = self.accelerator.process_index, self.accelerator.num_processes
        self.device = self.accelerator.device

    def wrap(self, network: nn.Module) -> nn.Module:
        return self.accelerator.prepare_model(network)

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def mean(self, value: Tensor) -> Tensor:
        return self.accelerator.reduce(value, reduction="mean")

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()
