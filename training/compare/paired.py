"""Differences between two sides that match: over seeds, and over items asked of several seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import fmean, stdev
from typing import Final

from rlm.bench.statistics import Estimate, mcnemar

DRAWS: Final = 4000
SEED: Final = 20261121


@dataclass(frozen=True, slots=True)
class OverSeeds:
    """Right minus left of each seed.

    Attributes:
        differences: of each seed, in order.
        estimate: their mean, with its 95 % interval by Student's t; infinite ends for one seed.
        wins: seeds in which the right side is lower.
        losses: seeds in which it is higher.
        sign: exact two-sided p of the sign test.
        least: the lowest p that the sign test can give with so many seeds.
    """

    differences: tuple[float, ...]
    estimate: Estimate
    wins: int
    losses: int
    sign: float
    least: float


def over_seeds(left: Sequence[float], right: Sequence[float]) -> OverSeeds:
    """Compare a measure of which less is better, seed by seed.

    Args:
        left: of each seed, finite.
        right: of the same seeds.

    Raises:
        ValueError: the two differ in length, or are empty.
    """
    found = tuple(b - a for a, b in zip(left, right, strict=True))
    if not found:
        raise ValueError("there is no pair of seeds")
    mean, half = fmean(found), inf
    if len(found) > 1:
        from scipy.stats import t

        half = float(t.ppf(0.975, len(found) - 1)) * stdev(found) / sqrt(len(found))
    wins, losses = sum(d < 0 for d in found), sum(d > 0 for d in found)
    estimate = Estimate(mean, mean - half, mean + half)
    return OverSeeds(found, estimate, wins, losses, mcnemar(wins, losses), mcnemar(len(found), 0))


@dataclass(frozen=True, slots=True)
class Pair:
    """One item, answered by two sides with one seed: 1 for a right answer, 0 for any other."""

    item: Hashable
    seed: Hashable
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class OverItems:
    """Right minus left, 0 to 1.

    Attributes:
        items, seeds: how many there are.
        pairs: of an item and a seed.
        wins, losses: items that more seeds of the right, or of the left side got.
        p: exact McNemar over items: with several seeds, on which side more of them are right.
        estimate: of the shares that are right; the 95 % interval of a bootstrap that draws items,
            and seeds too where there are several.
    """

    items: int
    seeds: int
    pairs: int
    wins: int
    losses: int
    p: float
    estimate: Estimate


def over_items(pairs: Sequence[Pair]) -> OverItems:
    """Compare two sides on the same items.

    Items and seeds are crossed, so both are drawn: of a seed all items stay together, of an item
    all seeds. This errs, if at all, on the side of wide intervals. Source: A. B. Owen, "The
    pigeonhole bootstrap", Annals of Applied Statistics 1 (2007), 386-411.

    One item won and one lost are added before drawing, as `rlm.bench.statistics` does: items that
    all agree do not prove that two sides are equal.

    Args:
        pairs: of items and seeds; each once.

    Raises:
        ValueError: there is none.
    """
    if not pairs:
        raise ValueError("there is no pair of answers")
    net: defaultdict[Hashable, int] = defaultdict(int)
    for pair in pairs:
        net[pair.item] += pair.right - pair.left
    wins, losses = sum(n > 0 for n in net.values()), sum(n < 0 for n in net.values())
    value = fmean(pair.right - pair.left for pair in pairs)
    low, high = _interval(pairs)
    return OverItems(
        items=len(net),
        seeds=len({pair.seed for pair in pairs}),
        pairs=len(pairs),
        wins=wins,
        losses=losses,
        p=mcnemar(wins, losses),
        estimate=Estimate(value, low, high),
    )


def _interval(pairs: Sequence[Pair]) -> tuple[float, float]:
    import numpy as np

    items = {item: i for i, item in enumerate(dict.fromkeys(pair.item for pair in pairs))}
    seeds = {seed: i for i, seed in enumerate(dict.fromkeys(pair.seed for pair in pairs))}
    shape = (len(items) + 2, len(seeds))
    difference, there = np.zeros(shape), np.zeros(shape)
    for pair in pairs:
        place = items[pair.item], seeds[pair.seed]
        difference[place] += pair.right - pair.left
        there[place] += 1
    difference[-2], difference[-1], there[-2:] = 1, -1, 1
    rng = np.random.default_rng(SEED)

    def weights(n: int) -> np.ndarray:
        return rng.multinomial(n, [1 / n] * n, size=DRAWS).astype(np.float64)

    by_item, by_seed = weights(shape[0]), weights(shape[1])
    sums = ((by_item @ difference) * by_seed).sum(axis=1)
    counts = ((by_item @ there) * by_seed).sum(axis=1)
    low, high = np.quantile(sums / np.maximum(counts, 1), (0.025, 0.975))
    return float(low), float(high)
