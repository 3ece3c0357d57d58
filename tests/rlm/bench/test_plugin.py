"""The plugin in sessions of its own, as other people's repositories use it."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from contextlib import closing

import pytest

from rlm.bench import options, records
from tests.rlm.bench.plugin_session import BOTH, CELLS, FEW, Session
from tests.servers.ollama import ollama_server
from tests.servers.reader import ReaderServer
from tests.servers.scripted import Reply, ScriptedServer

THEIRS = """
import os, pytest
from rlm.bench import tasks
from rlm.bench.tasks.base import Item, Span, require_room
from rlm.bench.scoring import score_answer

class First:
    name = "first"
    depths = ()

    def generate(self, chars, depth, seed, *, split="eval"):
        require_room("first", chars, 100)
        text = "12345" + "." * (chars - 5)
        return Item("first", text, "Which number?", "12345", (Span(0, 5),), 0.0, split)

    def score(self, item, text):
        return score_answer(item.gold, text)

tasks.register(First())

@pytest.mark.cells("first")
def test_first(cell):
    if "CRASH" in os.environ:
        os._exit(1)
    cell.run()

@pytest.mark.cells("niah")
def test_other(cell):
    raise AssertionError("not selected")
"""
"""Cells of a task that this package does not know."""


@BOTH
def test_cells_become_verdicts_and_records(session: Session, workers: tuple[str, ...]) -> None:
    result = session.run(*FEW, "--rlm-run=a", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "model: openai/*, window 4096, *",
            "run: runs/a: 0 done, 4 to do",
            "niah 8k * vanilla * - * - * 1 truncated",
            "truncated: could not be read, *window of*",
            "time outside the model*rlm*%",
            "records: runs/a/",
        ]
    )
    assert re.search(r"=+ 3 correct, 1 truncated in ", result.stdout.str())
    found = session.load("a")
    assert {name: r.verdict for name, r in found.items()} == {
        "1024-vanilla": "correct",
        "1024-rlm": "correct",
        "8192-vanilla": "truncated",
        "8192-rlm": "correct",
    }
    assert found["1024-rlm"].usage.sub_calls == 1
    assert found["1024-rlm"].isolation["backend"] == "process"
    assert found["8192-vanilla"].model.window == 4096


@BOTH
def test_the_sandbox_is_chosen_measured_and_kept(
    session: Session, workers: tuple[str, ...]
) -> None:
    only_loops = (*FEW, "--rlm-lengths=1k", "--rlm-arch=rlm", *workers)
    result = session.run(*only_loops, "--rlm-run=a", "--rlm-sandbox=no-open")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["sandbox: no-open, confined; self-test: 9 ways out tried, all re*"]
    )
    (record,) = session.load("a").values()
    assert record.limits["backend"] == "no-open"
    assert record.isolation["backend"] == "no-open"
    assert record.isolation["confined"]
    assert len(record.isolation["refused"]) == 9
    again = session.run(*only_loops, "--rlm-run=a", "--rlm-sandbox=process")
    again.stdout.fnmatch_lines(["run: runs/a: 0 done, 1 to do"])
    (record,) = session.load("a").values()
    assert record.limits["backend"] == "process"


def test_a_sandbox_that_does_not_hold_ends_the_run_before_it_begins(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(session.path))
    result = session.run(*FEW, "--rlm-run=a", "--rlm-sandbox=bwrap")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--rlm-sandbox bwrap: there is no program bwrap: install it*"])


def test_a_record_says_what_was_run(session: Session) -> None:
    session.run(*FEW, "--rlm-run=a")
    folder = session.path / "runs" / "a"
    for record in session.load("a").values():
        assert record.trace is not None
        content = (folder / record.trace.path).read_bytes()
        assert hashlib.sha256(content).hexdigest() == record.trace.sha256
        assert json.loads(content)["calls"]
        assert record.started <= record.finished
        assert record.doc is not None
        assert record.doc.chars == 4 * record.length
        assert record.versions["python"]
    header = json.loads((folder / "results.jsonl").read_text().splitlines()[0])
    assert (header["row"], header["cells"], header["window"]) == ("run", 4, 4096)


@BOTH
def test_a_run_continues(session: Session, server: ReaderServer, workers: tuple[str, ...]) -> None:
    session.run(*FEW, "--rlm-run=a", "-k", "l1k")
    before = len(server.bodies("/v1/chat/completions"))
    result = session.run(*FEW, "--rlm-run=a", "-v", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["run: runs/a: 2 done, 2 to do"])
    result.stdout.fnmatch_lines_random(
        ["*CORRECT (cached)*L1k-d50-s0-rlm*" if workers else "*L1k-d50-s0-rlm*CORRECT (cached)*"]
    )
    assert "3 correct" in result.stdout.str()
    calls = len(server.bodies("/v1/chat/completions")) - before
    assert calls == 4  # two turns and two sub-calls; what cannot fit vanilla's prompt is not sent
    assert len(session.load("a")) == 4
    rows = (session.path / "runs" / "a" / "results.jsonl").read_text().splitlines()
    assert [json.loads(row)["row"] for row in rows].count("cell") == 4


@BOTH
def test_other_settings_are_other_cells(session: Session, workers: tuple[str, ...]) -> None:
    few = (*FEW, "--rlm-run=a", "-k", "l1k", *workers)
    session.run(*few)
    result = session.run(*few, "--rlm-seed=1")
    result.stdout.fnmatch_lines(["run: runs/a: 0 done, 2 to do"])
    result = session.run(*few, "--rlm-prompt=compact")
    result.stdout.fnmatch_lines(["run: runs/a: 1 done, 1 to do"])
    result = session.run(*few, "--rlm-split=train")
    result.stdout.fnmatch_lines(["run: runs/a: 0 done, 2 to do"])
    result = session.run(*few, "--rlm-num-ctx=2048")
    result.stdout.fnmatch_lines(["model: *, window 2048, *", "run: runs/a: 0 done, 2 to do"])
    found = records.load(session.path / "runs" / "a")
    assert len(found) == 9
    assert {(r.seed, r.split, r.model.window) for r in found} == {
        (0, "eval", 4096),
        (1, "eval", 4096),
        (0, "train", 4096),
        (0, "eval", 2048),
    }


@BOTH
def test_verdicts_can_run_again(session: Session, workers: tuple[str, ...]) -> None:
    session.run(*FEW, "--rlm-run=a", *workers)
    result = session.run(*FEW, "--rlm-run=a", "--rlm-rerun=truncated", *workers)
    result.stdout.fnmatch_lines(["run: runs/a: 3 done, 1 to do"])


def test_a_torn_line_is_repaired_and_told(session: Session) -> None:
    session.run(*FEW, "--rlm-run=a")
    file = session.path / "runs" / "a" / "results.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[:-7])
    result = session.run(*FEW, "--rlm-run=a")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["run: *: 3 done, 1 to do", "repaired: cut * bytes of a torn *"])
    assert len(session.load("a")) == 4


@BOTH
def test_a_run_refuses_another_model(session: Session, workers: tuple[str, ...]) -> None:
    session.run(*FEW, "--rlm-run=a", "-k", "l1k and vanilla")
    file = session.path / "runs" / "a" / "results.jsonl"
    file.write_text(file.read_text().replace("unverified:Qwen", "unverified:Other"))
    result = session.run(*FEW, "--rlm-run=a", *workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: run 'a' was made with another model*Other*--rlm-run*"])


@BOTH
def test_no_server_fails_the_cell_and_keeps_the_others(
    session: Session, workers: tuple[str, ...]
) -> None:
    session.run(*FEW, "--rlm-run=a", "-k", "l1k")
    with ReaderServer() as gone:
        address = gone.address
        session.model = f"--rlm-model={gone.spec}"
    result = session.run(*FEW, "--rlm-run=a", "-k", "l8k", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["model: *not reachable: *", f"*ServerUnreachable: *{address}*vllm serve*"]
    )
    result.stdout.fnmatch_lines(["=*2 failed*in*"])
    assert "Traceback" not in result.stdout.str()
    verdicts = sorted(r.verdict for r in records.load(session.path / "runs" / "a"))
    assert verdicts == ["correct", "correct", "error", "error"]


def test_a_crashed_worker_is_a_crashed_cell(session: Session) -> None:
    session.pytester.makepyfile(
        test_cells="""
        import os, pytest

        @pytest.mark.cells("niah")
        def test_niah(cell):
            if cell.cell.length == 8192 and cell.cell.architecture == "vanilla":
                os._exit(1)
            cell.run()
        """
    )
    result = session.run(*FEW, "--rlm-run=a", "-n2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    verdicts = {name: r.verdict for name, r in session.load("a").items()}
    assert verdicts["8192-vanilla"] == "crashed"
    assert sorted(verdicts.values()) == ["correct", "correct", "correct", "crashed"]
    crashed = session.load("a")["8192-vanilla"]
    assert crashed.doc is not None
    assert crashed.error is not None
    assert "crashed while running" in crashed.error.message
    session.pytester.makepyfile(test_cells=CELLS)
    result = session.run(*FEW, "--rlm-run=a")
    result.stdout.fnmatch_lines(["run: *: 3 done, 1 to do", "=*3 correct, 1 truncated in*"])
    assert session.load("a")["8192-vanilla"].key == crashed.key


def test_a_failing_fixture_is_an_error(session: Session) -> None:
    session.pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(autouse=True)
        def broken():
            raise ValueError("no coffee")
        """
    )
    result = session.run(*FEW, "--rlm-run=a", "-k", "l1k and vanilla")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (record,) = session.load("a").values()
    assert record.verdict == "error"
    assert record.error is not None
    assert "no coffee" in record.error.message


def test_an_assertion_after_the_cell_still_fails(session: Session) -> None:
    session.pytester.makepyfile(test_cells=CELLS + "    assert cell is None\n")
    result = session.run(*FEW, "-k", "l1k")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["=*2 failed*in*"])


def test_ctrl_c_keeps_what_is_done(session: Session) -> None:
    session.pytester.makepyfile(
        test_cells="""
        import pytest

        @pytest.mark.cells("niah")
        def test_niah(cell):
            if cell.cell.length == 8192:
                raise KeyboardInterrupt
            cell.run()
        """
    )
    result = session.run(*FEW, "--rlm-run=a")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["niah 1k *", "*KeyboardInterrupt*"])
    assert len(session.load("a")) == 2


@pytest.mark.parametrize("folder", ["rlm_x", "vanilla-bench"])
def test_k_selects_one_architecture_whatever_the_root_is_called(
    session: Session, folder: str
) -> None:
    """Guards ``-k "128k and rlm"``: `-k` also looks at folders, modules, functions and marks."""
    root = session.pytester.mkdir(folder)
    (root / "pytest.ini").touch()
    (root / "benchmarks").mkdir()
    (root / "benchmarks" / "test_cells.py").write_text(CELLS)

    def chosen(expression: str) -> set[tuple[str, str]]:
        result = session.look("--rootdir", str(root), str(root), "-k", expression, "--co", "-q")
        ids = re.findall(r"\[(L\w+)-.*-(\w+)\]", result.stdout.str())
        return set(ids)

    assert chosen("128k and rlm") == {("L128k", "rlm")}
    assert chosen("128k and vanilla") == {("L128k", "vanilla")}
    assert chosen("l8k and rlm") == {("L8k", "rlm")}


@BOTH
def test_cells_of_both_units_have_different_names(
    session: Session, workers: tuple[str, ...]
) -> None:
    result = session.look(*FEW, "--rlm-length-unit=chars", "--co", "-q")
    result.stdout.fnmatch_lines(["*C1k-d50-s0-vanilla*", "*C8k-d50-s0-rlm*"])
    chars = ("--rlm-length-unit=chars", "--rlm-run=a", "-k", "c1k and vanilla")
    gated = session.run(*FEW, *chars, "--rlm-fail-under=niah:vanilla@1k>=1", *workers)
    assert gated.ret == 0
    (record,) = session.load("a").values()
    assert record.doc is not None
    assert (record.unit, record.doc.chars) == ("chars", 1024)


@BOTH
def test_plan_runs_nothing(session: Session, workers: tuple[str, ...]) -> None:
    result = session.run(*FEW, "--rlm-plan", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["niah 1k * vanilla * 1 *", "4 cells on openai/*tokens"])
    assert not (session.path / "runs").exists()


def test_plan_tells_the_time_of_the_embedded_model(session: Session) -> None:
    session.model = "--rlm-model=embedded"
    result = session.look("--rlm-plan")
    result.stdout.fnmatch_lines(["144 cells on embedded, about * prompt tokens and * min *"])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--rlm-model=gpt", r"--rlm-model: no model 'gpt'.*embedded.*ollama/NAME"),
        ("--rlm-lengths=8q", r"--rlm-lengths: unknown length '8q'.*1k 2k 4k"),
        ("--rlm-depths=500", r"--rlm-depths: unknown depth '500'.*10,50,90"),
        ("--rlm-arch=rml", r"--rlm-arch: unknown architecture 'rml' .*'rlm'.*vanilla"),
        ("--rlm-samples=0", r"--rlm-samples: '0' is not a whole number from 1"),
        ("--rlm-seed=x", r"--rlm-seed: 'x' is not a whole number"),
        ("--rlm-num-ctx=big", r"--rlm-num-ctx: 'big' is no window.*auto.*4096"),
        ("--rlm-num-ctx=1000", r"a window is a multiple of 256 tokens, not 1000; use 1024"),
        ("--rlm-rerun=bad", r"--rlm-rerun: unknown verdict 'bad'.*crashed"),
        ("--rlm-lengths=11M", r"--rlm-lengths: length '11M' is above 10M"),
        ("--rlm-run=", r"--rlm-run: a run needs a name"),
        ("--rlm-run=..", r"--rlm-run: a run needs a name, not '\.\.'"),
        ("--rlm-length-unit=bytes", r"--rlm-length-unit: invalid choice: 'bytes'.*tokens.*chars"),
        ("--rlm-prompt=long", r"--rlm-prompt: invalid choice: 'long'.*auto.*full.*compact"),
        ("--rlm-split=test", r"--rlm-split: invalid choice: 'test'.*eval.*train"),
        ("--rlm-tasks=a,,b", r"--rlm-tasks: 'a,,b' has an empty entry"),
        ("--rlm-draws=0", r"--rlm-draws: '0' is not a whole number from 1"),
        ("--rlm-temperature=hot", r"--rlm-temperature: 'hot' is no temperature: .*0 to 2"),
        ("--rlm-max-tokens=0", r"--rlm-max-tokens: '0' is no number of tokens.*200k"),
        ("--rlm-max-minutes=-1", r"--rlm-max-minutes: '-1' is no number of minutes"),
        ("--rlm-compare=", r"--rlm-compare: a run needs a name"),
        ("--rlm-sandbox=docker", r"--rlm-sandbox: invalid choice: 'docker'.*process.*bwrap"),
        ("--rlm-fail-on=wrong", r"--rlm-fail-on: invalid choice: 'wrong'.*regression"),
        ("--rlm-file=" + "x" * 300, r"--rlm-file: there is no file 'xxx"),
    ],
)
def test_a_bad_value_is_a_usage_error(session: Session, option: str, message: str) -> None:
    result = session.look(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert re.search(message, result.stderr.str(), re.DOTALL)
    assert not (session.path / "runs").exists()


@BOTH
def test_an_unknown_task_is_a_usage_error(session: Session, workers: tuple[str, ...]) -> None:
    result = session.run("--rlm-tasks=niha", *workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: unknown task 'niha' (did you mean 'niah'?)*long_doc_qa*"])
    assert not (session.path / "runs").exists()


def test_a_model_file_that_is_not_there_is_a_usage_error(session: Session) -> None:
    session.model = "--rlm-model=gguf/absent.gguf"
    result = session.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: there is no model file *absent.gguf"])


@BOTH
@pytest.mark.parametrize("task", ["niah", "first"])
def test_a_document_too_short_is_a_usage_error(
    session: Session, workers: tuple[str, ...], task: str
) -> None:
    """Guards an evening's run from failing in the cells of its shortest length."""
    session.pytester.makepyfile(test_cells=THEIRS)
    result = session.run("--rlm-lengths=1k,10", f"--rlm-tasks={task}", *workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: a {task} document of 40 characters is too short: it *"])
    assert not (session.path / "runs").exists()


def test_only_lengths_that_are_selected_must_suffice(session: Session) -> None:
    assert session.look("--rlm-lengths=1k,10", "-k", "l1k", "--co", "-q").ret == 0


@pytest.mark.parametrize("where", ["file", "file/x", "bytes"])
def test_an_unusable_run_is_a_usage_error(session: Session, where: str) -> None:
    (session.path / "file").touch()
    (session.path / "bytes").mkdir()
    (session.path / "bytes" / "results.jsonl").write_bytes(b"\xff\n")
    result = session.run(*FEW, f"--rlm-run={session.path / where}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{session.path / where}/results.jsonl*"])


@BOTH
def test_two_sessions_do_not_write_one_run(session: Session, workers: tuple[str, ...]) -> None:
    with closing(records.Store(session.path / "runs" / "a")):
        result = session.run(*FEW, "--rlm-run=a", *workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: run 'a' * is being written by another session*"])


def late_ollama(monkeypatch: pytest.MonkeyPatch, *, failures: int) -> ScriptedServer:
    """A server that is not ready the first times it is asked."""
    server = ollama_server()
    server.once("/api/version", *[Reply({"error": "not ready"}, status=500)] * failures)
    monkeypatch.setenv("OLLAMA_HOST", server.address)
    return server


LATE = ("--rlm-run=a", "--rlm-arch=vanilla", "--rlm-lengths=1k", "--rlm-depths=50")


def test_a_server_that_comes_back_serves_the_cells_that_are_left(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.model = "--rlm-model=ollama/qwen3.5:2b"
    with late_ollama(monkeypatch, failures=2):  # one for the session, one for the first cell
        result = session.run(*LATE, "--rlm-samples=3")
    result.stdout.fnmatch_lines(["model: *not reachable: *not ready*"])
    loaded = records.load(session.path / "runs" / "a")
    assert [r.verdict == "error" for r in loaded] == [True, False, False]
    assert [r.model.digest for r in loaded] == ["", "abc123", "abc123"]


def test_a_run_takes_no_cell_of_another_model_that_comes_late(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.model = "--rlm-model=ollama/qwen3.5:2b"
    with late_ollama(monkeypatch, failures=0):
        session.run(*LATE, "--rlm-samples=1")
    with late_ollama(monkeypatch, failures=1) as server:
        server.standing["/api/tags"] = Reply({"models": [{"name": "qwen3.5:2b", "digest": "new"}]})
        result = session.run(*LATE, "--rlm-samples=2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: run 'a' was made with another model (abc123) than * (new)*"]
    )
    assert {r.model.digest for r in records.load(session.path / "runs" / "a")} == {"abc123"}


def test_fixtures_of_the_same_names_do_no_harm(session: Session) -> None:
    """Guards repositories with other plugins: `client` is pytest-django's, too."""
    session.pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def client():
            raise ValueError("not yours")

        sandbox = ollama = client
        """
    )
    assert session.run(*FEW, "-k", "l1k").ret == 0


@BOTH
def test_a_task_of_someone_else(session: Session, workers: tuple[str, ...]) -> None:
    session.pytester.makepyfile(test_cells=THEIRS)
    result = session.run(*FEW, "--rlm-tasks=first", "--rlm-run=a", "-k", "l1k", *workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["=*2 correct*in*"])
    assert {r.task for r in session.load("a").values()} == {"first"}


def test_a_crash_in_a_task_of_someone_else_is_recorded(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the controller, which does not know the task and cannot make the document."""
    session.pytester.makepyfile(test_cells=THEIRS)
    chosen = (*FEW, "--rlm-tasks=first", "--rlm-run=a", "-k", "l1k and vanilla")
    with monkeypatch.context() as patch:
        patch.setenv("CRASH", "1")
        result = session.run(*chosen, "-n1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    (record,) = session.load("a").values()
    assert (record.verdict, record.doc) == ("crashed", None)
    assert session.run(*chosen).ret == 0
    (record,) = session.load("a").values()
    assert record.verdict == "correct"


def test_a_cell_without_a_task_is_told_how_to_get_one(session: Session) -> None:
    session.pytester.makepyfile(test_cells="def test_x(cell): cell.run()")
    result = session.run()
    assert result.ret != 0
    result.stdout.fnmatch_lines(['*takes `cell` but names no task*pytest.mark.cells("niah")*'])


@BOTH
def test_without_cells_nothing_is_printed_or_started(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    """Guards every other project in the same environment."""
    pytester.makepyfile("def test_x(): pass")
    result = pytester.runpytest_subprocess("-pno:hypothesispytest", "-pno:benchmark", *workers)
    out = result.stdout.str().replace("rlm-bench-", "")  # pytest itself lists its plugins
    assert result.ret == 0
    assert not re.search(r"rlm|model:|sandbox:|run:", out.replace(str(pytester.path), ""))
    assert not (pytester.path / "runs").exists()


def test_help_teaches(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--help")
    text = result.stdout.str()
    for (name, placeholder, _, _), _ in options.VALUES:
        assert f"--rlm-{name}={placeholder}" in text
    for name, values, _ in options.CHOICES:
        assert f"--rlm-{name}={{{','.join(values)}}}" in "".join(text.split())
    assert "--rlm-fail-under=GATE" in text
    assert "--rlm-plan " in text
    assert "1k,2k,4k,8k,16k,32k,64k,128k" in "".join(text.split())


def test_a_bug_is_recorded_and_shown_with_its_traceback(session: Session) -> None:
    session.pytester.makeconftest(
        """
        from rlm.bench import tasks

        class Broken(type(tasks.get("niah"))):
            def score(self, item, text):
                return 1 / 0

        tasks.register(Broken())
        """
    )
    result = session.run(*FEW, "--rlm-run=a", "-k", "l1k and vanilla")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([">*return 1 / 0", "E*ZeroDivisionError*"])
    (record,) = session.load("a").values()
    assert record.error == records.Failure("ZeroDivisionError", "division by zero")


def test_ollama_skips_and_says_why(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ReaderServer() as gone:
        monkeypatch.setenv("OLLAMA_HOST", gone.address)
    pytester.makepyfile("def test_x(rlm_ollama): rlm_ollama.info()")
    result = pytester.runpytest_subprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*ollama serve*"])


def test_workers_share_one_engine_and_agree_with_one_process(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards that verdicts do not depend on ``-n``, and that the engine ends with the session."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # set where this suite runs under -n
    session.model = "--rlm-model=embedded"
    session.pytester.makepyfile(
        test_cells="""
        import os, pathlib, pytest

        @pytest.mark.cells("niah")
        def test_niah(cell, rlm_client):
            cell.run()
            name = os.environ.get("PYTEST_XDIST_WORKER", "alone")
            pathlib.Path(f"engine-{name}").write_text(rlm_client._address.url)
        """
    )
    grid = ("--rlm-lengths=1k", "--rlm-depths=50", "--rlm-samples=4", "--rlm-arch=vanilla")
    assert session.run(*grid, "--rlm-run=a").ret == 0
    assert session.run(*grid, "--rlm-run=b", "-n2").ret == 0
    (url,) = {file.read_text() for file in session.path.glob("engine-gw*")}
    assert url != (session.path / "engine-alone").read_text()
    with (
        pytest.raises(OSError, match="refused"),
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))),
    ):
        pass

    def told(run: str) -> dict[str, tuple[str, str, int]]:
        loaded = records.load(session.path / "runs" / run)
        return {r.key: (r.verdict, r.prediction, r.usage.completion_tokens) for r in loaded}

    assert told("a") == told("b")
    assert len(told("a")) == 4
