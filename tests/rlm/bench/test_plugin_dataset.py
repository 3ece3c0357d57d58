"""Published sets as cells, in sessions of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlm.bench import datasets, records
from rlm.bench.verify import verify
from tests.rlm.bench import published
from tests.rlm.bench.plugin_session import BOTH, Session

GIVEN = """
import pytest

@pytest.mark.cells("dataset")
def test_dataset(cell):
    cell.run()

@pytest.mark.cells("own")
def test_own(cell):
    cell.run()
"""


@pytest.fixture(autouse=True)
def module(session: Session) -> None:
    session.pytester.makepyfile(test_given=GIVEN)


@pytest.fixture
def ruler(session: Session) -> Path:
    """A folder of RULER's with two tasks, and a row that is no good."""
    folder = session.path / "ruler"
    many = [published.niah("12345"), {"input": 1}, published.niah("54321")]
    published.write(folder / "niah_single_1" / "validation.jsonl", *many)
    published.write(folder / "qa_1" / "validation.jsonl", published.qa())
    return folder


def made(folder: Path, name: str) -> Path:
    """A small file of a published set."""
    match name:
        case "ruler":
            return published.write(folder / "niah_single_1.jsonl", published.niah("12345"))
        case "longbench-v2":
            return published.write(folder / "data.json", published.choice())
        case "oolong":
            rows = published.oolong("[3]", "NUMERIC"), published.real("84")
            return published.write(folder / "rows.parquet", *rows)
    return published.write(folder / "rows.parquet", published.mrcr())


@pytest.mark.parametrize("name", datasets.names())
def test_a_set_runs_and_its_run_is_verified(session: Session, name: str) -> None:
    path = made(session.path / "data", name)
    result = session.run(
        f"--rlm-dataset={name}", f"--rlm-data={path}", "--rlm-arch=vanilla,grep", "--rlm-run=a"
    )
    assert result.ret == 0
    run = session.path / "runs" / "a"
    found = records.load(run)
    assert len(found) == (4 if name == "oolong" else 2)
    assert {r.task.startswith(name) for r in found} == {True}
    assert {r.verdict for r in found} <= {"correct", "wrong"}
    assert all(r.scores for r in found)
    report = verify(run)
    assert (report.mismatches, report.rows) == ((), len(found))
    header = json.loads((run / "results.jsonl").read_text().splitlines()[0])
    assert header["file"] == {
        "path": str(path),
        "sha256": datasets.load(name, path)[0].sha256,
        "dataset": name,
    }


@BOTH
def test_each_task_of_a_folder_has_cells_and_bad_rows_are_told(
    session: Session, ruler: Path, workers: tuple[str, ...]
) -> None:
    arguments = ("--rlm-dataset=ruler", f"--rlm-data={ruler}", "--rlm-run=a", "-v", *workers)
    result = session.run(*arguments, "--rlm-arch=vanilla,oracle")
    result.stdout.fnmatch_lines_random(
        [
            "run: runs/a: 0 done, 6 to do",
            f"ruler-niah_single_1: 2 lines of {ruler}, 1 left out",
            "validation.jsonl:2: no field 'outputs'*",
            f"ruler-qa_1: 1 lines of {ruler}",
            "*test_dataset?ruler-niah_single_1-L1k-s3-oracle*",
            "*test_dataset?ruler-qa_1-L1k-s1-vanilla*",
        ]
    )
    found = {
        (r.task, r.sample, r.architecture): r.verdict
        for r in records.load(session.path / "runs" / "a")
    }
    assert found["ruler-niah_single_1", 3, "oracle"] == "correct"
    assert found["ruler-qa_1", 1, "vanilla"] == "wrong"
    assert found["ruler-qa_1", 1, "oracle"] == "error"  # nobody says where the evidence stands


def test_a_run_continues_and_a_row_that_changed_runs_again(session: Session, ruler: Path) -> None:
    arguments = ("--rlm-dataset=ruler", f"--rlm-data={ruler}", "--rlm-arch=vanilla", "--rlm-run=a")
    session.run(*arguments)
    published.write(ruler / "qa_1" / "validation.jsonl", published.qa(), published.qa())
    rows = [published.niah("12345"), published.niah("11111"), published.niah("22222")]
    published.write(ruler / "niah_single_1" / "validation.jsonl", *rows)
    result = session.run(*arguments, "-v")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["run: runs/a: 2 done, 3 to do"])
    assert result.stdout.str().count("(cached)") == 2
    found = verify(session.path / "runs" / "a").mismatches
    assert any(text.text.startswith("gold: recorded '54321'") for text in found)


@pytest.mark.parametrize(
    ("chosen", "counts"),
    [("dataset", (6, 0)), ("ruler-qa_1", (2, 0)), ("ruler-qa_1,niah", (2, 2)), ("all", (6, 2))],
)
def test_tasks_choose_among_those_of_a_set(
    session: Session, ruler: Path, chosen: str, counts: tuple[int, int]
) -> None:
    few = ("--rlm-lengths=1k", "--rlm-depths=50", "--rlm-samples=1", "--collect-only", "-q")
    data = ("--rlm-dataset=ruler", f"--rlm-data={ruler}")
    told = session.look(*data, f"--rlm-tasks={chosen}", *few).stdout.str()
    assert (told.count("test_dataset["), told.count("test_niah[")) == counts
    assert "test_own[" not in told


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--rlm-dataset=rulr",), "*unknown dataset 'rulr' (did you mean 'ruler'?); there are: *"),
        (("--rlm-dataset=mrcr",), "*needs --rlm-data PATH: *hf download openai/mrcr *"),
        (("--rlm-data=x",), "*--rlm-data */x: which set? Add --rlm-dataset NAME"),
        (("--rlm-dataset=oolong", "--rlm-data=x"), "*--rlm-data: there is no */x: *hf download *"),
        (("--rlm-tasks=dataset",), "*--rlm-tasks dataset needs data: add --rlm-dataset NAME *"),
        (
            ("--rlm-dataset=ruler", "--rlm-data=x", "--rlm-file=test_given.py"),
            "*--rlm-file and --rlm-dataset: give one*",
        ),
    ],
)
def test_options_that_do_not_fit_are_told(
    session: Session, options: tuple[str, ...], says: str
) -> None:
    result = session.look(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([says])


def test_a_set_without_a_module_for_it_is_a_usage_error(session: Session, ruler: Path) -> None:
    result = session.look("--rlm-dataset=ruler", f"--rlm-data={ruler}", "test_cells.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--rlm-dataset: no module with its cells is collected; *"])
