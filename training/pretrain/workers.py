"""Several processes of one thread each that train one model together.

On a CPU two processes of one thread took twice as many tokens a second as one process of two
threads: small matrices do not divide well. Gradients are summed with gloo over loopback.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import distributed, multiprocessing
from torch.nn import Parameter

from training.allocator import keep_memory
from training.pretrain.batches import KINDS
from training.workers import Workers

SUMS = (
    *("tokens", "targets", "loss"),
    *(f"{what} {kind}" for what in ("answers", "right") for kind in KINDS),
)
"""What is summed beside the gradients."""


def sum_gradients(
    workers: Workers, parameters: Sequence[Parameter], sums: Counter[str]
) -> Counter[str]:
    """Add up gradients, in place, and `sums` over all workers."""
    if workers.count == 1:
        return sums
    numbers = workers.add(parameters, [float(sums[name]) for name in SUMS])
    total = Counter({name: found for name, found in zip(SUMS, numbers, strict=True) if found})
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
        _prepare()
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


def _prepare() -> None:
    torch.set_num_threads(1)
    keep_memory()


def _work(rank: int, job: Callable[[Workers], None], count: int, port: int) -> None:
    _prepare()
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count
    )
    try:
        job(Workers(rank, count))
    finally:
        distributed.destroy_process_group()
