"""Gates: what must hold for a run to pass, such as ``rlm@128k>=0.9``.

A wrong answer is a result and fails nothing by itself; a gate makes a failure of too many. None
passes for lack of data.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

from rlm import architectures
from rlm.bench.grid import Unit, known, label, parse_lengths
from rlm.bench.pairs import Comparison, adjusted, between_runs, is_cut_answer
from rlm.bench.records import VERDICTS, Record
from rlm.bench.statistics import holm, mcnemar, wilson
from rlm.errors import UsageError

ALPHA: Final = 0.05
REGRESSION: Final = "regression"
MORE: Final = "raise --rlm-samples, or compare fewer lengths, tasks and architectures"

_GATE: Final = re.compile(
    r"(?:(?P<task>\S+):)?(?P<name>\w+)(?:@(?P<length>\w+))?\s*(?P<sign>>=?)\s*(?P<share>\S+)"
)
_SHARE: Final = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(%?)")

Place = tuple[str, Unit, int, str]
"""A line of the table: task, unit, length, architecture."""

Change = Literal["better", "worse", "none", "too few"]
"""What a comparison shows; ``too few`` could have shown nothing, whatever had come out."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A bound on the share of correct cells, for each line of the table that it names.

    Attributes:
        text: as it was given.
        task: ``None`` is each one.
        architecture: its name.
        length: in the unit of the cells; ``None`` is each one.
        share: of the cells, 0 to 1.
        is_strict: that share itself is too little.
    """

    text: str
    task: str | None
    architecture: str
    length: int | None
    share: Fraction
    is_strict: bool

    def names(self, place: Place) -> bool:
        """Whether it speaks of a line of the table."""
        task, _, length, architecture = place
        return (
            self.architecture == architecture
            and self.task in (None, task)
            and self.length in (None, length)
        )

    def holds(self, correct: int, cells: int) -> bool:
        """Whether so many correct cells are enough."""
        share = Fraction(correct, cells)
        return share > self.share if self.is_strict else share >= self.share


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a gate.

    Attributes:
        gate: as it was given, or ``regression``.
        passed: whether it holds.
        text: one line that says why.
    """

    gate: str
    passed: bool
    text: str


def parse_gate(text: str) -> Gate:
    """``"[TASK:]ARCHITECTURE[@LENGTH]>=SHARE"`` → a gate; ``>`` is strict.

    A task or a length left out is each one, and each must hold by itself. A share is a number from
    0 to 1 or a percentage: ``niah:rlm@128k>=0.9`` and ``rlm>95%`` are gates.

    Raises:
        UsageError: it is none.
    """
    match = _GATE.fullmatch(text.strip())
    if not match:
        raise UsageError(
            f"{text!r} is no gate: write [TASK:]ARCHITECTURE[@LENGTH]>=SHARE in quotes (a shell "
            'takes > for itself), such as "rlm@128k>=0.9" or "niah:vanilla>=95%"'
        )
    share, is_strict = _share(match["share"], text), match["sign"] == ">"
    if is_strict and share == 1:
        raise UsageError(f"{text!r} can never hold: write >= for all cells")
    return Gate(
        text=text.strip(),
        task=match["task"],
        architecture=known(match["name"], "architecture", architectures.names()),
        length=parse_lengths(match["length"])[0] if match["length"] else None,
        share=share,
        is_strict=is_strict,
    )


def judge(gates: Sequence[Gate], records: Iterable[Record]) -> list[Finding]:
    """A finding for each gate and each line of the table that it names.

    All cells count, and what is not correct is not, whatever the reason. Nor is a right answer to
    a document that was cut on purpose: it does not show that one of this length was read. A gate
    that names no line fails.
    """
    lines: defaultdict[Place, list[Record]] = defaultdict(list)
    for r in records:
        lines[r.task, r.unit, r.length, r.architecture].append(r)
    findings: list[Finding] = []
    for gate in gates:
        named = [place for place in lines if gate.names(place)]
        findings += [_judged(gate, place, lines[place]) for place in named]
        if not named:
            there = ", ".join(sorted(map(_named, lines))) or "no cells at all"
            text = f"gate {gate.text} fails: no cell of this run is meant by it; there are: {there}"
            findings.append(Finding(gate.text, False, text))
    return findings


def regressions(
    before: Sequence[Record], after: Sequence[Record], *, alpha: float = ALPHA
) -> list[Finding]:
    """A finding for each task, length and architecture that became worse, else a single one.

    That one passes, unless no cell has a partner, or so few that nothing could have been found.

    Args:
        before: cells of the earlier run.
        after: cells of the later one.
        alpha: adjusted p-values below it are a difference.
    """
    compared = between_runs(before, after)
    found = changes(compared, alpha=alpha)
    worse = [Finding(REGRESSION, False, _worse(c)) for c, change in found if change == "worse"]
    if worse:
        return worse
    few = sum(change == "too few" for _, change in found)
    if not found:
        told = "fails: no cell has a partner in the earlier run"
    elif few == len(found):
        told = f"fails: {max(c.documents for c, _ in found)} documents can show none: {MORE}"
    else:
        told = f"holds: none seen in {sum(c.pairs for c, _ in found)} pairs of cells"
        told += f"; {few} of {len(found)} comparisons are too small to show one" if few else ""
    notes = filter(None, (f"gate {REGRESSION} {told}", unpaired(compared)))
    return [Finding(REGRESSION, bool(found) and few < len(found), "; ".join(notes))]


def changes(
    comparisons: Iterable[Comparison], *, alpha: float = ALPHA
) -> list[tuple[Comparison, Change]]:
    """What each comparison of two runs shows; those with pairs are the family of the tests.

    Args:
        comparisons: of `rlm.bench.pairs.between_runs`.
        alpha: adjusted p-values below it are a difference.
    """
    found = adjusted(c for c in comparisons if c.pairs)
    clearest = holm([mcnemar(0, c.documents) for c in found])
    return [(c, _change(c, p, alpha)) for c, p in zip(found, clearest, strict=True)]


def unpaired(comparisons: Iterable[Comparison]) -> str:
    """How many cells are left out for want of a partner; empty if all have one."""
    cells = sum(c.unmatched for c in comparisons)
    who = "1 cell has" if cells == 1 else f"{cells} cells have"
    return f"{who} no partner in the other run on the same document" if cells else ""


def _share(given: str, text: str) -> Fraction:
    """Exactly what was written: 9 of 10 cells are 0.9, which is no binary number."""
    match = _SHARE.fullmatch(given)
    share = Fraction(match[1]) / (100 if match[2] else 1) if match else None
    if share is None or share > 1:
        raise UsageError(f"{given!r} in {text!r} is no share: write 0 to 1, or a percentage as 90%")
    return share


def _judged(gate: Gate, place: Place, found: Sequence[Record]) -> Finding:
    counts = Counter("cut" if is_cut_answer(r) else r.verdict for r in found)
    correct, cells = counts["correct"], len(found)
    low, high = wilson(correct, cells)
    others = ", ".join(f"{counts[v]} {v}" for v in (*VERDICTS[1:], "cut") if counts[v])
    passed = gate.holds(correct, cells)
    text = (
        f"gate {gate.text} {'holds' if passed else 'fails'}: {_named(place)}, {correct} of {cells} "
        f"correct, {correct / cells:.3f} [{low:.2f}, {high:.2f}]{others and f' ({others})'}"
    )
    return Finding(gate.text, passed, text)


def _named(place: Place) -> str:
    task, unit, length, architecture = place
    return f"{task} {label(length)}{'' if unit == 'tokens' else ' chars'} {architecture}"


def _change(comparison: Comparison, clearest: float, alpha: float) -> Change:
    """`clearest` is the adjusted p-value if all documents, here and elsewhere, had gone one way."""
    if comparison.p_holm < alpha:
        return "worse" if comparison.difference.value < 0 else "better"
    return "none" if clearest < alpha else "too few"


def _worse(comparison: Comparison) -> str:
    c = comparison
    place = _named((c.task, c.unit, c.length, c.architecture))
    return (
        f"gate {REGRESSION} fails: {place} became worse, {c.left_side.correct} to "
        f"{c.right_side.correct} of {c.pairs} correct, p = {c.p_holm:.2g} (Holm)"
    )
