from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from rlm.bench import runner, tasks
from rlm.bench.grid import Cell, Grid
from rlm.bench.records import Failure
from rlm.bench.runner import Outcome, Settings
from rlm.bench.tasks import own
from rlm.clients import connect
from rlm.clients.base import Client, ModelInfo
from rlm.errors import CallTimeout, ProtocolError, ServerUnreachable
from rlm.sandbox import Sandbox, open_sandbox
from rlm.trajectory import Trajectory
from tests.rlm.scripted import Scripted, code
from tests.servers.ollama import ollama_server
from tests.servers.reader import ReaderServer

CELL = Cell("niah", 1024, 50, 0, "rlm")
ENVIRONMENT = {"git": "abc", "versions": {"python": platform.python_version()}}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with ReaderServer() as server, closing(connect(server.spec)) as opened:
        yield opened


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with closing(open_sandbox()) as opened:
        yield opened


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(run=tmp_path / "a", environment=ENVIRONMENT)


def measure(cell: Cell, settings: Settings, client: Client, sandbox: Sandbox, **more) -> Outcome:
    return runner.measure(cell, settings, client=lambda: client, sandbox=lambda: sandbox, **more)


@pytest.mark.parametrize(
    ("spec", "architecture", "counts"),
    [
        ("openai/m@http://h/v1", "rlm", True),
        ("ollama/m", "rlm", True),
        ("openai/m@http://h/v1", "repl", False),
        ("openai/m@http://h/v1", "vanilla", False),
        ("embedded", "rlm", False),
        ("gguf/m.gguf", "rlm", False),
    ],
)
def test_calls_at_once_are_in_the_key_where_they_can_change_an_answer(
    settings, spec, architecture, counts
):
    cell = replace(CELL, architecture=architecture)

    def key(concurrency):
        item = runner.make_item(cell, settings.seed, settings.split)
        given = replace(settings, spec=spec, concurrency=concurrency)
        info = ModelInfo(spec, "digest", 4096, "server")
        return runner.prepare(runner.blank(cell, given), given, info, item).key

    assert (key(8) != key(1)) is counts


@pytest.mark.parametrize(
    ("architecture", "counts"), [("rlm", True), ("repl", False), ("vanilla", False)]
)
def test_levels_of_loops_are_in_the_key_where_there_can_be_more_than_one(
    settings, architecture, counts
):
    cell = replace(CELL, architecture=architecture)

    def made(depth):
        item = runner.make_item(cell, settings.seed, settings.split)
        given = replace(settings, max_depth=depth)
        info = ModelInfo("openai/m@http://h/v1", "digest", 4096, "server")
        return runner.prepare(runner.blank(cell, given), given, info, item)

    assert len({made(depth).key for depth in (1, 2, 3)}) == (3 if counts else 1)
    assert "max_depth" not in made(1).limits
    assert made(1).model.prompt in ("full", "vanilla", "repl_full@controls1")


def test_after_its_last_turn_a_loop_is_asked_for_its_answer(settings, sandbox):
    """Guards against a bound of turns that the records tell and the loop does not keep."""
    script = [code("print(1)"), code("print(2)"), code("print(3)"), "FINAL(4)"]
    record = measure(CELL, replace(settings, max_iterations=3), Scripted(script), sandbox).record
    assert (record.iterations, record.prediction, record.ended_by) == (3, "4", "turns")


def test_a_cell_whose_code_opens_a_loop_says_what_each_level_did(settings, client, sandbox):
    record = measure(CELL, replace(settings, max_depth=2), client, sandbox).record
    assert (record.verdict, record.prediction) == ("correct", record.gold)
    first, second = record.levels
    assert (first.runs, first.turns, first.sub_calls, first.usage.calls) == (1, 1, 0, 1)
    assert (second.runs, second.turns, second.sub_calls, second.usage.calls) == (1, 1, 1, 2)
    assert (record.iterations, record.usage.calls, record.usage.sub_calls) == (2, 3, 1)
    kept = json.loads((settings.run / record.trace.path).read_bytes())
    assert Trajectory.from_dict(kept).levels == record.levels


def test_a_cell_that_a_lost_server_ends_below_keeps_its_tree(settings, sandbox):
    script = [code("rlm_query('c', 'q')"), code("print(1)"), ServerUnreachable("gone")]
    record = measure(CELL, replace(settings, max_depth=2), Scripted(script), sandbox).record
    assert (record.verdict, record.error.type) == ("error", "ServerUnreachable")
    assert ([level.turns for level in record.levels], record.iterations) == ([1, 1], 2)


def test_a_fault_of_a_server_below_is_not_wrong(settings, sandbox):
    script = [code("print(rlm_query('c', 'q'))"), ProtocolError("garbled"), code("FINAL(1)")]
    record = measure(CELL, replace(settings, max_depth=2), Scripted(script), sandbox).record
    assert (record.verdict, record.error) == ("error", Failure("ProtocolError", "garbled"))


def test_a_cell_becomes_a_record(settings, client, sandbox):
    record = measure(CELL, settings, client, sandbox).record
    assert (record.verdict, record.prediction) == ("correct", record.gold)
    assert (record.run, record.git, record.ended_by) == ("a", "abc", "final")
    assert (record.usage.calls, record.usage.sub_calls) == (2, 1)
    assert record.time.wall > record.time.model > 0
    assert record.isolation["backend"] == "process"
    assert record.model.prompt == "full"
    kept = json.loads((settings.run / record.trace.path).read_bytes())
    assert Trajectory.from_dict(kept).usage.prompt_tokens == record.usage.prompt_tokens


def test_vanilla_that_does_not_fit_is_truncated_not_wrong(settings, client, sandbox):
    cell = Cell("long_doc_qa", 8192, 50, 0, "vanilla")
    record = measure(cell, settings, client, sandbox).record
    assert (record.verdict, record.error, record.usage.prompt_tokens) == ("truncated", None, 0)
    assert record.isolation == {}


def test_architectures_get_the_same_document(settings, client, sandbox):
    found = [
        measure(replace(CELL, architecture=name), settings, client, sandbox).record
        for name in ("vanilla", "rlm")
    ]
    assert found[0].doc == found[1].doc
    assert found[0].key != found[1].key


def test_a_done_cell_does_not_run(settings, client, sandbox):
    key = measure(CELL, settings, client, sandbox).key
    done = {key: "wrong"}
    assert measure(CELL, settings, client, sandbox, done=done) == Outcome(key, "wrong", None)


@pytest.mark.parametrize(
    "change",
    [
        *({"seed": 1}, {"split": "train"}, {"prompt": "compact"}, {"num_ctx": 4096}),
        {"sandbox": "bwrap"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_what_changes_a_result_changes_the_key(settings, client, sandbox, change):
    keys = {measure(CELL, s, client, sandbox).key for s in (settings, replace(settings, **change))}
    assert len(keys) == 2


def test_the_place_of_the_run_does_not_change_the_key(settings, client, sandbox, tmp_path):
    other = replace(settings, run=tmp_path / "b", environment={})
    assert measure(CELL, settings, client, sandbox).key == measure(CELL, other, client, sandbox).key


@pytest.mark.parametrize(
    ("error", "verdict", "is_bug"),
    [
        (ServerUnreachable("nobody at x"), "error", False),
        (CallTimeout("too slow"), "timeout", False),
        (ZeroDivisionError("oops"), "error", True),
    ],
)
def test_failures_become_verdicts(settings, sandbox, error, verdict, is_bug):
    def fails() -> Client:
        raise error

    outcome = runner.measure(CELL, settings, client=fails, sandbox=lambda: sandbox)
    assert outcome.verdict == verdict
    assert (outcome.bug is not None) == is_bug
    assert outcome.record.error == Failure(type(error).__name__, str(error))


def test_places_are_the_cells_that_need_not_run(settings, client, sandbox):
    record = measure(CELL, settings, client, sandbox).record
    info = client.info()
    assert runner.places([record], settings, info) == {CELL}
    assert runner.places([record], replace(settings, seed=1), info) == set()
    assert runner.places([record], settings, replace(info, window=1)) == set()
    assert runner.places([record], replace(settings, num_ctx=4096), info) == set()
    assert runner.places([record], settings, None) == set()


def test_an_unmeasured_cell_has_the_key_it_would_have_had(settings, client, sandbox):
    failure = runner.Failure("crashed", "gw0")
    record = runner.unmeasured(CELL, settings, client.info(), "crashed", failure)
    assert record.key == measure(CELL, settings, client, sandbox).key
    assert runner.unmeasured(CELL, settings, None, "crashed", failure).doc is None


@pytest.mark.parametrize("cell", [replace(CELL, task="theirs"), replace(CELL, length=10)])
def test_an_unmeasured_cell_without_a_document_is_kept(settings, client, cell):
    """Guards the session: this runs in a hook, where an exception would end it."""
    failure = runner.Failure("setup", "no coffee")
    record = runner.unmeasured(cell, settings, client.info(), "error", failure)
    assert (record.verdict, record.error, record.doc) == ("error", failure, None)
    assert record.key == record.bare_key


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(ProtocolError("HTTP 500: oops"), "error"), (CallTimeout("1 s"), "timeout")],
)
def test_a_fault_of_the_server_in_a_sub_call_is_no_wrong_answer(settings, sandbox, error, verdict):
    script = Scripted([code("FINAL(llm_query_batched(['x'])[0])"), error])
    record = measure(CELL, settings, script, sandbox).record
    assert (record.verdict, record.error) == (verdict, Failure(type(error).__name__, str(error)))
    assert record.prediction.startswith("Error: ")


def test_a_right_answer_in_spite_of_a_fault_is_right(settings, sandbox):
    found = code("llm_query_batched(['x'])\nFINAL(re.search(r'\\d{5}', context)[0])")
    record = measure(CELL, settings, Scripted([found, ProtocolError("oops")]), sandbox).record
    assert (record.verdict, record.error) == ("correct", None)


@pytest.mark.parametrize(
    ("error", "verdict"), [(ServerUnreachable("gone"), "error"), (CallTimeout("1 s"), "timeout")]
)
def test_a_cell_broken_off_keeps_what_it_did(settings, sandbox, error, verdict):
    client = Scripted([code("print(llm_query('x'))"), "4", error])
    record = measure(CELL, settings, client, sandbox).record
    assert (record.verdict, record.error) == (verdict, Failure(type(error).__name__, str(error)))
    assert (record.usage.calls, record.usage.sub_calls, record.iterations) == (2, 1, 1)
    assert (record.time.model, record.usage.prompt_tokens > 0) == (1.0, True)
    assert record.time.wall > record.time.sandbox > 0
    kept = Trajectory.from_dict(json.loads((settings.run / record.trace.path).read_bytes()))
    assert kept.calls[-1].error.endswith(str(error))


def test_a_trajectory_that_cannot_be_written_hides_no_error(settings, sandbox):
    settings.run.touch()
    record = measure(CELL, settings, Scripted([ServerUnreachable("gone")]), sandbox).record
    assert (record.error, record.trace) == (Failure("ServerUnreachable", "gone"), None)
    record = measure(CELL, settings, Scripted([code("FINAL(1)")]), sandbox).record
    assert (record.verdict, record.error.type) == ("error", "RecordError")


@pytest.mark.parametrize("architecture", ["vanilla", "rlm"])
def test_every_call_has_the_time_of_the_cell(settings, sandbox, architecture):
    client = Scripted([code("FINAL(1)")])
    record = measure(replace(CELL, architecture=architecture), settings, client, sandbox).record
    assert record.limits["cell_seconds"] == runner.CELL_SECONDS
    assert runner.CELL_SECONDS - 5 < client.options[0].seconds <= runner.CELL_SECONDS


def test_a_record_says_how_was_sampled(settings, client, sandbox):
    def options(architecture: str) -> dict:
        cell = replace(CELL, architecture=architecture)
        return measure(cell, replace(settings, num_ctx=4096), client, sandbox).record.model.options

    greedy = {"temperature": 0.0, "seed": 0}
    assert options("vanilla")["sampling"] == {"vanilla": {"max_tokens": 128, **greedy}}
    assert options("rlm") == {
        "num_ctx": 4096,
        **client.info().options,
        "sampling": {
            "root": {"max_tokens": 512, **greedy},
            "sub": {"max_tokens": 256, **greedy},
        },
    }


def test_another_python_makes_another_cell_where_code_runs(settings, client, sandbox, monkeypatch):
    """Guards runs continued with another Python, whose errors read otherwise."""
    both = [CELL, replace(CELL, architecture="vanilla")]
    found = [measure(cell, settings, client, sandbox).record for cell in both]
    monkeypatch.setattr(platform, "python_version_tuple", lambda: ("3", "99", "1"))
    assert runner.places(found, settings, client.info()) == {both[1]}
    keys = [measure(cell, settings, client, sandbox).key for cell in both]
    assert [keys[0] == found[0].key, keys[1] == found[1].key] == [False, True]


def test_a_cell_has_one_key_before_and_after_the_model_was_called(settings, sandbox, monkeypatch):
    """Guards a run continued on Ollama, where the live window may be less than the one asked."""
    keys = []
    with ollama_server(live=4096) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.address)
        for _ in range(2):
            with closing(connect("ollama/qwen3.5:2b")) as client:
                cell = replace(CELL, architecture="vanilla")
                records = [measure(cell, settings, client, sandbox).record for _ in range(2)]
            keys += [record.key for record in records]
    assert len(set(keys)) == 1
    assert records[1].model.window == 4096


def test_a_dump_is_cut_after_it_was_scored(settings, sandbox):
    """Guards reports and rows, which would hold the document."""
    dump = measure(CELL, settings, Scripted([code("FINAL(context)")]), sandbox).record
    assert (dump.verdict, dump.prediction_chars, len(dump.prediction)) == ("wrong", 4096, 2000)
    padded = code("FINAL('\"' * 3000 + re.search(r'\\d{5}', context)[0])")
    record = measure(CELL, settings, Scripted([padded]), sandbox).record
    assert (record.verdict, record.prediction) == ("correct", '"' * 2000)


def test_the_shortest_document_of_each_task_is_tried():
    cells = [replace(CELL, length=length) for length in (1024, 40)]
    other = replace(CELL, task="long_doc_qa", length=100)
    assert runner.too_short(cells, 0, "eval") == ""
    assert "long_doc_qa document of 400 characters" in runner.too_short([*cells, other], 0, "eval")


def test_commit_is_that_of_the_file_and_of_no_repository_around_it(tmp_path):
    """Guards a package installed within somebody's working tree."""

    def git(*command: str) -> None:
        who = ("-c", "user.name=x", "-c", "user.email=x@x")
        subprocess.run(("git", *who, *command), cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "-m", "theirs")
    file = tmp_path / "runner.py"
    file.touch()
    assert runner.commit(file) == ""
    git("add", "runner.py")
    git("commit", "-m", "ours")
    assert len(runner.commit(file)) == 12
    file.write_text("changed")
    assert runner.commit(file).endswith("-dirty")
    assert runner.commit(tmp_path / "absent" / "x.py") == ""


def test_environment_names_versions():
    found = runner.environment()
    assert found["versions"]["python"].startswith("3.")
    assert found["versions"]["rlm-bench"]
    assert found["host"]["processors"] >= 1


def test_a_draw_has_a_seed_of_its_own_for_all_architectures(settings, client, sandbox):
    warm = replace(settings, temperature=0.8)
    seen = {}
    for architecture in ("vanilla", "rlm"):
        for draw in (0, 1):
            cell = Cell("niah", 1024, 50, 0, architecture, draw=draw)
            record = measure(cell, warm, client, sandbox).record
            sampling = record.model.options["sampling"]
            assert {(s["temperature"], s["seed"]) for s in sampling.values()} == {(0.8, "draw")}
            kept = json.loads((warm.run / record.trace.path).read_bytes())
            seen[record.key] = (record.draw, record.doc.sha256, len(kept["calls"]))
    assert len(seen) == 4
    assert len({sha for _, sha, _ in seen.values()}) == 1


def test_temperature_0_leaves_the_key_as_it_is(settings, client, sandbox):
    greedy = measure(CELL, settings, client, sandbox).record
    again = measure(CELL, replace(settings, temperature=0.0), client, sandbox).record
    warm = measure(CELL, replace(settings, temperature=0.5), client, sandbox).record
    assert greedy.key == again.key != warm.key
    assert {s["seed"] for s in greedy.model.options["sampling"].values()} == {0}


def test_a_record_says_whether_grep_would_have_done(settings, client, sandbox):
    record = measure(replace(CELL, architecture="grep"), settings, client, sandbox).record
    assert record.grep == (record.verdict == "correct")
    assert (record.usage.calls, record.isolation) == (0, {})
    assert measure(CELL, settings, client, sandbox).record.grep == record.grep


def test_what_a_line_of_own_data_asks_is_in_the_key(settings, client, sandbox, tmp_path):
    keys = set()
    for question, answer in (("Which?", "12345"), ("Which one?", "12345"), ("Which?", "1234")):
        path = tmp_path / "mine.jsonl"
        line = {"context": "The number is 12345.", "query": question, "answer": answer}
        path.write_text(json.dumps(line) + "\n")
        data = own.load(path)
        tasks.register(data)
        (cell,) = data.cells(Grid(architectures=("vanilla",)))
        runner._make_item.cache_clear()
        keys.add(measure(cell, settings, client, sandbox).record.key)
    assert len(keys) == 3
