"""How many documents it takes to see a difference, before they are asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from textwrap import fill
from typing import Final

from rich.table import Table

from rlm.bench import tasks
from rlm.bench.grid import LENGTHS, SAMPLES, SMOKE_TASKS
from rlm.bench.pairs import between_architectures
from rlm.bench.records import Record
from rlm.bench.report.summary import render
from rlm.bench.report.verdicts import chance
from rlm.bench.statistics import FINEST, detectable, mcnemar, samples_needed, wilson
from rlm.errors import UsageError
from rlm.visible import line

DISCORDANT: Final = (0.1, 0.2, 0.3, 0.5, 1.0)
"""Shares of discordant pairs to plan with where no pilot run says more."""

POWERS: Final = (0.8, 0.9)
ALPHA: Final = 0.05
WIDTH: Final = 80

_LEGEND: Final = (
    "Discordant is a document on which one side is right and the other is wrong. Only these tell "
    "two sides apart, and a difference of a given size stands out more among fewer of them. "
    "Power is the chance to see the difference (p up to 0.05 in an exact McNemar test) if it is "
    "there."
)


def table(
    mde: float,
    *,
    discordant: Sequence[float] = DISCORDANT,
    pilot: Sequence[Record] | None = None,
) -> str:
    """Documents needed to see a difference, and the least one that the default grid can see.

    Args:
        mde: minimal detectable effect: the difference to be seen, in points, 0.5 to 100.
        discordant: shares of discordant documents to plan with, 0 to 1.
        pilot: cells of `vanilla` and `rlm`; for each task, the share seen in them and the highest
            that is likely stand in place of `discordant`. Only pairs with two answers are looked
            at: what does not fit the window needs no experiment.

    Raises:
        UsageError: a difference or share that cannot be, or a pilot without pairs.
    """
    least = 100 * FINEST
    if not least <= mde <= 100:
        raise UsageError(
            f"{mde:g} points is no difference to plan for: choose {least:g} to 100, as 10"
        )
    documents = SAMPLES * len(tasks.get(SMOKE_TASKS[0]).depths)
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    found.add_column("discordant", no_wrap=True)
    for head in (*(f"power {power:.0%}" for power in POWERS), f"{documents} documents see"):
        found.add_column(head, justify="right", no_wrap=True)
    shares = [(f"{s:.0%}", s) for s in discordant] if pilot is None else _seen(pilot)
    for name, share in shares:
        found.add_row(name, *_needed(mde, share), _least(documents, share))
    head = f"documents at each length to see {mde:g} points of difference:"
    body = render(found, width=WIDTH, color=False)
    notes = (fill(text, WIDTH) for text in (_LEGEND, _family(documents)))
    return "\n\n".join([head, body, *notes])


def _needed(mde: float, share: float) -> list[str]:
    if mde > 100 * share:  # more than all of the discordant
        return ["cannot be"] * len(POWERS)
    return [
        f"{samples_needed(mde / 100, discordant=share, alpha=ALPHA, power=power):,}"
        for power in POWERS
    ]


def _least(documents: int, share: float) -> str:
    least = detectable(documents, discordant=share, alpha=ALPHA, power=POWERS[0])
    return "nothing" if least is None else f"{100 * least:.0f} points"


def _seen(pilot: Sequence[Record]) -> list[tuple[str, float]]:
    """Two shares for each task of a pilot run: the one seen, and the upper end of its interval."""
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for c in between_architectures(pilot):
        task = line(c.task)
        counts[task][0] += c.valid.wins + c.valid.losses
        counts[task][1] += c.valid.pairs
    shares = []
    for task, (discordant, pairs) in counts.items():
        if discordant:
            shares.append((f"{task}: {discordant} of {pairs}", discordant / pairs))
        if pairs:
            high = wilson(discordant, pairs)[1]
            shares.append((f"{task}: up to {high:.0%}", high))
    if not shares:
        raise UsageError(
            "the pilot run has no document that both vanilla and rlm answered: "
            "run both, at lengths that fit the model's window"
        )
    return shares


def _family(documents: int) -> str:
    """What Holm's adjustment leaves of the default grid."""
    comparisons = len(LENGTHS) * len(SMOKE_TASKS)
    fewest = next(n for n in count(1) if mcnemar(n, 0) * comparisons < ALPHA)
    best = chance(min(1.0, mcnemar(documents, 0) * comparisons))
    return (
        f"The default grid asks {documents} documents at a length. It makes {comparisons} "
        f"comparisons, for which p is adjusted (Holm): {documents} of {documents} won at a length "
        f"gives {best}. To tell two sides apart at one of them takes at least {fewest} documents "
        "won there, and none lost."
    )
