"""Someone else's repository: a task and cells of its own among its ordinary tests."""

from __future__ import annotations

import json

import pytest

from rlm.bench import records
from tests.rlm.bench.plugin_session import BOTH, Session
from tests.servers.reader import ReaderServer

CONFTEST = """
import pytest
from rlm.bench import tasks
from rlm.bench.scoring import score_answer
from rlm.bench.tasks import Item, Span

class Mine:
    name = "mine"
    depths = (0, 100)

    def generate(self, chars, depth, seed, *, split="eval"):
        gold = str(10_000 + seed % 90_000)
        start = (chars - 5) * depth // 100
        text = "." * start + gold + "." * (chars - 5 - start)
        spans = (Span(start, start + 5),)
        return Item("mine", text, "Which number?", gold, spans, depth / 100, split)

    def score(self, item, text):
        return score_answer(item.gold, text)

tasks.register(Mine())

@pytest.fixture
def theirs():
    return 1
"""
MINE = """
import pytest

@pytest.mark.cells("mine")
def test_mine(cell):
    cell.run()

def test_beside(theirs):
    assert theirs == 1
"""
ORDINARY = """
import pytest

@pytest.mark.parametrize("cell", [None, "A1"], ids=["empty", "A1"])
def test_sheet(cell):
    assert cell in (None, "A1")

def test_broken(theirs):
    assert theirs == 2

@pytest.mark.skip(reason="later")
def test_later():
    pass
"""
OPTIONS = ("--rlm-lengths=1k", "--rlm-samples=1", "--rlm-run=a")


@pytest.fixture
def session(pytester: pytest.Pytester, server: ReaderServer) -> Session:
    """A repository with four cells and five tests that are none, one of which fails."""
    session = Session(pytester, server)
    (session.path / "test_cells.py").unlink()
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_mine=MINE, test_ordinary=ORDINARY)
    return session


@BOTH
def test_cells_and_ordinary_tests_run_side_by_side(
    session: Session, workers: tuple[str, ...]
) -> None:
    result = session.run(*OPTIONS, *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["run: runs/a: 0 done, 4 to do", "mine 1k *", "FAILED test_ordinary.py::test_broken*"]
    )
    outcomes = {"passed": 3, "failed": 1, "skipped": 1, "correct": 4}
    assert result.parseoutcomes() == outcomes
    folder = session.path / "runs" / "a"
    assert [(r.task, r.verdict) for r in records.load(folder)] == [("mine", "correct")] * 4
    rows = [json.loads(row) for row in (folder / records.RESULTS).read_text().splitlines()]
    assert [row["row"] for row in rows] == ["run", *["cell"] * 4]
    assert rows[0]["cells"] == 4


@BOTH
def test_cells_continue_and_ordinary_tests_run_anew(
    session: Session, server: ReaderServer, workers: tuple[str, ...]
) -> None:
    first = session.run(*OPTIONS, "-k", "d100 or beside", *workers)
    assert {"passed": 1, "correct": 2}.items() <= first.parseoutcomes().items()
    before = records.load(session.path / "runs" / "a")
    asked = len(server.bodies("/v1/chat/completions"))
    result = session.run(*OPTIONS, "test_mine.py", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["run: runs/a: 2 done, 2 to do"])
    assert {"passed": 1, "correct": 4}.items() <= result.parseoutcomes().items()
    after = records.load(session.path / "runs" / "a")
    new = [record for record in after if record not in before]
    assert len(after) - len(new) == len(before) == len(new) == 2
    calls = sum(record.usage.calls for record in new)
    assert len(server.bodies("/v1/chat/completions")) == asked + calls


@BOTH
@pytest.mark.parametrize("choice", ["test_ordinary.py", "-kbeside"])
def test_ordinary_tests_alone_start_nothing(
    session: Session, server: ReaderServer, choice: str, workers: tuple[str, ...]
) -> None:
    asked = len(server.asked)
    result = session.run(*OPTIONS, choice, *workers)
    assert result.parseoutcomes()["passed"] >= 1
    out = result.stdout.str()
    assert not any(word in out for word in ("model:", "sandbox:", "run:", "records:"))
    assert not (session.path / "runs").exists()
    assert len(server.asked) == asked


def test_help_has_the_options_in_a_group_of_their_own(session: Session) -> None:
    lines = session.look("--help").stdout.lines
    group = lines[lines.index("benchmark cells (rlm-bench):") + 1 :]
    assert group[0].strip().startswith("--rlm-")
    assert not [line for line in lines[: -len(group)] if "--rlm-" in line]
