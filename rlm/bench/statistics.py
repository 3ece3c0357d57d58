"""Intervals and tests on counts of cells.

Everything here is about pairs: two sides answer the same question on the same document, and the
difference is right minus left. Several answers to one document are not independent, so documents
count, not answers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import ceil, inf, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

from rlm.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FINEST: Final = 0.005
"""The least difference to plan for: it takes up to 400,000 pairs."""
ROUNDING: Final = 1e-9
"""A power short of its goal by so little has it: its sum was taken in another order."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Crossover:
    """From which length on the right side leads.

    Attributes:
        length: in the unit of the points; ``None`` if there is no such length among them.
        low: 0 stands for below the shortest length.
        high: infinity stands for above the longest.
        reason: why `length` is ``None``; else empty.
    """

    length: float | None
    low: float
    high: float
    reason: str = ""


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The score interval of a proportion; honest for few trials, unlike p ± z·se.

    1 of 1 is [0.21, 1.00]: a green square on one sample is not a result. Nothing tried says
    nothing: 0 of 0 is [0, 1].

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22 (1927), 209-212.

    Args:
        successes: how many of the trials came out right.
        n: trials.
        z: normal quantile of the confidence level; 1.96 is 95 %.

    Raises:
        ValueError: `successes` is not between 0 and `n`.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials: must be between 0 and {n}")
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    scale = 1 + z * z / n
    centre = p + z * z / (2 * n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided p-value of a difference between two sides that were asked the same.

    Pairs on which both sides agree say nothing about it. The discordant ones are coin tosses if
    there is no difference, so fewer than six of them, all on one side, are never below 0.05.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12 (1947), 153-157; here with the binomial
    distribution itself in place of chi-square.

    Args:
        wins: pairs that only the right side got.
        losses: pairs that only the left side got.
    """
    from scipy.special import bdtr

    if wins + losses == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def holm(ps: Sequence[float]) -> tuple[float, ...]:
    """P-values adjusted for being several, in the given order.

    Calling those below 0.05 significant errs in one of twenty families, not one of twenty tests.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6 (1979), 65-70.
    """
    adjusted, largest = [1.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = largest
    return tuple(adjusted)


def paired_difference(
    left: Sequence[float],
    right: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    level: float = 0.95,
) -> Estimate:
    """Mean of right minus left over pairs, with an interval that takes documents as the sample.

    The interval is that of the mean after two documents are added, one won and one lost, with
    the variance between documents. So it has a width where all pairs agree (9 of 9 won is
    [0.48, 1.00]). A bootstrap has none there: of nine documents with a true difference of 0.98 its
    95 % interval holds the truth in one simulated run of six. Nothing paired says nothing:
    0 [-1, 1].

    Source: D. G. Bonett and R. M. Price, "Adjusted Wald confidence interval for a difference of
    binomial proportions based on paired data", Journal of Educational and Behavioral Statistics
    37 (2012), 479-488, which this equals for one pair a document; the ratio estimator's variance
    extends it to several. Coverage at 95 %, from 6 documents on: 0.91 at the worst, 0.97 on
    average, nearer to 0.95 the more there are.

    Args:
        left: what the left side scored in each pair, 0 to 1.
        right: what the right side scored.
        clusters: the document of each pair.
        level: of confidence.

    Raises:
        ValueError: the three differ in length.
    """
    totals: defaultdict[Hashable, float] = defaultdict(float)
    for a, b, document in zip(left, right, clusters, strict=True):
        totals[document] += b - a
    sizes = Counter(clusters)
    if not sizes:
        return Estimate(0.0, -1.0, 1.0)
    n, size = len(left), len(left) / len(sizes)
    documents = [(totals[d], sizes[d]) for d in sizes]
    padded = [*documents, (size, size), (-size, size)]
    total = n + 2 * size
    centre = sum(t for t, _ in padded) / total
    error = sqrt(sum((t - centre * m) ** 2 for t, m in padded)) / total
    half = NormalDist().inv_cdf((1 + level) / 2) * error
    value = sum(t for t, _ in documents) / n
    return Estimate(value, max(-1.0, centre - half), min(1.0, centre + half))


def effective_length(points: Sequence[tuple[int, int, int]], threshold: float) -> int | None:
    """The largest length up to which accuracy is surely above a threshold.

    At this length, and at every shorter one that was measured, the lower end of the 95 % Wilson
    interval is above `threshold`; ``None`` if it is not even at the shortest. Above 0.8 takes 16
    answers at each length, all of them right.

    Args:
        points: (length, successes, trials) for each length.
        threshold: 0 to 1.
    """
    found = None
    for length, successes, n in sorted(points):
        if wilson(successes, n)[0] <= threshold:
            break
        found = length
    return found


def crossover(
    points: Sequence[tuple[int, Sequence[float]]],
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 20261121,
) -> Crossover:
    """From which length on the right side leads, up to the longest that was measured.

    After the last length at which the mean difference is not above 0, it comes to be above 0; the
    crossover is where the straight line between these two means, over the logarithm of the length,
    crosses 0. There is none if the right side does not lead at the longest length, or leads at all.

    The interval is a percentile interval of a Bayesian bootstrap over the documents of each length,
    with a document won and one lost added, as in `paired_difference`: nine documents on which two
    sides agree do not prove that they are equal. Simulated coverage of a 95 % interval is 0.94 or
    more, but 0.90 where 15 documents or fewer meet a difference that grows slowly.

    Source: D. B. Rubin, "The Bayesian bootstrap", Annals of Statistics 9 (1981), 130-134.

    Args:
        points: (length, mean difference of each document) for each length, right minus left.
        level: of confidence.
        draws: of the bootstrap.
        seed: of its random numbers.
    """
    import numpy as np

    measured = sorted((length, list(found)) for length, found in points if found)
    if len(measured) < 2:
        return Crossover(None, 0.0, inf, "fewer than two lengths were measured")
    lengths = np.array([length for length, _ in measured], dtype=np.float64)
    means = np.array([[np.mean(found) for _, found in measured]])
    value = float(_crossings(means, lengths)[0])
    rng = np.random.default_rng(seed)
    drawn = np.column_stack([_redrawn(found, draws, rng) for _, found in measured])
    tail = (1 - level) / 2
    low, high = np.quantile(_crossings(drawn, lengths), (tail, 1 - tail), method="nearest")
    reason = {0.0: "leads at every length", inf: "does not lead at the longest length"}
    return Crossover(
        None if value in reason else value, float(low), float(high), reason.get(value, "")
    )


def _crossings(means: Array, lengths: Array) -> Array:
    """Crossovers of differences (draws, lengths): 0 leads everywhere, infinity not at the end."""
    import numpy as np

    count = len(lengths)
    behind = means <= 0
    last = count - 1 - behind[:, ::-1].argmax(axis=1)
    rows, left = np.arange(len(means)), np.minimum(last, count - 2)
    before, after = means[rows, left], means[rows, left + 1]
    share = np.clip(-before / np.where(after > before, after - before, 1.0), 0.0, 1.0)
    logs = np.log(lengths)
    inside = np.exp(logs[left] + share * (logs[left + 1] - logs[left]))
    found = np.where(last == count - 1, np.inf, inside)
    return np.where(behind.any(axis=1), found, 0.0)


def _redrawn(differences: Sequence[float], draws: int, rng: np.random.Generator) -> Array:
    """Means (draws,) under random weights of the documents; equal ones share one weight."""
    import numpy as np

    values, counts = np.unique([*differences, 1.0, -1.0], return_counts=True)
    weights = rng.gamma(counts, size=(draws, len(values)))
    return np.asarray(weights @ values / weights.sum(axis=1), dtype=np.float64)


def power(n: int, difference: float, *, discordant: float, alpha: float = 0.05) -> float:
    """Chance that `mcnemar` finds a difference that is there.

    Exact and unconditional: over how many of the pairs come out discordant, and which way each.

    Args:
        n: pairs, each on a document of its own.
        difference: that is there, right minus left, 0 to `discordant`.
        discordant: share of pairs on which one side is right and the other wrong, 0 to 1.
        alpha: p-values up to this one count as found.

    Raises:
        UsageError: a share or difference that cannot be.
    """
    _check(difference, discordant, alpha)
    low, high = _likely(n, discordant)
    return _mixed(n, discordant, low, _found(low, high, difference / discordant, alpha))


def samples_needed(
    mde: float, *, discordant: float, alpha: float = 0.05, power: float = 0.8
) -> int:
    """The least number of pairs from which on `mcnemar` finds a difference often enough.

    As p-values come in steps, a few more pairs may do worse; this is the number from which on none
    does.

    Args:
        mde: minimal detectable effect: the difference to be found, `FINEST` to `discordant`.
        discordant: share of pairs on which one side is right and the other wrong.
        alpha: p-values up to this one count as found.
        power: the share of such experiments that shall find it.

    Raises:
        UsageError: a share or difference that cannot be.
    """
    _check(mde, discordant, alpha)
    if mde < FINEST:
        raise UsageError(
            f"a difference of {100 * mde:g} points is too fine to plan for: "
            f"choose {100 * FINEST:g} points or more"
        )
    if not 0 < power < 1:
        raise UsageError(f"a power of {power:g} cannot be had: choose one between 0 and 1, as 0.8")
    lean, low, high = mde / discordant, 0, 8
    goal = power - ROUNDING

    def reached(n: int) -> bool:
        first, last = _likely(n, discordant)
        return _mixed(n, discordant, first, _found(first, last, lean, alpha)) >= goal

    while not reached(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    steps = range(high, high + ceil(4 / mde) + 20)
    first, last = _likely(steps[0], discordant)[0], _likely(steps[-1], discordant)[1]
    found = _found(first, last, lean, alpha)
    return max((n + 1 for n in steps if _mixed(n, discordant, first, found) < goal), default=high)


def detectable(
    n: int, *, discordant: float, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The least difference that `n` pairs find often enough; ``None`` if they find none.

    Args:
        n: pairs, each on a document of its own.
        discordant: share of pairs on which one side is right and the other wrong.
        alpha: p-values up to this one count as found.
        power: the share of such experiments that shall find it.

    Raises:
        UsageError: a share that cannot be.
    """
    from scipy.optimize import brentq

    _check(discordant, discordant, alpha)

    first, last = _likely(n, discordant)

    def lacking(difference: float) -> float:
        found = _found(first, last, difference / discordant, alpha)
        return _mixed(n, discordant, first, found) - power

    if lacking(discordant) < 0:
        return None
    return float(brentq(lacking, 0.0, discordant, xtol=1e-6))


def _check(difference: float, discordant: float, alpha: float) -> None:
    if not 0 < discordant <= 1:
        raise UsageError(
            f"a share of {discordant:g} discordant pairs cannot be: choose one of 0 to 1"
        )
    if not 0 < alpha < 1:
        raise UsageError(f"alpha cannot be {alpha:g}: choose one between 0 and 1, as 0.05")
    if not 0 < difference <= discordant:
        raise UsageError(
            f"a difference of {100 * difference:g} points cannot be with {discordant:.0%} "
            "discordant pairs: it is above 0, and at most as large as their share"
        )


def _likely(n: int, discordant: float) -> tuple[int, int]:
    """Least and greatest number of discordant pairs among `n`, but for a chance of 1e-15."""
    half = 8 * sqrt(n * discordant * (1 - discordant)) + 20
    return max(0, int(n * discordant - half)), min(n, ceil(n * discordant + half))


def _found(first: int, last: int, lean: float, alpha: float) -> Array:
    """Chance of a p-value up to `alpha` with `first` to `last` discordant pairs, for each number.

    `lean` is the share of wins among them less that of losses.
    """
    import numpy as np
    from scipy.stats import binom

    pairs = np.arange(first, last + 1)
    few = binom.ppf(alpha / 2, pairs, 0.5)
    few = np.where(binom.cdf(few, pairs, 0.5) > alpha / 2, few - 1, few)
    chance = binom.cdf(few, pairs, (1 + lean) / 2) + binom.cdf(few, pairs, (1 - lean) / 2)
    return np.asarray(chance, dtype=np.float64)


def _mixed(n: int, discordant: float, first: int, found: Array) -> float:
    """Mean of `found`, which begins at `first` discordant pairs, over their number among `n`."""
    import numpy as np
    from scipy.stats import binom

    return float(binom.pmf(np.arange(first, first + len(found)), n, discordant) @ found)
