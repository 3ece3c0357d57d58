"""Intervals and tests on counts of cells."""

from __future__ import annotations

from math import sqrt


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
