"""The two arms: a grid of learning rates each, then fresh seeds that match."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Final

from training.compare import grid
from training.compare.lots import CompareError, Lot
from training.compare.place import Place, Progress
from training.compare.runs import MATCHED, Outcome, Run, train
from training.trainer import Optimizer

ARMS: Final[tuple[Optimizer, Optimizer]] = ("adamw", "muon")


@dataclass(frozen=True, slots=True)
class Design:
    """What is trained.

    Attributes:
        rates: the grid of each arm before it is extended; equally many.
        grid_seeds: seeds of each point of the grid, from 0 on.
        seeds: fresh seeds of each arm, from `grid_seeds` on.
        extensions: most points by which a grid grows.
        options: of `training.sft`, the same for all runs.
    """

    rates: Mapping[Optimizer, tuple[float, ...]]
    grid_seeds: int
    seeds: int
    extensions: int
    options: tuple[str, ...]

    @property
    def fresh(self) -> range:
        """The seeds that are reported; none of them chose a learning rate."""
        return range(self.grid_seeds, self.grid_seeds + self.seeds)


@dataclass(frozen=True, slots=True)
class Arms:
    """All that was trained: outcomes of each arm.

    Attributes:
        grid: by rate, and there by seed.
        seeds: at the best rate, by seed.
    """

    grid: Mapping[Optimizer, tuple[Outcome, ...]]
    seeds: Mapping[Optimizer, tuple[Outcome, ...]]

    def best(self, arm: Optimizer) -> float:
        """The learning rate of the lowest validation loss."""
        return grid.best(points(self.grid[arm]))


def points(outcomes: Sequence[Outcome]) -> dict[float, float]:
    """Mean validation loss over the seeds by rate; infinite where one of them diverged."""
    rates = sorted({outcome.run.lr for outcome in outcomes})
    return {rate: fmean(o.loss for o in outcomes if o.run.lr == rate) for rate in rates}


def search(
    design: Design, lot: Lot, place: Place, progress: Progress
) -> dict[Optimizer, tuple[Outcome, ...]]:
    """The grids, extended until the best rate of either arm is no edge."""
    runs = [Run(a, r, s) for a in ARMS for r in design.rates[a] for s in range(design.grid_seeds)]
    progress.begin("grid", len(runs))
    found = _all(runs, lot, "grid", design, place, progress)
    for left in range(design.extensions, -1, -1):
        by_arm = {arm: points([o for o in found if o.run.arm == arm]) for arm in ARMS}
        more = grid.extended(by_arm, left)
        if not more:
            break
        runs = [Run(a, more[a], seed) for a in ARMS for seed in range(design.grid_seeds)]
        told = ", ".join(f"{arm} by {more[arm]:g}" for arm in ARMS)
        progress.tell(f"a best rate is on the edge of its grid: extended, {told}")
        progress.planned += len(runs)
        found += _all(runs, lot, "grid", design, place, progress)
    return {a: tuple(sorted((o for o in found if o.run.arm == a), key=_order)) for a in ARMS}


def repeat(
    design: Design,
    grids: Mapping[Optimizer, tuple[Outcome, ...]],
    lot: Lot,
    place: Place,
    progress: Progress,
) -> Arms:
    """Fresh seeds at the best rate of each arm.

    Raises:
        CompareError: every point of a grid diverged, or the arms of a seed do not match.
    """
    rates = {arm: grid.best(points(grids[arm])) for arm in ARMS}
    for arm in ARMS:
        losses = points(grids[arm])
        if math.isinf(losses[rates[arm]]):
            raise CompareError(
                f"{arm} diverged at each of its learning rates, "
                f"{', '.join(f'{rate:g}' for rate in losses)}: give lower ones with --{arm}-lrs"
            )
    runs = [Run(arm, rates[arm], seed) for seed in design.fresh for arm in ARMS]
    progress.begin("seeds", len(runs))
    found = _all(runs, lot, "seeds", design, place, progress)
    arms = Arms(grids, {a: tuple(o for o in found if o.run.arm == a) for a in ARMS})
    require_match(arms)
    return arms


def require_match(arms: Arms) -> None:
    """Refuse arms that differ in more than the optimizer.

    Base, samples and validation set are those of all runs; first adapter and order those of both
    arms of a seed. A run that diverged before its first checkpoint has none, and is passed over.

    Raises:
        CompareError: says in what they differ.
    """
    adamw, muon = (arms.seeds[arm] for arm in ARMS)
    for one, other in zip(adamw, muon, strict=True):
        _require_equal(one, other, MATCHED)
    everything = [o for outcomes in arms.seeds.values() for o in outcomes if o.hashes]
    for outcome in everything[1:]:
        _require_equal(everything[0], outcome, ("base", "samples", "validation"))


def _require_equal(one: Outcome, other: Outcome, names: Sequence[str]) -> None:
    for name in names if one.hashes and other.hashes else ():
        if one.hashes[name] != other.hashes[name]:
            raise CompareError(
                f"{one.folder} and {other.folder} do not match: {name} {one.hashes[name][:12]} "
                f"and {other.hashes[name][:12]}; delete the two, and run this again"
            )


def _all(
    runs: Sequence[Run], lot: Lot, kind: str, design: Design, place: Place, progress: Progress
) -> list[Outcome]:
    tasks = [
        partial(train, run, lot, place.out / kind / run.name, design.options, place) for run in runs
    ]
    return place.each([progress.timed(task, _told) for task in tasks])


def _told(outcome: Outcome) -> str:
    if outcome.diverged:
        return f"{outcome.run.name}: {outcome.diverged}"
    rate = outcome.tokens / max(outcome.seconds, 1e-9)
    first = outcome.curve[0].loss
    return (
        f"{outcome.run.name}: loss {first:.4f} to {outcome.loss:.4f}, |dW| {outcome.delta:.3f}, "
        f"{outcome.seconds:.0f} s, {rate:,.0f} tokens/s"
    )


def _order(outcome: Outcome) -> tuple[float, int]:
    return outcome.run.lr, outcome.run.seed
