"""`rlm verify` on a real run: it agrees with itself, and whatever is edited in it is found."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlm.bench import records, runner, tasks
from rlm.bench.grid import Cell, Grid
from rlm.bench.records import RESULTS, TRACES, Failure, Record, Store
from rlm.bench.runner import Settings
from rlm.bench.tasks import own
from rlm.bench.tasks.base import SUITE_VERSION
from rlm.bench.verify import KNOWN, Mismatch, Report, verify
from rlm.clients import connect
from rlm.clients.base import Client
from rlm.errors import CallTimeout, ProtocolError, RecordError, ServerUnreachable
from rlm.sandbox import Sandbox, open_sandbox
from tests.rlm.scripted import Scripted, code
from tests.servers.reader import ReaderServer

CELL = Cell("niah", 1024, 50, 0, "rlm")
PADDED = code("FINAL('\"' * 3000 + re.search(r'\\d{5}', context)[0])")
ENVIRONMENT = runner.environment()

Row = dict[str, Any]
Edit = Callable[[Row], object]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with ReaderServer() as server, closing(connect(server.spec)) as opened:
        yield opened


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with closing(open_sandbox()) as opened:
        yield opened


def write(path: Path, *found: Record, **header: object) -> Path:
    store = Store(path)
    store.begin({"run": path.name, **header})
    for each in found:
        store.append(each)
    store.close()
    return path


def measure(path: Path, cell: Cell, client: Client, sandbox: Sandbox) -> Record:
    settings = Settings(run=path, environment=ENVIRONMENT)
    outcome = runner.measure(cell, settings, client=lambda: client, sandbox=lambda: sandbox)
    assert outcome.record is not None
    return outcome.record


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, client: Client, sandbox: Sandbox) -> Path:
    """A run of every architecture, and of a document that does not fit the window."""
    path = tmp_path_factory.mktemp("made") / "run"
    cells = [replace(CELL, architecture=name) for name in sorted(KNOWN)]
    cells.append(Cell("long_doc_qa", 8192, 50, 0, "vanilla"))
    return write(path, *(measure(path, cell, client, sandbox) for cell in cells))


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """The same, to be tampered with."""
    return shutil.copytree(made, tmp_path / "run")


def alone(path: Path, client: Client, sandbox: Sandbox, **change: object) -> Path:
    """A run of a single cell."""
    return write(path, measure(path, replace(CELL, **change), client, sandbox))


def rows(run: Path) -> list[Row]:
    return [json.loads(line) for line in (run / RESULTS).read_text().splitlines()]


def tamper(run: Path, edit: Edit, architecture: str = "rlm") -> int:
    """Edit the row of an architecture, and return its line."""
    found = rows(run)
    line = next(i for i, row in enumerate(found, 1) if row.get("architecture") == architecture)
    edit(found[line - 1])
    (run / RESULTS).write_text("".join(json.dumps(row) + "\n" for row in found))
    return line


def texts(report: Report) -> list[str]:
    return [mismatch.text for mismatch in report.mismatches]


def test_a_real_run_agrees_with_itself(made):
    report = verify(made)
    assert (report.mismatches, report.notes) == ((), ())
    assert (report.rows, report.documents) == (len(KNOWN) + 1, 2)


def test_a_document_is_made_once_however_scattered_its_rows(made, tmp_path, client, sandbox):
    """Guards long runs, where making a document is what takes the time."""
    asked: list[int] = []

    class Counting(type(tasks.get("niah"))):  # type: ignore[misc]
        name = "counted"

        def generate(self, *args, **more):
            asked.append(1)
            return super().generate(*args, **more)

    tasks.register(Counting())
    path = tmp_path / "run"
    grid = [replace(CELL, task="counted", sample=i % 4, architecture="grep") for i in range(12)]
    cells = [replace(c, draw=i // 4) for i, c in enumerate(grid)]
    write(path, *(measure(path, cell, client, sandbox) for cell in cells))
    asked.clear()
    runner._make_item.cache_clear()
    report = verify(path)
    assert (texts(report), report.documents, len(asked)) == ([], 4, 4)


def deep(path: Path, client: Client, sandbox: Sandbox) -> Record:
    """A cell whose code may open a loop, in a run of its own."""
    settings = Settings(run=path, environment=ENVIRONMENT, max_depth=2)
    made = runner.measure(CELL, settings, client=lambda: client, sandbox=lambda: sandbox).record
    assert made is not None
    assert len(made.levels) == 2
    write(path, made)
    return made


def test_a_tree_agrees_with_itself_and_its_levels_are_verified(tmp_path, client, sandbox):
    path = tmp_path / "run"
    assert deep(path, client, sandbox).verdict == "correct"
    assert verify(path).mismatches == ()
    tamper(path, put("levels", value=[]))
    (told,) = texts(verify(path))
    assert told.startswith("levels: recorded (), but it is ")


class CutBelow(Scripted):
    """Ends the replies of a loop that was opened by another one too early."""

    def chat(self, messages, *, options):
        done = super().chat(messages, options=options)
        return replace(done, finish_reason="length") if done.text == code("FINAL(4)") else done


def test_a_loop_below_whose_reply_was_cut_off_is_truncated(tmp_path, sandbox):
    path = tmp_path / "run"
    client = CutBelow([code("FINAL(rlm_query(context, query))"), code("FINAL(4)")])
    assert deep(path, client, sandbox).verdict == "truncated"
    assert verify(path).mismatches == ()


def put(*path: str, value: object) -> Edit:
    """An edit that puts `value` to a place within a row."""

    def edit(row: Row) -> None:
        for name in path[:-1]:
            row = row[name]
        row[path[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (put("doc", "sha256", value="0" * 64), "document: sha256 recorded '000"),
        (put("doc", "chars", value=4095), "document: chars recorded 4095, but it is 4096"),
        (put("doc", value=None), "document: the row has scores, but names no document"),
        (put("question", value="What?"), "question: recorded 'What?'"),
        (put("gold", value="11111"), "gold: recorded '11111'"),
        (put("realised_depth", value=0.4), "realised depth: recorded 0.4"),
        (put("grep", value=False), "grep: recorded False, but it is True"),
        (put("seed", value=1), "document: sha256"),
        (put("split", value="train"), "document: sha256"),
        (put("sample", value=1), "document: sha256"),
        (put("depth", value=90), "document: sha256"),
        (put("length", value=2048), "document: chars recorded 4096, but it is 8192"),
        (put("length", value=10**12), "document: cannot be made: length 1000000000000 is above"),
        (put("task", value="theirs"), "document: cannot be made: unknown task 'theirs'"),
        (put("prediction", value="11111"), "prediction: recorded '11111'"),
        (put("prediction_chars", value=9), "prediction: recorded"),
        (put("scores", "exact", value=False), "scores: recorded Scores(exact=False"),
        (put("scores", "graded", value=0.5), "scores: recorded Scores(exact=True, graded=0.5)"),
        (put("scores", value=None), "verdict: recorded correct, all else says none"),
        (put("verdict", value="wrong"), "verdict: recorded wrong, all else says correct"),
        (put("verdict", value="truncated"), "verdict: recorded truncated"),
        (put("verdict", value="error"), "verdict: recorded error"),
        (put("verdict", value="crashed"), "verdict: recorded crashed"),
        (put("usage", "prompt_tokens", value=1), "usage: recorded Tokens(prompt_tokens=1,"),
        (put("usage", "sub_calls", value=7), "usage: recorded"),
        (put("trace", "sha256", value="0" * 64), "trajectory: sha256 of trajectories/"),
        (put("trace", "path", value="/etc/passwd"), "trajectory: recorded '/etc/passwd'"),
        (put("trace", value=None), "trajectory: the row has scores, but names no trajectory"),
        (put("key", value="0" * 64), "key: recorded '000"),
        (put("draw", value=1), "key: recorded"),
        (put("model", "digest", value="better"), "key: recorded"),
        (put("model", "options", "num_ctx", value=1), "key: recorded"),
        (put("limits", "max_iterations", value=99), "key: recorded"),
        (put("architecture", value="vanilla"), "key: recorded"),
        (put("architecture", value="mine"), "there is no architecture 'mine'"),
    ],
)
def test_what_is_edited_is_found(run, edit, told):
    line = tamper(run, edit)
    found = verify(run).mismatches
    assert any(told in mismatch.text for mismatch in found), found
    assert {mismatch.line for mismatch in found} <= {line, 0}


@pytest.mark.parametrize("architecture", ["vanilla", "rlm", "rag", "grep", "oracle"])
def test_a_right_answer_made_wrong_with_all_that_follows_is_found(run, architecture):
    """The trajectory says what was answered, for every architecture."""

    def edit(row: Row) -> None:
        row["prediction"], row["prediction_chars"] = "99999", 5
        row["scores"] = {"exact": False, "graded": 0.0}
        row["verdict"] = "wrong"

    line = tamper(run, edit, architecture)
    found = verify(run).mismatches
    assert {mismatch.line for mismatch in found} == {line}
    kinds = [mismatch.text.partition(":")[0] for mismatch in found]
    assert kinds == ["prediction", "scores", "verdict"]


def test_a_wrong_answer_made_right_with_all_that_follows_is_found(run):
    def edit(row: Row) -> None:
        row["prediction"], row["prediction_chars"] = row["gold"], len(row["gold"])
        row["scores"] = {"exact": True, "graded": 1.0}
        row["verdict"] = "correct"

    tamper(run, edit, "closedbook")
    assert [t.partition(":")[0] for t in texts(verify(run))] == ["prediction", "scores", "verdict"]


def test_a_document_that_was_not_read_cannot_become_a_wrong_answer(run):
    found = rows(run)
    assert (found[-1]["task"], found[-1]["verdict"]) == ("long_doc_qa", "truncated")
    found[-1]["verdict"] = "wrong"
    (run / RESULTS).write_text("".join(json.dumps(row) + "\n" for row in found))
    assert texts(verify(run)) == ["verdict: recorded wrong, all else says truncated"]


def test_a_row_taken_out_leaves_its_trajectory(run):
    lines = (run / RESULTS).read_text().splitlines(keepends=True)
    key = json.loads(lines.pop(3))["key"]
    (run / RESULTS).write_text("".join(lines))
    (found,) = verify(run).mismatches
    assert (found.line, found.key) == (0, key)
    assert "its row was taken out" in found.text


@pytest.mark.skipif(sys.platform == "win32", reason="no locks")
def test_while_a_session_writes_a_trajectory_may_be_ahead_of_its_row(run):
    store = Store(run)
    (run / TRACES / f"{'0' * 64}.json").write_text("{}")
    report = verify(run)
    assert (report.mismatches, [n for n in report.notes if "is writing this run" in n]) == (
        (),
        ["a session is writing this run: trajectories without a row are not told"],
    )
    store.close()
    (found,) = verify(run).mismatches
    assert found.key == "0" * 64


@pytest.mark.skipif(sys.platform == "win32", reason="no locks")
def test_a_session_that_ends_while_its_run_is_read_left_no_strays(run):
    store = Store(run)
    (run / TRACES / f"{'0' * 64}.json").write_text("{}")  # of a row that came after the reading
    report = verify(run, progress=lambda *_: store.close())
    assert report.mismatches == ()
    assert any("is writing this run" in note for note in report.notes)


def test_a_trajectory_that_is_missing_edited_or_none_is_found(run):
    traces = sorted((run / TRACES).iterdir())
    lines = {row.get("key"): line for line, row in enumerate(rows(run), 1)}
    traces[0].unlink()
    traces[1].write_bytes(traces[1].read_bytes() + b" ")
    broken = b'{"calls": []}'
    traces[2].write_bytes(broken)
    found = rows(run)
    row = found[lines[traces[2].stem] - 1]
    row["trace"]["sha256"] = hashlib.sha256(broken).hexdigest()
    (run / RESULTS).write_text("".join(json.dumps(row) + "\n" for row in found))
    told = {m.line: m.text for m in verify(run).mismatches}
    assert "cannot read trajectories/" in told.pop(lines[traces[0].stem])
    assert "trajectory: sha256 of" in told.pop(lines[traces[1].stem])
    assert "is none: KeyError('messages')" in told.pop(lines[traces[2].stem])
    assert told == {}


def test_a_row_copied_within_the_file_is_found(run):
    lines = (run / RESULTS).read_text().splitlines(keepends=True)
    (run / RESULTS).write_text("".join([*lines, lines[1]]))
    (found,) = verify(run).mismatches
    assert found.line == len(lines) + 1
    assert found.text.startswith("key: that of line 2, which is no earlier run of the cell")


def test_a_cell_that_ran_again_is_no_mismatch(tmp_path, client, sandbox):
    path = tmp_path / "run"
    failed = measure(path, CELL, Scripted([ServerUnreachable("gone")]), sandbox)
    again = measure(path, CELL, Scripted([code("FINAL(1)")]), sandbox)
    assert (failed.key, failed.verdict, again.verdict) == (again.key, "error", "wrong")
    report = verify(write(path, failed, again))
    assert (report.mismatches, report.rows) == ((), 2)


@pytest.mark.parametrize(
    "broken", ['{"row": "cell"', '{"row": "cell", "schema": 99}', "null", "caf\xe9"]
)
def test_a_broken_row_is_one_mismatch_and_the_rest_goes_on(run, broken):
    with (run / RESULTS).open("ab") as file:
        file.write(broken.encode() + b"\n")
    report = verify(run)
    assert report.rows == len(KNOWN) + 1
    (found,) = report.mismatches
    assert (found.line, found.key) == (len(KNOWN) + 3, "")
    assert found.text.startswith("broken row: ")


def test_a_clipped_answer_is_scored_whole(tmp_path, sandbox):
    """Guards answers that a record keeps the beginning of: alone, it would be wrong."""
    run = alone(tmp_path / "run", Scripted([PADDED]), sandbox)
    (row,) = rows(run)[1:]
    assert (row["verdict"], row["prediction_chars"] > len(row["prediction"])) == ("correct", True)
    assert verify(run).mismatches == ()
    tamper(run, put("prediction_chars", value=3004))
    assert [text.partition(":")[0] for text in texts(verify(run))] == ["prediction"]


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        (["no idea", *["print(1)"] * 20, "the answer is 7"], "wrong"),
        ([*["print(1)"] * 20, "```python\nFINAL(7)\n```"], "wrong"),
        (["FINAL(7)"], "wrong"),
        ([code("FINAL('')")], "wrong"),
        ([ServerUnreachable("gone")], "error"),
        ([CallTimeout("1 s")], "timeout"),
        ([code("FINAL(llm_query_batched(['x'])[0])"), ProtocolError("oops")], "error"),
        ([code("FINAL(llm_query_batched(['x'])[0])"), CallTimeout("1 s")], "timeout"),
        ([code("print(llm_query('x'))"), "4", ServerUnreachable("gone")], "error"),
    ],
    ids=["last", "last-code", "text", "empty", "gone", "slow", "sub", "sub-slow", "later"],
)
def test_runs_that_end_otherwise_agree_with_themselves(tmp_path, sandbox, script, verdict):
    run = alone(tmp_path / "run", Scripted(script), sandbox)
    assert rows(run)[1]["verdict"] == verdict
    assert verify(run).mismatches == ()
    other = "error" if verdict == "wrong" else "correct"
    tamper(run, put("verdict", value=other))
    assert texts(verify(run)) == [f"verdict: recorded {other}, all else says {verdict}"]


def test_an_answer_that_only_the_sandbox_knew_is_said(tmp_path, sandbox):
    script = Scripted([*["x = 7\nprint(x)"] * 20, "```python\nFINAL(x)\n```"])
    report = verify(alone(tmp_path / "run", script, sandbox))
    assert report.mismatches == ()
    assert report.notes == ("answer taken as recorded: no trajectory tells it (1 row)",)


@pytest.mark.parametrize("architecture", ["vanilla", "rlm"])
def test_what_was_cut_in_silence_stays_truncated(tmp_path, sandbox, architecture):
    model = Scripted([code("FINAL(7)")], truncated=True)
    run = alone(tmp_path / "run", model, sandbox, architecture=architecture)
    assert verify(run).mismatches == ()
    tamper(run, put("verdict", value="wrong"), architecture)
    assert texts(verify(run)) == ["verdict: recorded wrong, all else says truncated"]


def test_a_cell_that_never_reached_its_model_agrees(tmp_path, client, sandbox):
    settings = Settings(run=tmp_path / "run", environment=ENVIRONMENT)
    crash, setup = Failure("crashed", "gw0"), Failure("setup", "no coffee")
    found = [
        runner.unmeasured(CELL, settings, client.info(), "crashed", crash),
        runner.unmeasured(replace(CELL, sample=1), settings, None, "error", setup),
        runner.unmeasured(replace(CELL, task="theirs"), settings, None, "crashed", crash),
    ]
    run = write(tmp_path / "run", *found)
    assert texts(verify(run)) == [
        "document: cannot be made: unknown task 'theirs'; there are: " + ", ".join(tasks.names())
    ]


def test_a_cell_too_short_for_its_task_agrees(tmp_path, client, sandbox):
    run = alone(tmp_path / "run", client, sandbox, length=10)
    assert rows(run)[1]["error"]["type"] == "UsageError"
    assert verify(run).mismatches == ()
    tamper(run, put("sample", value=5))
    assert [text.partition(":")[0] for text in texts(verify(run))] == ["key"]


def test_a_key_of_other_code_is_not_verified_and_this_is_said(run):
    def edit(row: Row) -> None:
        row["versions"]["rlm-bench"], row["key"] = "0.0.9", row["key"]
        row["limits"]["max_iterations"] = 5

    tamper(run, edit)
    report = verify(run)
    assert report.mismatches == ()
    (note,) = report.notes
    assert note.startswith("key not verified: made by rlm-bench 0.0.9")
    assert note.endswith("(1 row)")


def test_another_suite_is_said_on_the_line_of_the_session(tmp_path, client, sandbox):
    path = tmp_path / "run"
    record = measure(path, CELL, client, sandbox)
    assert verify(write(path, record, suite=SUITE_VERSION)).mismatches == ()
    (path / RESULTS).unlink()
    (found,) = verify(write(path, record, suite=SUITE_VERSION + 1)).mismatches
    assert (found.line, found.text.startswith("suite: version ")) == (1, True)


@pytest.fixture
def own_run(tmp_path: Path, client: Client, sandbox: Sandbox) -> Path:
    """A run on two lines of a person's own file ``mine.jsonl``."""
    file = tmp_path / "mine.jsonl"
    lines = [
        {"context": f"Rome is old. The code is 4821{i}. Bye.", "query": "?", "answer": f"4821{i}"}
        for i in range(2)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = own.load(file)
    tasks.register(data)
    path = tmp_path / "run"
    cells = list(data.cells(Grid()))
    found = [measure(path, cell, client, sandbox) for cell in cells]
    assert {r.verdict for r in found} == {"correct"}
    return write(path, *found, file={"path": str(data.path), "sha256": data.sha256})


def test_own_data_are_read_anew(own_run, monkeypatch):
    monkeypatch.setattr(tasks, "_TASKS", {})  # another process, where nobody registered them
    report = verify(own_run)
    assert (report.mismatches, report.rows, report.documents) == ((), 4, 2)
    tamper(own_run, put("gold", value="1"))
    assert any(text.startswith("gold: ") for text in texts(verify(own_run)))


def test_own_data_that_changed_are_found(own_run):
    file = own_run.parent / "mine.jsonl"
    file.write_text(file.read_text().replace("Rome", "Bonn", 1))
    found = verify(own_run).mismatches
    assert found[0].line == 1
    assert found[0].text.startswith(f"file: sha256 of {file} recorded ")
    assert [m.text.partition(" r")[0] for m in found[1:3]] == ["document: sha256"] * 2


def test_own_data_that_are_gone_are_found(own_run, monkeypatch):
    monkeypatch.setattr(tasks, "_TASKS", {})
    (own_run.parent / "mine.jsonl").unlink()
    found = verify(own_run).mismatches
    assert found[0].text.startswith("file: cannot read ")
    assert ["document: cannot be made: unknown task" in m.text for m in found[1:]] == [True] * 4


def test_progress_counts_all_rows(run):
    seen: list[tuple[int, int]] = []
    verify(run, progress=lambda done, rows: seen.append((done, rows)))
    assert seen == [(len(KNOWN), len(KNOWN) + 1), (len(KNOWN) + 1, len(KNOWN) + 1)]


def test_a_run_that_is_not_there_is_told(tmp_path):
    with pytest.raises(RecordError, match="cannot read"):
        verify(tmp_path / "nothing")


def test_mismatches_come_by_line(run):
    for architecture in ("vanilla", "closedbook", "oracle"):
        tamper(run, put("question", value="?"), architecture)
    found = verify(run).mismatches
    assert all(isinstance(m, Mismatch) and m.key for m in found)
    assert [m.line for m in found] == sorted(m.line for m in found)
    assert records.load(run)[0].question == "?"
