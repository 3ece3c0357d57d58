"""A person's own data as cells, in sessions of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlm.bench import records
from tests.rlm.bench.plugin_session import BOTH, Session

OWN = """
import pytest

@pytest.mark.cells("own")
def test_own(cell):
    cell.run()
"""


def line(number: str, query: str = "Which number?") -> str:
    return json.dumps({"context": f"The number is {number}.", "query": query, "answer": number})


@pytest.fixture
def data(session: Session) -> Path:
    session.pytester.makepyfile(test_mine=OWN)
    path = session.path / "data.jsonl"
    path.write_text("\n".join([line("12345"), "{broken", line("54321")]) + "\n")
    return path


@BOTH
def test_good_lines_become_cells_and_bad_ones_are_told(
    session: Session, data: Path, workers: tuple[str, ...]
) -> None:
    result = session.run(f"--rlm-file={data}", "--rlm-run=a", "-v", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines_random(
        [
            "run: runs/a: 0 done, 4 to do",
            "data.jsonl:2: no JSON*",
            "*test_own*L1k-s1-rlm*",
            "*L1k-s3-vanilla*",
        ]
    )
    assert "test_niah" not in result.stdout.str()
    found = records.load(session.path / "runs" / "a")
    assert {(r.task, r.sample, r.verdict) for r in found} == {
        ("own-data", 1, "correct"),
        ("own-data", 3, "correct"),
    }
    header = json.loads((session.path / "runs/a/results.jsonl").read_text().splitlines()[0])
    assert header["file"]["path"] == str(data)
    assert len(header["file"]["sha256"]) == 64


@BOTH
def test_a_run_continues_where_the_data_is_the_same(
    session: Session, data: Path, workers: tuple[str, ...]
) -> None:
    arguments = (f"--rlm-file={data}", "--rlm-run=a", "--rlm-arch=vanilla", *workers)
    session.run(*arguments)
    data.write_text("\n".join([line("12345"), "", line("54321", "Say it?"), line("11111")]))
    result = session.run(*arguments, "-v")
    assert result.ret == 0
    found = records.load(session.path / "runs" / "a")
    assert sorted((r.sample, r.question) for r in found) == [
        (1, "Which number?"),
        (3, "Say it?"),
        (3, "Which number?"),
        (4, "Which number?"),
    ]
    assert result.stdout.str().count("CORRECT (cached)") == 1


@pytest.mark.parametrize(
    ("chosen", "niah"), [("own", 0), ("own-data", 0), ("own,niah", 2), ("all", 2)]
)
def test_tasks_choose_own_data_beside_others(
    session: Session, data: Path, chosen: str, niah: int
) -> None:
    few = ("--rlm-lengths=1k", "--rlm-depths=50", "--rlm-samples=1", "--collect-only", "-q")
    result = session.run(f"--rlm-file={data}", f"--rlm-tasks={chosen}", *few)
    assert result.ret == 0
    assert result.stdout.str().count("test_own[") == 4
    assert result.stdout.str().count("test_niah[") == (
        2 if "niah" in chosen or chosen == "all" else 0
    )


def test_without_a_file_there_are_no_such_cells(session: Session, data: Path) -> None:
    few = ("--rlm-lengths=1k", "--rlm-depths=50", "--rlm-samples=1", "--collect-only", "-q")
    result = session.look(*few)
    assert "test_own[" not in result.stdout.str()
    assert "test_niah[" in result.stdout.str()


def test_a_file_without_a_good_line_is_a_usage_error(session: Session, data: Path) -> None:
    data.write_text("{broken\n")
    result = session.look(f"--rlm-file={data}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--rlm-file*"])


def test_a_file_that_is_not_there_is_a_usage_error(session: Session) -> None:
    result = session.look("--rlm-file=nowhere.jsonl")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*there is no file 'nowhere.jsonl'*"])
