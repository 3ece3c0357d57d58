"""Several processes of one thread each that train one model together.

On a CPU two processes of one thread took twice as many tokens a second as one process of two
threads: small matrices do not divide well. Gradients are summed with gloo over loopback.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import distributed, multiprocessing
from torch.nn import Parameter

from training.pretrain.batches import KINDS

SUMS = (
    *("tokens", "targets", "loss"),
    *(f"{what} {kind}" for what in ("answers", "right") for kind in KINDS),
)
"""What is summed beside the gradients."""


@dataclass(frozen=True)
class Workers:
    """Which of the processes of a run this is."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def sum_gradients(self, parameters: Sequence[Parameter], sums: Counter[str]) -> Counter[str]:
        """Add up gradients, in place, and `sums` over all workers."""
        if self.count == 1:
            return sums
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        numbers = torch.tensor([float(sums[name]) for name in SUMS])
        flat = torch.cat([numbers, *(g.flatten() for g in gradients)])
        distributed.all_reduce(flat)
        at = len(SUMS)
        for gradient in gradients:
            gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
            at += gradient.numel()
        total = Counter({name: flat[i].item() for i, name in enumerate(SUMS) if flat[i]})
        total["tokens"] = round(total["tokens"])
        return total


def run_workers(job: Callable[[Workers], None], count: int) -> None:
    """Run `job` in `count` processes of one thread each, and wait for all of them.

    This process is the first worker. If it is killed the others lose its connection and end.

    Args:
        job: can be pickled; it is told which worker it is.
        count: how many workers.
    """
    if count == 1:
        torch.set_num_threads(1)
        job(Workers())
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    others = multiprocessing.spawn(_other, (job, count, port), nprocs=count - 1, join=False)
    _work(0, job, count, port)
    others.join()


def _other(index: int, job: Callable[[Workers], None], count: int, port: int) -> None:
    _work(index + 1, job, count, port)


def _work(rank: int, job: Callable[[Workers], None], count: int, port: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count
    )
    try:
        job(Workers(rank, count))
    finally:
        distributed.destroy_process_group()
