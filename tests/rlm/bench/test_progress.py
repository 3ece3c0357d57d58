"""How far a session is, and what is said of it, on a clock of the test's own."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from rlm.bench.grid import Cell, Grid
from rlm.bench.progress import Predictor, Progress, Standing
from rlm.bench.report import progress

EMBEDDED = Predictor(timed=True, window=4096)
OTHER = Predictor(timed=False, window=131_072)
LETTERS = {"correct": "C", "wrong": "W", "truncated": "T", "timeout": "O", "error": "E"}
NOON = datetime(2026, 11, 21, 12, 0)


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def cells(architecture: str, length: int, samples: int, task: str = "niah") -> dict[str, Cell]:
    made = (Cell(task, length, 50, sample, architecture) for sample in range(samples))
    return {f"{cell.task}-{cell.id}": cell for cell in made}


def run(followed: Progress, clock: Clock, nodes: list[str], seconds: float) -> None:
    """Cells one after another."""
    for node in nodes:
        followed.started(node)
        clock.now += seconds
        followed.measured(node, "correct")


def left(followed: Progress) -> float:
    found = followed.standing().seconds_left
    assert found is not None
    return found


def test_the_time_left_is_that_of_the_cells_left_and_no_share_of_their_number(clock: Clock) -> None:
    """Guards a run that says "a minute" when all quick cells are done and the slow ones are not."""
    quick, slow = cells("vanilla", 1024, 100), cells("vanilla", 65536, 10)
    followed = Progress(quick | slow, (), OTHER, now=clock)
    run(followed, clock, list(quick), 1)
    run(followed, clock, list(slow)[:1], 100)
    assert left(followed) == pytest.approx(900)
    assert followed.standing().per_minute == pytest.approx(101 / 200 * 60)


def test_an_outlier_does_not_move_the_estimate(clock: Clock) -> None:
    some = cells("vanilla", 1024, 10)
    followed = Progress(some, (), OTHER, now=clock)
    run(followed, clock, list(some)[:1], 500)  # a model that was loaded first
    run(followed, clock, list(some)[1:6], 2)
    assert left(followed) == pytest.approx(4 * 2)


def test_what_was_not_seen_takes_what_the_plan_says_beside_the_nearest(clock: Clock) -> None:
    """From what a cell of 1k took: one of 16k reads that much more, and a loop reads no more."""
    seen = cells("vanilla", 1024, 1) | cells("rlm", 1024, 1)
    for unseen, factor in (
        (cells("vanilla", 16384, 1), (16384 + 100) / (1024 + 100)),
        (cells("rlm", 16384, 1), 1),
    ):
        followed = Progress(seen | unseen, (), OTHER, now=clock)
        for node, seconds in zip(seen, (2, 30), strict=True):
            run(followed, clock, [node], seconds)
        architecture = next(iter(unseen.values())).architecture
        took = 2 if architecture == "vanilla" else 30
        assert left(followed) == pytest.approx(took * factor)


def test_the_nearest_is_of_the_same_task_and_length_where_there_is_one(clock: Clock) -> None:
    near, far = cells("rlm", 8192, 1, "niah"), cells("rlm", 65536, 1, "long_doc_qa")
    unseen = cells("rlm", 32768, 1, "niah")
    followed = Progress(near | far | unseen, (), OTHER, now=clock)
    run(followed, clock, list(far), 70)
    assert left(followed) == pytest.approx(70 + 70)
    run(followed, clock, list(near), 5)
    assert left(followed) == pytest.approx(5)


def test_before_the_first_cell_only_the_embedded_model_has_a_plan(clock: Clock) -> None:
    some = cells("rlm", 1024, 10)
    assert Progress(some, (), OTHER, now=clock).standing().seconds_left is None
    assert left(Progress(some, (), EMBEDDED, now=clock)) == pytest.approx(10 * 1.2)


def test_what_does_not_fit_the_window_takes_no_time(clock: Clock) -> None:
    fits, refused = cells("vanilla", 1024, 2), cells("vanilla", 65536, 100)
    small = Predictor(timed=False, window=4096)
    followed = Progress(fits | refused, (), small, now=clock)
    run(followed, clock, list(fits)[:1], 10)
    assert left(followed) < 10 + 100  # not a hundred times more than one that fits
    run(followed, clock, list(refused)[:1], 0.01)
    assert left(followed) == pytest.approx(10 + 99 * 0.01)


def test_cells_of_an_earlier_session_are_no_work(clock: Clock) -> None:
    """Guards the rate of a run that continues: a thousand cells are shown in seconds."""
    held, new = cells("rlm", 1024, 1000), cells("rlm", 2048, 10)
    followed = Progress(held | new, set(held.values()), OTHER, now=clock)
    for node in held:
        followed.started(node)
        clock.now += 0.01
        followed.shown(node, "wrong")
    assert followed.standing().seconds_left is None  # they say nothing of the others
    assert followed.standing().per_minute is None
    run(followed, clock, list(new)[:5], 30)
    told = followed.standing()
    assert (told.done, told.cells) == (1005, 1010)
    assert told.verdicts == {"wrong": 1000, "correct": 5}
    assert told.per_minute == pytest.approx(2)
    assert told.seconds_left == pytest.approx(5 * 30)


def test_a_cell_that_is_being_shown_is_no_work_either(clock: Clock) -> None:
    some = cells("rlm", 1024, 2)
    followed = Progress(some, set(some.values()), EMBEDDED, now=clock)
    followed.started(next(iter(some)))
    assert left(followed) == 0


def test_a_cell_that_was_thought_done_and_runs_is_work(clock: Clock) -> None:
    some = cells("rlm", 1024, 3)
    followed = Progress(some, set(some.values()), OTHER, now=clock)
    run(followed, clock, list(some)[:1], 7)
    assert followed.standing().per_minute == pytest.approx(60 / 7)
    assert left(followed) == 0


def test_workers_share_the_work(clock: Clock) -> None:
    """While the first cells of all workers still run, none of which has ended."""
    some = cells("rlm", 1024, 9)
    followed = Progress(some, (), OTHER, workers=4, now=clock)
    run(followed, clock, list(some)[:1], 100)
    for node in list(some)[1:5]:
        followed.started(node)
    clock.now += 50
    # Four cells half done and four to begin, at three cells at a time so far.
    assert left(followed) == pytest.approx((4 * 50 + 4 * 100) / (300 / 150))


def test_the_last_cell_is_not_shared(clock: Clock) -> None:
    """Guards an end that is told four times too early while three of four workers have no work."""
    some = cells("rlm", 1024, 5)
    followed = Progress(some, (), OTHER, workers=4, now=clock)
    for node in list(some)[:4]:
        followed.started(node)
    clock.now += 100
    for node in list(some)[:4]:
        followed.measured(node, "correct")
    assert left(followed) == pytest.approx(100)
    followed.started(list(some)[4])
    clock.now += 30
    assert left(followed) == pytest.approx(70)


def test_waiting_between_cells_is_part_of_the_time_left(clock: Clock) -> None:
    some = cells("rlm", 1024, 20)
    followed = Progress(some, (), OTHER, now=clock)
    for node in list(some)[:10]:
        run(followed, clock, [node], 1)
        clock.now += 1
    assert left(followed) == pytest.approx(20)


def test_a_cell_that_takes_longer_than_expected_does_not_run_backwards(clock: Clock) -> None:
    some = cells("rlm", 1024, 2)
    followed = Progress(some, (), OTHER, now=clock)
    run(followed, clock, list(some)[:1], 10)
    followed.started(list(some)[1])
    clock.now += 1000
    assert left(followed) == 0


def test_what_failed_says_nothing_of_how_long_a_cell_takes(clock: Clock) -> None:
    """Guards the estimate after a server that was away for a while refused at once."""
    some = cells("rlm", 1024, 10)
    followed = Progress(some, (), OTHER, now=clock)
    for node in list(some)[:5]:
        followed.started(node)
        followed.measured(node, "error")
    assert followed.standing().seconds_left is None
    run(followed, clock, list(some)[5:6], 20)
    assert left(followed) == pytest.approx(4 * 20)
    assert followed.standing().verdicts == {"error": 5, "correct": 1}


def test_a_cell_that_runs_again_counts_once_and_with_its_last_verdict(clock: Clock) -> None:
    some = cells("rlm", 1024, 2)
    followed = Progress(some, (), OTHER, now=clock)
    run(followed, clock, list(some)[:1], 3)
    followed.started(next(iter(some)))
    followed.measured(next(iter(some)), "wrong")
    told = followed.standing()
    assert told.done == 1
    assert {verdict: n for verdict, n in told.verdicts.items() if n} == {"wrong": 1}
    assert told.seconds_left == pytest.approx(3)


def test_cells_that_are_left_out_are_not_waited_for(clock: Clock) -> None:
    some = cells("rlm", 1024, 4)
    followed = Progress(some, (), OTHER, now=clock)
    run(followed, clock, list(some)[:1], 10)
    for node in list(some)[1:3]:
        followed.started(node)
        followed.left_out(node)
    assert left(followed) == pytest.approx(10)
    assert followed.standing().done == 1


@pytest.mark.parametrize(("bound", "expected"), [(60.0, (60.0, True)), (600.0, (90.0, False))])
def test_a_bound_that_comes_first_is_the_end(
    clock: Clock, bound: float, expected: tuple[float, bool]
) -> None:
    some = cells("rlm", 1024, 10)
    followed = Progress(some, (), OTHER, now=clock)
    run(followed, clock, list(some)[:1], 10)
    told = followed.standing(bound)
    assert (told.seconds_left, told.is_cut_short) == (pytest.approx(expected[0]), expected[1])


def test_a_grid_whose_cells_differ_by_a_hundred_is_estimated_from_its_first_quarter(
    clock: Clock,
) -> None:
    """Seconds grow with what is read; the plan and the order of a real run do the rest."""
    grid = Grid(lengths=[1024 * 2**i for i in range(7)], samples=5, depths=(50,))
    all_cells = {
        f"{cell.task}-{cell.id}": cell
        for task in ("niah", "long_doc_qa")
        for cell in grid.cells(task, (50,))
    }
    nodes = list(all_cells)

    def seconds(cell: Cell) -> float:
        return cell.length / 500 if cell.architecture == "vanilla" else 20

    followed = Progress(all_cells, (), OTHER, now=clock)
    for node in nodes[: len(nodes) // 4]:
        run(followed, clock, [node], seconds(all_cells[node]))
    truth = sum(seconds(all_cells[node]) for node in nodes[len(nodes) // 4 :])
    by_number = clock.now * 3
    assert left(followed) == pytest.approx(truth, rel=0.1)
    assert by_number < truth / 2  # what a plain count of cells would have said


STANDING = Standing(
    done=34,
    cells=144,
    verdicts={"correct": 20, "wrong": 3, "truncated": 10, "error": 1},
    per_minute=12.34,
    seconds_left=42 * 60,
)


def shown(width: int, standing: Standing = STANDING) -> str:
    parts = progress.bar(standing, width=width, now=NOON, letters=LETTERS)
    return "".join(text for text, _ in parts)


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (
            110,
            "[######----------------------] 34/144 cells, 12/min, ends ~12:42 | "
            "20 correct, 3 wrong, 10 truncated, 1 error",
        ),
        (
            78,
            "34/144 cells, 12/min, ends ~12:42 | 20 correct, 3 wrong, 10 truncated, 1 error",
        ),
        (60, "[#-------] 34/144 cells, 12/min, ends ~12:42 | C20 W3 T10 E1"),
        (43, "34/144, 12/min, ends ~12:42 | C20 W3 T10 E1"),
        (39, "34/144, ends ~12:42 | C20 W3 T10 E1"),
        (20, "34/144, ends ~12:42"),
        (12, "34/144"),
        (3, "34/"),
        (0, ""),
    ],
)
def test_the_more_room_the_more_is_said(width: int, text: str) -> None:
    assert shown(width) == text


def test_it_never_is_wider_than_the_room() -> None:
    for width in range(200):
        for standing in (STANDING, Standing(0, 9, {}, None, None), Standing(9, 9, {}, 1, 0)):
            assert len(shown(width, standing)) <= width


def test_verdicts_keep_their_colours() -> None:
    for width in (110, 50):
        parts = progress.bar(STANDING, width=width, now=NOON, letters=LETTERS)
        coloured = {verdict: text for text, verdict in parts if verdict}
        assert list(coloured) == ["correct", "wrong", "truncated", "error"]
        assert "20" in coloured["correct"]


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (timedelta(hours=2), "ends ~14:00"),
        (timedelta(hours=13), "ends ~Sun 01:00"),
        (timedelta(days=10), "ends ~01 Dec"),
    ],
)
def test_the_end_is_a_time_on_the_clock(left: timedelta, text: str) -> None:
    standing = Standing(1, 2, {"correct": 1}, 1, left.total_seconds())
    assert text in shown(100, standing)


def test_a_bound_is_told_as_one() -> None:
    standing = Standing(1, 2, {"correct": 1}, 0.5, 600, is_cut_short=True)
    assert ", 0.5/min, stops ~12:10 |" in shown(100, standing)
    assert progress.line(standing).endswith(", about 10 min until the bound: 1 correct")


def test_a_line_is_a_sentence() -> None:
    assert progress.line(STANDING) == (
        "rlm-bench: 34 of 144 cells (24%), 12 a minute, about 42 min left: "
        "20 correct, 3 wrong, 10 truncated, 1 error"
    )
    assert progress.line(Standing(0, 9, {}, None, None)) == "rlm-bench: 0 of 9 cells (0%)"
