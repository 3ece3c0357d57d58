"""Seeded randomness that is the same on every platform and Python version.

`random.Random.random` is the only method whose sequence Python promises to keep; single draws are
built on it, and draws in bulk on SHAKE-256. Seeds come from SHA-256, so cells do not collide and do
not depend on any order.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random
from typing import TypeVar

from rlm.bench.tasks.base import SUITE_VERSION, Split

T = TypeVar("T")

NUMBERS = 1 << 16
"""How many different numbers a block holds, and how many entries a table has."""

EVAL_SHARE = 64
"""Of 256 hash values, how many belong to the eval split."""


def cell_seed(
    suite_seed: int, split: Split, task: str, chars: int, depth: int | None, sample: int
) -> int:
    """The 64-bit seed of one cell's document."""
    return _hash64("cell", SUITE_VERSION, suite_seed, split, task, chars, depth, sample)


def draw_seed(document: str, draw: int) -> int:
    """The 31-bit sampler seed of one draw; the same for all architectures.

    Args:
        document: sha256 of the document.
        draw: its number.
    """
    return _hash64("draw", document, draw) >> 33


def split_of(name: str) -> Split:
    """The split that a value or an entity belongs to, by its hash."""
    first = hashlib.sha256(b"split:" + name.encode()).digest()[0]
    return "eval" if first < EVAL_SHARE else "train"


def table(options: Sequence[T], weights: Sequence[int]) -> list[T]:
    """`NUMBERS` entries for the numbers of a block: each option as often as its weight says.

    Args:
        options: what is drawn.
        weights: one for each option, whole numbers, so that no platform rounds in its own way. An
            option of less than one part in `NUMBERS` may have no entry.
    """
    total = sum(weights)
    entries: list[T] = []
    for option, reached in zip(options, accumulate(weights), strict=True):
        entries += [option] * (NUMBERS * reached // total - len(entries))
    return entries


class Stream:
    """A stream of draws; equal parts give equal streams."""

    def __init__(self, *parts: object) -> None:
        self.random: Callable[[], float] = Random(_hash64("stream", *parts)).random
        self._parts = parts
        self._blocks = 0

    def below(self, n: int) -> int:
        """A whole number in ``[0, n)``."""
        return int(self.random() * n)

    def between(self, low: int, high: int) -> int:
        """A whole number in ``[low, high]``."""
        return low + self.below(high - low + 1)

    def choice(self, options: Sequence[T]) -> T:
        """One of `options`."""
        return options[self.below(len(options))]

    def sample(self, options: Sequence[T], k: int) -> list[T]:
        """`k` different ones of `options`, in drawn order."""
        pool = list(options)
        return [pool.pop(self.below(len(pool))) for _ in range(k)]

    def block(self, count: int) -> array[int]:
        """`count` whole numbers in ``[0, 65536)``, at the speed of memory.

        Each call gives the next piece: the SHAKE-256 of the stream's parts and of the number of
        blocks before it. `random` and all that is built on it stay where they are.

        Raises:
            ValueError: `count` is negative.
        """
        if count < 0:
            raise ValueError(f"a block of {count} numbers: count must be 0 or more")
        key = repr(("block", self._blocks, *self._parts)).encode()
        self._blocks += 1
        numbers = array("H")
        numbers.frombytes(hashlib.shake_256(key).digest(2 * count))
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers

    def until(self, draw: Callable[[], str], split: Split, taken: set[str]) -> str:
        """The first draw that belongs to `split` and is not in `taken`; it is added to `taken`."""
        while True:
            value = draw()
            if value not in taken and split_of(value) == split:
                taken.add(value)
                return value


def _hash64(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
