"""All that a comparison found, as plain data: what ``report.json`` holds and the pages show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from rlm.bench.records import FAILED, Record
from rlm.bench.statistics import Estimate, holm, wilson
from rlm.bench.verify import read_trajectory
from training.compare import grid
from training.compare.arms import ARMS, Arms, points
from training.compare.bench import BASE, NF4, Asked
from training.compare.lots import Lot
from training.compare.paired import OverItems, Pair, over_items, over_seeds
from training.compare.runs import Outcome

Data = dict[str, Any]
BEST: Final = "best"
"""Stands for the seed where each arm was asked with its best one."""


def collect(
    facts: Mapping[str, Any],
    lots: tuple[Lot, Lot],
    arms: Arms,
    asked: Sequence[Asked],
    exam: Mapping[str, Any],
) -> Data:
    """Everything, in the order of the report.

    Args:
        facts: settings of the comparison.
        lots: to select and to report on.
        arms: what was trained.
        asked: the benchmark's runs; may be empty.
        exam: options of the benchmark.
    """
    return {
        "settings": dict(facts),
        "lots": {
            name: {
                "documents": len({s.document for s in rows}),
                "samples": len(rows),
                "learned": sum(s.supervised for s in rows),
            }
            for name, rows in (
                ("train", lots[0].train),
                ("select", lots[0].held),
                ("report", lots[1].held),
            )
        },
        "grid": {arm: _grid(arms.grid[arm]) for arm in ARMS},
        "seeds": {arm: [_run(outcome) for outcome in arms.seeds[arm]] for arm in ARMS},
        "paired": _paired(arms),
        "exam": dict(exam),
        "models": [_model(each, name) for each in asked for name in _architectures(asked)],
        "items": _adjusted([r for name in _architectures(asked) for r in _items(asked, name)]),
    }


def _grid(outcomes: Sequence[Outcome]) -> Data:
    """The rates of an arm, and which was chosen."""
    found = points(outcomes)
    rows = [
        {
            "lr": rate,
            "loss": _finite(loss),
            "runs": [_run(outcome) for outcome in outcomes if outcome.run.lr == rate],
        }
        for rate, loss in found.items()
    ]
    return {"best": grid.best(found), "interior": grid.is_interior(found), "points": rows}


def _run(outcome: Outcome) -> Data:
    run = outcome.run
    return {
        "name": run.name,
        "lr": run.lr,
        "seed": run.seed,
        "first": _finite(outcome.curve[0].loss) if outcome.curve else None,
        "loss": _finite(outcome.loss),
        "right": outcome.right,
        "delta": _finite(outcome.delta),
        "update_rms": _finite(outcome.update_rms),
        "steps": outcome.steps,
        "tokens": outcome.tokens,
        "seconds": outcome.seconds,
        "rate": outcome.tokens / max(outcome.seconds, 1e-9),
        "diverged": outcome.diverged,
        "hashes": outcome.hashes,
        "curve": [[p.step, p.tokens, p.seconds, _finite(p.loss)] for p in outcome.curve],
    }


def _paired(arms: Arms) -> Data | None:
    """Muon less AdamW in loss, over the seeds in which both converged; ``None`` if in none."""
    both = [
        (one, other)
        for one, other in zip(*(arms.seeds[arm] for arm in ARMS), strict=True)
        if not one.diverged and not other.diverged
    ]
    if not both:
        return None
    found = over_seeds([one.loss for one, _ in both], [other.loss for _, other in both])
    return {
        "seeds": [one.run.seed for one, _ in both],
        "left": fmean(one.loss for one, _ in both),
        "right": fmean(other.loss for _, other in both),
        "differences": list(found.differences),
        "difference": _estimate(found.estimate),
        "wins": found.wins,
        "losses": found.losses,
        "sign": found.sign,
        "least": found.least,
    }


def _architectures(asked: Sequence[Asked]) -> list[str]:
    return sorted({cell.architecture for each in asked for cell in each.cells})


def _model(asked: Asked, architecture: str) -> Data:
    """How one model did under one architecture."""
    cells = [cell for cell in asked.cells if cell.architecture == architecture]
    right = sum(map(_is_right, cells))
    failed = [_failed_cells(asked, cell) for cell in cells]
    known = [count for count in failed if count is not None]
    lengths = sorted({cell.length for cell in cells})
    return {
        "name": asked.subject.name,
        "arm": asked.subject.arm,
        "seed": asked.subject.seed,
        "spec": asked.subject.spec,
        "digest": cells[0].model.digest if cells else "",
        "architecture": architecture,
        "cells": len(cells),
        "correct": right,
        "interval": list(wilson(right, len(cells))),
        "lengths": {
            str(n): [sum(_is_right(c) for c in cells if c.length == n), _count(cells, n)]
            for n in lengths
        },
        "iterations": _mean([cell.iterations for cell in cells]),
        "sub_calls": _mean([cell.usage.sub_calls for cell in cells]),
        "failed_code": _mean(known),
        "tokens": _mean([cell.usage.total for cell in cells]),
        "unmeasured": sum(cell.verdict in FAILED for cell in cells),
        "verdicts": dict(sorted(Counter(cell.verdict for cell in cells).items())),
        "ended_by": dict(sorted(Counter(cell.ended_by or "error" for cell in cells).items())),
    }


def _failed_cells(asked: Asked, cell: Record) -> int | None:
    """Code cells of its trajectory that failed; ``None`` where there is no trajectory."""
    trajectory = read_trajectory(asked.folder, cell)
    if trajectory is None:
        return None
    statuses = [c.result.status for turn in trajectory.turns for c in turn.cells]
    return sum(status not in ("ok", "final") for status in statuses)


def _items(asked: Sequence[Asked], architecture: str) -> list[Data]:
    """Each two sides that are compared, over items and seeds."""
    sides: dict[str, dict[object, Asked]] = {}
    for each in asked:
        sides.setdefault(each.subject.arm, {})[each.subject.seed] = each
    if all(len(sides.get(arm, ())) == 1 for arm in ARMS):  # the best of each: seeds may differ
        sides |= {arm: {BEST: next(iter(sides[arm].values()))} for arm in ARMS}
    wanted = [(BASE, NF4), *((base, arm) for base in (NF4, BASE) for arm in ARMS), ARMS]
    rows = []
    for left, right in wanted:
        pairs = _pairs(sides.get(left, {}), sides.get(right, {}), architecture)
        if pairs:
            found = over_items(pairs)
            rows.append(
                {"architecture": architecture, "left": left, "right": right, **_over(found)}
            )
    return rows


def _adjusted(rows: Sequence[Data]) -> list[Data]:
    """With `p_holm`: all comparisons of a report are one family."""
    ps = holm([row["p"] for row in rows])
    return [{**row, "p_holm": p} for row, p in zip(rows, ps, strict=True)]


def _pairs(
    left: Mapping[object, Asked], right: Mapping[object, Asked], architecture: str
) -> list[Pair]:
    """A base, which has no seed, stands beside each seed of the other side."""
    return [
        Pair(_item(cell), seed, _is_right(cell), _is_right(partner))
        for seed, other in right.items()
        if (one := left.get(seed) or left.get(None)) is not None
        for cell, partner in _same(one, other, architecture)
    ]


def _same(one: Asked, other: Asked, architecture: str) -> list[tuple[Record, Record]]:
    """Cells of both; `training.compare.bench` has seen to it that they are the same."""
    sides = [
        {_place(cell): cell for cell in each.cells if cell.architecture == architecture}
        for each in (one, other)
    ]
    return [(sides[0][place], sides[1][place]) for place in sides[0]]


def _place(cell: Record) -> tuple[object, ...]:
    return cell.task, cell.length, cell.unit, cell.depth, cell.sample, cell.draw, cell.seed


def _item(cell: Record) -> object:
    """Its document: several answers to one are not independent."""
    return cell.doc.sha256 if cell.doc else _place(cell)


def _over(found: OverItems) -> Data:
    return {
        "items": found.items,
        "seeds": found.seeds,
        "difference": _estimate(found.estimate),
        "wins": found.wins,
        "losses": found.losses,
        "p": found.p,
    }


def _is_right(cell: Record) -> bool:
    return cell.verdict == "correct"


def _count(cells: Sequence[Record], length: int) -> int:
    return sum(cell.length == length for cell in cells)


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _estimate(found: Estimate) -> list[float | None]:
    """Value, low, high."""
    return [_finite(value) for value in (found.value, found.low, found.high)]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
