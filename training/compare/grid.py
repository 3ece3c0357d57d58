"""Which learning rates are tried: a grid for each arm, extended until the best is no edge.

Both arms always have equally many points. A best rate on an edge says that a better one may lie
beyond it; an arm whose best is not on its edge is extended too, on the side that is nearer, so that
neither is searched for longer than the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, TypeVar

Name = TypeVar("Name", bound=str)
FACTOR: Final = 2.0
"""Between an edge and the rate beyond it."""

Points = Mapping[float, float]
"""Validation loss by learning rate; infinite where a run diverged."""


def best(points: Points) -> float:
    """The rate of the lowest loss; of equal ones the lowest rate, which moves the least."""
    return min(points, key=lambda rate: (points[rate], rate))


def is_interior(points: Points) -> bool:
    """Whether the best rate has a worse one on either side."""
    rates = sorted(points)
    return math.isfinite(points[best(points)]) and rates[0] < best(points) < rates[-1]


def beyond(points: Points) -> float:
    """The rate with which a grid is extended: beyond the edge that is nearer to the best.

    Of two that are equally near it is the one with the lower loss. If nothing converged it is the
    lower one.
    """
    rates = sorted(points)
    at = rates.index(best(points))
    to_top = len(rates) - 1 - at
    if math.isinf(points[rates[at]]) or (at, points[rates[0]]) <= (to_top, points[rates[-1]]):
        return rates[0] / FACTOR
    return rates[-1] * FACTOR


def extended(arms: Mapping[Name, Points], left: int) -> dict[Name, float]:
    """The next point of each arm; empty once every best is interior, or none is `left`.

    Args:
        arms: points of each arm; equally many.
        left: extensions that may still be made.
    """
    if left < 1 or all(is_interior(points) for points in arms.values()):
        return {}
    return {arm: beyond(points) for arm, points in arms.items()}
