"""Several processes that train one model together: which of them this is, and what they add up.

Each holds the whole model and takes its share of the rows; only gradients travel, all in one sum.
That is data parallelism as `DistributedDataParallel` does it, without buckets and overlap: of an
adapter these are a few megabytes, once for each step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import Parameter


@dataclass(frozen=True)
class Workers:
    """Which of the processes of a run this is.

    Attributes:
        rank: of this process, from 0.
        count: of all.
        local: place among the processes of this machine, and number of its card.
        neighbours: processes on this machine, this one included.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    neighbours: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def device(self, wanted: str) -> str:
        """Where this process trains: each has a card of its own, all share a CPU."""
        return wanted if self.count == 1 or wanted == "cpu" else f"cuda:{self.local}"

    def add(self, parameters: Sequence[Parameter], numbers: Sequence[float]) -> list[float]:
        """Add up gradients, in place, and `numbers` over all workers, in float32."""
        if self.count == 1:
            return list(numbers)
        gradients = [_gradient(parameter) for parameter in parameters]
        told = torch.tensor(numbers, dtype=torch.float32, device=gradients[0].device)
        flat = torch.cat([told, *(gradient.flatten() for gradient in gradients)])
        distributed.all_reduce(flat)
        at = len(numbers)
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()
        return [float(number) for number in flat[: len(numbers)]]

    def gather(self, told: Any) -> list[Any]:
        """What each worker tells, in the order of their ranks."""
        found = [told] * self.count
        if self.count > 1:
            distributed.all_gather_object(found, told)
        return found


def _gradient(parameter: Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


@contextmanager
def started_by_torchrun(device: str) -> Iterator[Workers]:
    """The processes that torchrun started, connected; this one alone if it did not.

    Args:
        device: ``cpu`` is connected by gloo, cards by nccl.
    """
    if not distributed.is_torchelastic_launched():
        yield Workers()
        return
    rank, count, local, neighbours = (
        int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    )
    if device != "cpu":
        torch.cuda.set_device(local)
    distributed.init_process_group("gloo" if device == "cpu" else "nccl")
    try:
        yield Workers(rank, count, local, neighbours)
    finally:
        distributed.destroy_process_group()
