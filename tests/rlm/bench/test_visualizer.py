"""Logs of the official RLM visualizer: written, read again, shown."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import replace
from datetime import datetime
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from rlm import RLM, Trajectory, connect
from rlm.bench import records
from rlm.bench.report import logs
from rlm.bench.report.payload import pack
from rlm.bench.verify import read_trajectory
from rlm.bench.visualizer import export, read
from rlm.cli import main
from rlm.errors import ProtocolError, RecordError
from rlm.limits import Budget
from rlm.messages import Completion, Usage
from rlm.sandbox.base import CellResult, Final
from rlm.trajectory import Call, Cell, ChildRun, Turn
from tests.rlm.bench import deep_run
from tests.rlm.bench.test_records import record, stored
from tests.rlm.scripted import Scripted, code

THEIRS = [
    {
        "type": "metadata",
        "timestamp": "2026-01-13T13:25:38.248550",
        "root_model": "gpt-4o",
        "max_depth": 1,
        "max_iterations": 30,
        "backend": "openai",
        "backend_kwargs": {"model_name": "gpt-4o"},
        "environment_type": "local",
        "environment_kwargs": {},
        "other_backends": None,
    },
    {
        "type": "run_context",
        "timestamp": "2026-01-13T13:25:38.249350",
        "prompt": "a long text",
        "root_prompt": "Which tree?",
        "environment_type": "local",
        "environment_kwargs": {},
        "session_mode": False,
    },
    {
        "type": "iteration",
        "iteration": 1,
        "timestamp": "2026-01-13T13:25:40.494166",
        "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "begin"}],
        "response": "```repl\nprint(llm_query(context))\n```",
        "code_blocks": [
            {
                "code": "print(llm_query(context))",
                "result": {
                    "stdout": "an elm\n",
                    "stderr": "",
                    "locals": {"context": "a long text", "x": 3},
                    "execution_time": 1.5,
                    "rlm_calls": [
                        {
                            "root_model": "gpt-4o",
                            "prompt": "a long text",
                            "response": "an elm",
                            "usage_summary": {
                                "model_usage_summaries": {
                                    "gpt-4o": {
                                        "total_calls": 1,
                                        "total_input_tokens": 20,
                                        "total_output_tokens": 2,
                                    }
                                }
                            },
                            "execution_time": 1.0,
                        }
                    ],
                },
            }
        ],
        "final_answer": None,
        "iteration_time": 4.0,
    },
    {
        "type": "iteration",
        "iteration": 2,
        "timestamp": "2026-01-13T13:25:43.494166",
        "prompt": [
            {"role": "system", "content": "S"},
            {"role": "assistant", "content": "```repl\nprint(llm_query(context))\n```"},
            {"role": "user", "content": "Code executed:"},
            {"role": "user", "content": "Next:"},
        ],
        "response": "I know it.\nFINAL(an elm)",
        "code_blocks": [],
        "final_answer": ["FINAL", "an elm"],
        "iteration_time": 0.5,
    },
]
"""As the official logger writes it, in the smallest."""


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    return written(tmp_path / "theirs.jsonl", THEIRS)


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def again(tmp_path: Path, done: Trajectory) -> read.Log:
    """A trajectory that went through a log."""
    rows = list(export.lines(replace(record(), started="2026-11-21T17:00:00+00:00"), done))
    return read.read(written(tmp_path / "log.jsonl", rows))


def carried(done: Trajectory) -> Trajectory:
    """What the format carries of a trajectory; docs/visualizer.md names the rest."""
    calls = [call for call in done.calls if call.completion or call.kind == "sub"]
    children = [
        replace(
            child,
            call=sum(call in calls for call in done.calls[: child.call]),
            trajectory=carried(child.trajectory),
            truncated=False,
        )
        for child in done.children
    ]
    turns = [
        Turn(
            t.number,
            t.reply,
            tuple(map(cell, t.cells)),
            t.feedback,
            read.NOT_TAKEN * bool(t.rejected),
        )
        for t in done.turns
    ]
    return Trajectory(read.UNKNOWN, tuple(map(call_, calls)), tuple(turns), tuple(children))


def call_(call: Call) -> Call:
    done = call.completion
    if done is None:
        return replace(call, retries=())
    usage = done.usage if call.kind == "sub" else Usage(calls=1)
    wall = replace(done.times, queue=0.0, prefill=0.0, decode=0.0)
    return replace(
        call, completion=Completion(done.text, usage, "stop", None, times=wall), retries=()
    )


def cell(ran: Cell) -> Cell:
    r = ran.result
    status = "error" if r.status in ("timeout", "died") else r.status
    kept = CellResult(
        status, r.stdout, len(r.stdout), r.error, r.final, calls=r.calls, seconds=r.seconds
    )
    return Cell(ran.code, kept)


def plain(done: Trajectory) -> Any:
    """For comparing: a time that was added and taken away again differs in its last digits."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 6)
        if isinstance(value, dict):
            return {key: rounded(each) for key, each in value.items()}
        return [rounded(each) for each in value] if isinstance(value, list | tuple) else value

    return rounded(done.to_dict())


def test_a_loop_with_all_that_can_happen_comes_back(tmp_path):
    """Rejected, failed, refused, without code, and closed by the last call."""
    turns = [
        code("FINAL('early')"),
        code("a = llm_query('one')\nprint(a)", "b = llm_query('boom')"),
        "I do not know.",
        code("c = llm_query_batched(['one', 'one'])\nprint(c)"),
        "FINAL(two)",
    ]

    def reply(sent):
        if sent[0].role == "user":
            return ProtocolError("garbled") if "boom" in sent[0].content else "1\ud800"
        return turns[sum(message.role == "assistant" for message in sent)]

    answer = RLM(Scripted(reply), max_iterations=4).completion("word " * 4000, "How many?")
    done = answer.trajectory
    assert (answer.ended_by, answer.answer) == ("turns", "two")
    assert [bool(t.rejected) for t in done.turns] == [True, False, False, False]
    assert done.calls[3].error
    log = again(tmp_path, done)
    back, wanted = log.trajectory, carried(done)
    assert (log.answer, log.ended_by) == ("two", "turns")
    closing = done.calls[-1].messages[-1].content
    assert back.turns[-1].feedback.startswith(done.turns[-1].feedback)
    assert back.turns[-1].feedback.endswith(closing)  # they stand side by side in the prompt
    last = replace(back.turns[-1], feedback=done.turns[-1].feedback)
    back = replace(back, turns=(*back.turns[:-1], last))
    assert plain(back) == plain(wanted)


@pytest.mark.parametrize(
    "ending", [code("FINAL('an x')"), code("y = 'an x'", "FINAL_VAR(y)"), "So:\nFINAL(an x)"]
)
def test_each_way_to_end_comes_back(tmp_path, ending):
    answer = RLM(Scripted([code("print(1)"), ending])).completion("short", "What?")
    log = again(tmp_path, answer.trajectory)
    assert (log.answer, log.ended_by) == ("an x", answer.ended_by)
    assert plain(log.trajectory) == plain(carried(answer.trajectory))


def test_loops_below_come_back(tmp_path, capsys):
    """Through the command, and a run on disk."""
    run = tmp_path / "deep"
    deep_run.write(run, deep_run.ITEM.gold)
    assert main(["export", str(run), "-o", str(tmp_path / "logs")]) == 0
    told = capsys.readouterr()
    (path,) = map(Path, told.out.splitlines())
    assert re.fullmatch(r"niah_L8k-d50-s0-rlm_[0-9a-f]{8}\.jsonl", path.name)
    assert told.err == "left out, without a loop to show: 1\n"  # vanilla
    row = next(r for r in records.load(run) if r.architecture == "rlm")
    done = read_trajectory(run, row)
    log = read.read(path)
    (child,) = log.trajectory.children
    assert child.query == done.children[0].query
    assert child.chars == done.children[0].chars
    assert child.trajectory.turns
    assert plain(log.trajectory) == plain(carried(done))
    assert (log.answer, log.model) == (row.prediction, row.model.spec)


def test_deeper_loops_and_failed_ones_come_back(tmp_path):
    call = Call.answered("root", 1, (), Completion("r", Usage(calls=1), "stop", None))
    final = CellResult("final", final=Final("a", "FINAL"))

    def loop(*children: ChildRun) -> Trajectory:
        turn = Turn(1, "r", (Cell("FINAL(1)", replace(final, calls=len(children))),))
        return Trajectory(read.UNKNOWN, (call,), (turn,), children)

    broken = ChildRun(1, 1, 1, 7, "q", Trajectory(read.UNKNOWN), error="PromptTooLong: no")
    middle = ChildRun(1, 1, 1, 8, "q", loop(broken), "a", "final")
    done = loop(middle)
    assert plain(again(tmp_path, done).trajectory) == plain(done)


def test_a_real_trajectory_comes_back(tmp_path):
    """The embedded model, on 50,000 characters."""
    text = "The river was calm. " * 1250
    text += "The Lash Dividend factory produced 58411 bicycles in its best month. " + text
    client = connect("embedded")
    try:
        question = "How many bicycles did the Lash Dividend factory produce in its best month?"
        answer = RLM(client).completion(text, question)
    finally:
        client.close()
    assert answer.sub_calls
    log = again(tmp_path, answer.trajectory)
    assert log.answer == answer.answer
    assert plain(log.trajectory) == plain(carried(answer.trajectory))


def test_the_lines_are_those_of_the_official_log(tmp_path):
    """Fields, and their order, of each line and part that the official logger writes."""
    run = tmp_path / "deep"
    deep_run.write(run, deep_run.ITEM.gold)
    row = next(r for r in records.load(run) if r.architecture == "rlm")
    metadata, first, *_ = export.lines(row, read_trajectory(run, row))
    assert list(metadata) == list(THEIRS[0])
    assert sorted(first) == sorted(THEIRS[2])
    official, block = THEIRS[2]["code_blocks"][0], first["code_blocks"][0]
    assert list(block) == list(official)
    assert [k for k in block["result"] if k != "final_answer"] == list(official["result"])
    call = first["code_blocks"][0]["result"]["rlm_calls"][0]
    more = {"prompt_tokens", "completion_tokens", "metadata"}
    assert set(call) == set(official["result"]["rlm_calls"][0]) | more
    assert list(call["metadata"]) == ["run_metadata", "iterations"]
    assert set(call["metadata"]["run_metadata"]) == set(THEIRS[0]) - {"type", "timestamp"}
    assert call["execution_time"] <= block["result"]["execution_time"] <= first["iteration_time"]
    started, ended = (datetime.fromisoformat(x["timestamp"]) for x in (metadata, first))
    assert (ended - started).total_seconds() == pytest.approx(first["iteration_time"], abs=1e-5)


def test_a_log_of_the_official_loop_is_read(theirs):
    log = read.read(theirs)
    assert (log.name, log.model, log.question) == ("theirs", "gpt-4o", "Which tree?")
    assert (log.answer, log.ended_by, log.seconds) == ("an elm", "text", 4.5)
    first, second = log.trajectory.turns
    assert first.feedback == "Code executed:\n\nNext:"
    result = first.cells[0].result
    assert (result.status, result.seconds, result.variables) == ("ok", 0.5, ("context", "x"))
    root, sub, _ = log.trajectory.calls
    assert root.completion.times.wall == 2.5
    assert sub.completion.usage == Usage(20, 2, 1)
    assert (second.cells, second.feedback) == ((), "")


def test_loops_below_of_others_have_their_context_as_prompt(tmp_path):
    rows = json.loads(json.dumps(THEIRS))
    made = rows[2]["code_blocks"][0]["result"]["rlm_calls"][0]
    made["metadata"] = {"run_metadata": THEIRS[0], "iterations": [THEIRS[3]]}
    log = read.read(written(tmp_path / "a.jsonl", rows))
    (child,) = log.trajectory.children
    assert (child.chars, child.query, child.answer) == (11, "a long text", "an elm")
    assert child.trajectory.turns[0].reply == THEIRS[3]["response"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no iteration: it is no log of the RLM visualizer"),
        ('{"type": "metadata"}\n', "holds no iteration"),
        ("[1]\n", "log.jsonl:1 is no line of a log"),
        ('\n{"response": "x"}\n', "log.jsonl:2 is not of a log of the RLM visualizer (no"),
        ("{\n", "log.jsonl:1 is no line of a log"),
        ('{"prompt": [], "response": "", "code_blocks": [{"code": 1}]}', "KeyError('result')"),
    ],
)
def test_what_is_no_log_is_told(tmp_path, text, told):
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(RecordError, match=re.escape(told)):
        read.read(path)


TURN = '{"prompt": [], "response": "", "code_blocks": [], %s}'
CALL = """"code_blocks": [{"code": "", "result": {"rlm_calls": [{"prompt": "", "response": "",
"metadata": {"iterations": [{"prompt": "", "response": "", %s}]}}]}}]""".replace("\n", "")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (TURN % '"final_answer": []', "IndexError"),
        (TURN % '"iteration_time": NaN', "nan is no time in seconds"),
        (TURN % '"iteration_time": "inf"', "'inf' is no time in seconds"),
        (TURN % '"iteration_time": 1e999', "inf is no time in seconds"),
        (TURN % ('"x": ' + "[" * 100_000), "RecursionError"),
        (TURN % reduce(lambda inner, _: CALL % inner, range(40), '"code_blocks": []'), "32 levels"),
        (json.dumps(THEIRS[2]).replace("20,", "Infinity,"), "OverflowError"),
        (json.dumps(THEIRS[2]).replace("20,", "-1,"), "-1 is no count"),
    ],
)
def test_a_malformed_line_is_told_by_its_number(tmp_path, line, told):
    path = written(tmp_path / "log.jsonl", THEIRS[:2])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(RecordError, match=rf"log\.jsonl:3 is no line of a log: .*{told}"):
        read.read(path)


def test_the_deepest_log_that_is_read_is_shown(tmp_path):
    """What reads a log stops before what shows it runs out of room."""
    loops = reduce(lambda inner, _: CALL % inner, range(read.LEVELS - 1), '"code_blocks": []')
    path = tmp_path / "log.jsonl"
    path.write_text(TURN % loops + "\n")
    page = logs.render([read.read(path)])
    assert json.dumps(unpacked(page, "chunk0")).count('"kind": "loop"') == read.LEVELS - 1


def test_variables_that_are_no_numbers_and_odd_line_breaks_are_read(tmp_path):
    """Python's json writes NaN, and JSON allows U+2028 and U+0085 inside a text."""
    rows = json.loads(json.dumps(THEIRS))
    rows[2]["code_blocks"][0]["result"]["locals"] = {"x": float("nan")}
    rows[3]["response"] = "one\u2028two\u0085three"
    path = tmp_path / "log.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    first, last = read.read(path).trajectory.turns
    assert first.cells[0].result.variables == ("x",)
    assert last.reply == "one\u2028two\u0085three"


def test_a_page_never_holds_what_no_browser_reads():
    with pytest.raises(ValueError, match="not JSON compliant"):
        pack([float("nan")])


def unpacked(text: str, name: str):
    (found,) = re.findall(f'<script type="text/plain" id="{name}"[^>]*>(.*?)</script>', text)
    return json.loads(gzip.decompress(base64.b64decode(found)))


def test_a_page_of_logs_is_no_page_of_results(theirs, tmp_path, monkeypatch, capsys):
    """Nothing was scored: no verdict, no gold answer, no count that nobody made."""
    monkeypatch.chdir(tmp_path)
    assert main(["report", "theirs.jsonl"]) == 0
    assert re.fullmatch(r"report\.html: 0\.\d MB\n", capsys.readouterr().out)
    text = Path("report.html").read_text()
    static = text.split('<script type="text/plain"')[0]
    assert "1 imported log" in static
    assert "nothing in them was scored" in static
    (row,), (detail,) = unpacked(text, "index"), unpacked(text, "chunk0")
    assert (row["name"], row["answers"], detail["gold"]) == ("theirs", [], None)
    (entry,) = detail["entries"]
    assert (entry["verdict"], entry["mark"]) == ("", "imported, not scored")
    assert entry["tokens"] is None
    (sub,) = entry["turns"][0]["cells"][0]["subs"]
    assert (sub["tokens"], sub["answer"]) == ([20, 2], "an elm")
    assert not (tmp_path / "runs").exists()


def test_hostile_logs_are_text(tmp_path):
    evil = "</script><script>window.hacked = 1</script>\x1b\ud800"
    rows = json.loads(json.dumps(THEIRS).replace("gpt-4o", json.dumps(evil)[1:-1]))
    rows[3]["final_answer"] = evil
    text = logs.render([read.read(written(tmp_path / "<b>.jsonl", rows))])
    assert "<script>window" not in text
    assert "<b>" not in text
    text.encode()


def test_the_results_of_a_run_are_the_run(tmp_path, monkeypatch, capsys):
    """A file that the shell completes; another of the kind is told to be no log."""
    monkeypatch.chdir(tmp_path)
    stored(Path("first"), record())
    assert main(["report", "first/results.jsonl"]) == 0
    assert "<h1>first</h1>" in Path("report.html").read_text()
    Path("first/results.jsonl").rename("copy.jsonl")
    assert main(["report", "copy.jsonl"]) == 1
    assert "(no field code_blocks); for a run name its folder" in capsys.readouterr().err


def test_a_loop_that_had_only_its_last_call_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    answer = RLM(Scripted(["an elm"]), budget=Budget(calls=1)).completion("short", "Which?")
    assert not answer.trajectory.turns
    row = record()
    trace = records.write_trace(Path("runs/a"), row.key, answer.trajectory.to_dict())
    stored(Path("runs/a"), replace(row, trace=trace))
    assert main(["export", "a"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    log = read.read(Path(told.out.strip()))
    assert (log.answer, log.trajectory.turns) == ("an elm", ())


def test_a_folder_of_logs_and_its_name(theirs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("many").mkdir()
    for name in ("b", "a"):
        written(Path("many", f"{name}.jsonl"), THEIRS)
    assert main(["report", "many", "-o", "many.html"]) == 0
    told = "note: many is no run; its *.jsonl are read as logs: 2 files\n"
    assert capsys.readouterr().err == told
    assert [row["name"] for row in unpacked(Path("many.html").read_text(), "index")] == ["a", "b"]
    stored(Path("runs/many"), record())
    assert main(["report", "many"]) == 0  # a run of that name comes first
    assert "<h1>many</h1>" in Path("report.html").read_text()
    capsys.readouterr()
    assert main(["report", "many", "theirs.jsonl"]) == 2
    assert "theirs.jsonl holds logs and many is a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args",
    [
        ["report", "theirs.jsonl", "-o", "./theirs.jsonl"],
        ["report", "a", "-o", "runs/a/results.jsonl"],
        ["table", "a", "-o", "runs/a/results.jsonl"],
    ],
)
def test_what_is_read_is_never_replaced(theirs, tmp_path, monkeypatch, capsys, args):
    monkeypatch.chdir(tmp_path)
    stored(Path("runs/a"), record())
    before = Path(args[-1]).read_bytes()
    assert main(args) == 2
    assert "is what is read, and would be replaced: choose" in capsys.readouterr().err
    assert Path(args[-1]).read_bytes() == before


@pytest.mark.parametrize(
    ("args", "status", "told"),
    [
        (["nowhere"], 2, "unknown run 'nowhere'; there are: a"),
        (["a", "nothing"], 2, "no cell of runs/a has 'nothing' in its name: there is niah[L1k"),
        (["a"], 1, "left out, without a loop to show: 1"),
        (["deep", "-o", "runs/a/results.jsonl"], 2, "choose another folder with -o"),
    ],
)
def test_what_cannot_be_exported_is_told(tmp_path, monkeypatch, capsys, args, status, told):
    monkeypatch.chdir(tmp_path)
    row = replace(record("a", "error"), scores=None)
    stored(Path("runs/a"), row)
    if "deep" in args:
        deep_run.write(Path("runs/deep"), deep_run.ITEM.gold)
    assert main(["export", *args]) == status
    assert told in capsys.readouterr().err
