"""How far a session is: cells done and how, how many a minute, and how long the others will take.

Cells differ by a factor of a hundred, so the time left is not a share of their number. Cells of one
kind (architecture, task, length within a factor of two) take the median of those that were seen. A
kind that was not seen yet takes what the nearest one took, times what ``--rlm-plan`` predicts
between the two. Cells that the run has already are no work: they count as done when they are
shown, and neither into the rate nor into what a kind takes.
"""

from __future__ import annotations

import time
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rlm.bench.grid import CHARS_PER_TOKEN, Cell
from rlm.bench.records import FAILED, Verdict
from rlm.bench.report.plan import cost
from rlm.overflow import Overflow

LEAST: Final = 0.02
"""Seconds of a cell that asks no model: its document is made, its record written."""
LEAST_TOKENS: Final = 50
"""The same in prompt tokens."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Cells that should take about as long.

    Attributes:
        asks: they ask a model, as far as the plan knows.
        architecture: its name.
        task: its name.
        bits: of the document's length in characters.
    """

    asks: bool
    architecture: str
    task: str
    bits: int

    def distance(self, other: Kind) -> tuple[bool, bool, bool, int]:
        """What tells two kinds apart, the worst first."""
        return (
            self.asks != other.asks,
            self.architecture != other.architecture,
            self.task != other.task,
            abs(self.bits - other.bits),
        )


@dataclass(frozen=True, slots=True)
class Predictor:
    """What ``--rlm-plan`` would say of a cell.

    Attributes:
        timed: the plan knows seconds, not only tokens: the model is the embedded one.
        window: of the model in tokens, if it is known.
        overflow: what becomes of a document that does not fit.
    """

    timed: bool
    window: int | None
    overflow: Overflow = "refuse"

    def __call__(self, cell: Cell) -> tuple[Kind, float]:
        """Its kind, and what it takes: in seconds if `timed`, else in prompt tokens."""
        tokens = cell.chars // CHARS_PER_TOKEN
        tokens, seconds = cost(cell.architecture, tokens, self.window, self.overflow)
        kind = Kind(tokens > 0, cell.architecture, cell.task, cell.chars.bit_length())
        return kind, max(LEAST, seconds) if self.timed else float(max(LEAST_TOKENS, tokens))


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a session is.

    Attributes:
        done: cells that have a verdict, those of an earlier session included.
        cells: all of them.
        verdicts: of those done, how many of each.
        per_minute: cells that this session measured a minute; ``None`` before the first.
        seconds_left: until the last cell is done; ``None`` where nothing is known.
        is_cut_short: a bound of the session will be reached before that, and then it stops.
    """

    done: int
    cells: int
    verdicts: Mapping[Verdict, int]
    per_minute: float | None
    seconds_left: float | None
    is_cut_short: bool = False


class Progress:
    """Follows the cells of a session by their node ids.

    Args:
        cells: by node id.
        held: those that the run has already.
        predict: see `Predictor`.
        workers: processes that run cells at once.
        now: the clock, in seconds.
    """

    def __init__(
        self,
        cells: Mapping[str, Cell],
        held: Collection[Cell],
        predict: Predictor,
        *,
        workers: int = 1,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._predict, self._workers, self._now = predict, workers, now
        self._kinds: dict[str, Kind] = {}
        self._planned: dict[Kind, float] = {}
        self._held = {node for node, cell in cells.items() if cell in held}
        self._waiting: Counter[Kind] = Counter()
        for node, cell in cells.items():
            kind, planned = predict(cell)
            self._kinds[node] = kind
            self._planned.setdefault(kind, planned)
            if node not in self._held:
                self._waiting[kind] += 1
        self._open, self._running = set(cells), dict[str, float]()
        self._verdicts: dict[str, Verdict] = {}
        self._counts: Counter[Verdict] = Counter()
        self._seen: defaultdict[Kind, list[float]] = defaultdict(list)
        self._nearest: dict[Kind, Kind] = {}
        self._shown: list[float] = []
        self._measured, self._busy, self._showing = 0, 0.0, 0.0
        self._began: float | None = None

    @property
    def done(self) -> int:
        """Cells that have a verdict."""
        return len(self._verdicts)

    def started(self, node: str) -> None:
        """A cell begins."""
        if node not in self._open or node in self._running:
            return
        self._running[node] = now = self._now()
        self._began = now if self._began is None else self._began
        self._leave(node)

    def measured(self, node: str, verdict: Verdict) -> None:
        """A cell was run and has its verdict."""
        seconds = self._end(node)
        self._count(node, verdict)
        self._measured += 1
        if seconds is None or verdict in FAILED:  # what failed took no cell's time
            return
        kind = self._kinds[node]
        if kind not in self._seen:
            self._nearest.clear()
        insort(self._seen[kind], seconds)

    def shown(self, node: str, verdict: Verdict) -> None:
        """A cell that the run had already was shown."""
        if (seconds := self._end(node)) is not None:
            insort(self._shown, seconds)
            self._showing += seconds
        self._count(node, verdict)

    def left_out(self, node: str) -> None:
        """A cell will not be run in this session."""
        self._end(node)

    def standing(self, bound: float | None = None) -> Standing:
        """How far it is.

        Args:
            bound: seconds after which no further cell starts; ``None`` without a bound.
        """
        left = self._left()
        cut = bound is not None and (left is None or bound < left)
        worked = self._worked()
        return Standing(
            done=self.done,
            cells=len(self._kinds),
            verdicts=dict(self._counts),
            per_minute=60 * self._measured / worked if self._measured and worked > 0 else None,
            seconds_left=bound if cut else left,
            is_cut_short=cut,
        )

    def _leave(self, node: str) -> None:
        """It waits no longer."""
        self._open.discard(node)
        if node not in self._held:
            self._waiting[self._kinds[node]] -= 1

    def _end(self, node: str) -> float | None:
        """It runs no longer; the seconds that it took, ``None`` if it never began."""
        if node in self._open:
            self._leave(node)
        self._held.discard(node)
        began = self._running.pop(node, None)
        if began is None:
            return None
        seconds = self._now() - began
        self._busy += seconds
        return seconds

    def _count(self, node: str, verdict: Verdict) -> None:
        if node in self._verdicts:
            self._counts[self._verdicts[node]] -= 1
        self._verdicts[node] = verdict
        self._counts[verdict] += 1

    def _worked(self) -> float:
        """Seconds since the first cell began, but for those that went into showing old ones."""
        if self._began is None:
            return 0.0
        return self._now() - self._began - self._showing / self._workers

    def _left(self) -> float | None:
        """Seconds until the last cell is done; the longest of them can be shared by nobody."""
        work = _median(self._shown) * len(self._held) if self._shown else 0.0
        now, longest = self._now(), 0.0
        running = ((node, now - began) for node, began in self._running.items())
        for kind, count, spent in [
            *((kind, count, 0.0) for kind, count in self._waiting.items() if count),
            *((self._kinds[node], 1, spent) for node, spent in running if node not in self._held),
        ]:
            expected = self._expected(kind)
            if expected is None:
                return None
            one = max(0.0, expected - spent)
            work, longest = work + count * one, max(longest, one)
        return max(work / self._at_once(now), longest)

    def _expected(self, kind: Kind) -> float | None:
        """Seconds of one cell; ``None`` before anything is known."""
        if kind in self._seen:
            return _median(self._seen[kind])
        if not self._seen:
            return self._planned[kind] if self._predict.timed else None
        if kind not in self._nearest:
            self._nearest[kind] = min(self._seen, key=kind.distance)
        nearest = self._nearest[kind]
        return _median(self._seen[nearest]) * self._planned[kind] / self._planned[nearest]

    def _at_once(self, now: float) -> float:
        """Cells that run at once, on average: fewer than there are workers, for they wait too."""
        elapsed = 0.0 if self._began is None else now - self._began
        busy = self._busy + sum(now - began for began in self._running.values())
        if not elapsed or not busy:
            return float(self._workers)
        return min(float(self._workers), busy / elapsed)


def _median(ordered: Sequence[float]) -> float:
    """Of numbers in order; looked up at each turn, so nothing is sorted again."""
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
