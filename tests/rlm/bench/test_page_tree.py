"""What report and table tell of loops within loops and of documents cut on purpose."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest

import rlm.bench
from rlm.bench import evidence, records
from rlm.bench.made import dealt
from rlm.bench.report import figures, page, payload
from rlm.bench.report.figures import Query
from rlm.bench.verify import read_trajectory
from rlm.messages import Completion, Message, Usage
from rlm.overflow import Cut
from rlm.sandbox.base import CellResult
from rlm.trajectory import Call, Cell, ChildRun, Trajectory, Turn
from tests.rlm.bench import deep_run
from tests.rlm.bench.test_records import record

QUERY = Query(0, "niah", "tokens")
LOST = {"cut": Cut("head", ((0, 400),), 4096, "server", 100, 100), "evidence": "lost"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep") / "run"
    deep_run.write(folder, deep_run.ITEM.gold)
    return folder


@pytest.fixture(scope="module")
def entries(run: Path) -> dict[str, payload.Data]:
    """What the page shows of the cells, by architecture."""
    reader = payload._Reader(str(run))
    reader.row({r.architecture: r for r in records.load(run)})
    return {entry["architecture"]: entry for entry in reader.detail["entries"]}


def asked(call: payload.Data) -> str:
    return "".join(str(text) for _, text in call["sent"])


def test_evidence_that_a_loop_below_read_was_seen(run):
    """Guards the causes: what a loop below saw was once "never looked"."""
    row = records.load(run)[0]
    trajectory = read_trajectory(run, row)
    read = evidence.reading(deep_run.ITEM, trajectory)
    assert (row.verdict, read.seen) == ("wrong", (True,))
    assert read.printed
    assert read.passed
    assert evidence.cause(row, deep_run.ITEM, trajectory) == "bad FINAL"
    child = trajectory.children[0].trajectory
    calls = [
        replace(c, completion=replace(c.completion, text="7")) if c.kind == "sub" else c
        for c in child.calls
    ]
    wrong = replace(
        trajectory,
        children=(replace(trajectory.children[0], trajectory=replace(child, calls=tuple(calls))),),
    )
    assert evidence.cause(row, deep_run.ITEM, wrong) == "sub-call wrong"


def nested(run: Path, *, answer: str, status: str = "ok", kind: str = "root") -> Trajectory:
    """A loop whose loop below was shown the evidence, by a call of `kind`, and gave `answer`."""
    span = deep_run.ITEM.spans[0]
    sent = (Message("user", deep_run.ITEM.document[span.start - 60 : span.end + 60]),)
    shown = Call(kind, 1, sent, Completion("x", Usage(1, 1, 1), "stop", 4096))
    turn = Turn(1, "x", (Cell("x", CellResult(status)),))
    inner = ChildRun(1, 1, 0, 9, "q", Trajectory("v1", (shown,), (turn,)), answer, "final")
    return Trajectory("v1", (), (Turn(1, "x", (Cell("x", CellResult("ok")),)),), (inner,))


@pytest.mark.parametrize(
    ("answer", "status", "why"),
    [
        (deep_run.ITEM.gold, "ok", "bad FINAL"),
        ("7", "ok", "misread"),
        ("7", "died", "sandbox"),
    ],
)
def test_causes_look_below(run, answer, status, why):
    row = records.load(run)[0]
    told = nested(run, answer=answer, status=status)
    assert evidence.cause(row, deep_run.ITEM, told) == why


def test_a_right_guess_below_without_the_evidence_is_not_a_bad_final(run):
    row = records.load(run)[0]
    below = nested(run, answer=deep_run.ITEM.gold)
    blind = replace(below.children[0], trajectory=Trajectory("v1"))
    told = replace(below, children=(blind,))
    assert evidence.cause(row, deep_run.ITEM, told) == "never looked"


def test_what_the_model_saw_is_the_prompt_and_not_the_sample(entries):
    vanilla = entries["vanilla"]
    sent = asked(vanilla)
    assert deep_run.ITEM.document[:700] in sent
    assert "[...]" in sent
    assert [(call["kind"], bool(call["sent"])) for call in vanilla["others"]] == [
        ("sample", True),
        ("vanilla", False),
    ]


def test_a_loop_stands_in_its_cell_with_its_turns_and_sub_calls_in_theirs(entries):
    first, last = entries["rlm"]["turns"]
    (loop,), (sub,) = (cell["subs"] for cell in first["cells"])
    assert (loop["kind"], loop["ended_by"], loop["answer"]) == ("loop", "final", deep_run.WRONG)
    assert (loop["chars"], loop["query"]) == (len(deep_run.ITEM.document), deep_run.ITEM.question)
    assert asked(sub) == "A greeting, please"
    assert (first["subs"], last["subs"], entries["rlm"]["others"]) == ([], [], [])
    assert [turn["number"] for turn in loop["turns"]] == [1, 2, 3]
    ((inner,),) = (cell["subs"] for cell in loop["turns"][1]["cells"])
    assert inner["answer"] == deep_run.ITEM.gold


def called(*calls: int) -> Turn:
    return Turn(1, "x", tuple(Cell("x", CellResult("ok", calls=n)) for n in calls))


@pytest.mark.parametrize(
    ("calls", "made", "found"),
    [
        ((1, 1), [(1, "loop"), (0, "sub")], [["loop"], ["sub"], []]),
        ((2, 1), [(0, "a"), (1, "loop"), (0, "b")], [["a", "loop"], ["b"], []]),
        ((2, 2), [(1, "l1"), (0, "a"), (2, "l2"), (0, "b")], [["l1", "a"], ["l2", "b"], []]),
        ((3, 2), [(0, "a"), (2, "loop"), (0, "b")], [["a"], ["loop", "b"], []]),
        ((1,), [(0, "a"), (0, "b"), (2, "loop")], [["a"], ["b", "loop"]]),
    ],
)
def test_calls_are_dealt_to_the_cells_that_made_them(calls, made, found):
    """In the last but one case two calls of the first cell were refused, and are not recorded."""
    assert dealt(called(*calls), made) == found


def test_loops_stand_in_loops_and_those_of_a_broken_turn_beside_the_turns():
    def opened(below: Trajectory, turn: int = 1) -> Trajectory:
        child = ChildRun(turn, 1, 0, 9, "q", below, "a", "final")
        return Trajectory("v1", (), (called(1),), (child,))

    story = payload.story(opened(opened(Trajectory("v1"))), [])
    (loop,) = story["turns"][0]["cells"][0]["subs"]
    (deepest,) = loop["turns"][0]["cells"][0]["subs"]
    assert (deepest["kind"], deepest["turns"]) == ("loop", [])
    (stray,) = payload.story(opened(Trajectory("v1"), turn=2), [])["others"]
    assert stray["kind"] == "loop"


def test_an_item_says_what_was_cut(run, entries):
    row = records.load(run)[1]
    shown = entries["vanilla"]
    assert (row.verdict, shown["mark"]) == ("correct", "cut on purpose, evidence lost")
    ((start, end),) = shown["cut"]["kept"]
    assert shown["cut"]["left_out"] == ((end, row.cut.chars),)
    assert (start, shown["cut"]["method"]) == (0, "head")
    assert (entries["rlm"]["mark"], entries["rlm"]["cut"]) == ("", None)


def test_the_page_explains_cuts(run):
    text = html.unescape(page.render([str(run), str(run)]))
    tips = re.findall(r'data-tip="([^"]*)"', text)
    told = "1 cut on purpose (1 lost)"
    assert f"vanilla, 8k, depth 50 %: no answer to a whole document: {told}; n = 1" in tips
    assert any(tip.startswith("vanilla 8k: 1 of 1 [") and tip.endswith(told) for tip in tips)
    assert any("no pair has an answer to the whole document on both sides" in tip for tip in tips)
    assert text.count('<circle class="part"') == 4  # a point of each run, and its key
    line = "cut: answers to a part of the document, the rest was left out by --rlm-overflow head; "
    assert f"<li>{line}lost: what was left out held evidence</li>" in text
    assert "documents cut on purpose: 1 of 1 in " in text
    assert "could not be read, cut on purpose, or not measured: never counted as wrong" in text


def test_a_cut_answer_counts_as_no_answer_in_a_square():
    cells = [
        replace(record(), architecture="vanilla"),
        replace(record(), architecture="vanilla", sample=1, verdict="wrong", **LOST),
    ]
    ((square,),) = (heat_map.squares for heat_map in figures.heat_maps(cells, QUERY))
    assert (square.text, square.hatched) == ("1/1", True)
    assert "1 of 1 answers right" in square.tip
    assert square.tip.endswith("; 1 cut on purpose (1 lost); n = 2")
    ((point,),) = (curve.points for curve in figures.plot(cells).curves)
    assert point.part
    ((whole,),) = (curve.points for curve in figures.plot(cells[:1]).curves)
    assert not whole.part


def test_a_table_tells_cuts_and_levels(run):
    deep, cut = rlm.bench.load(run).itertuples()
    assert (deep.cut, deep.evidence, deep.overflow) == ("", "", "")
    assert (deep.answered, deep.max_depth, deep.levels) == (True, 2, 2)
    assert (cut.cut, cut.evidence, cut.overflow) == ("head", "lost", "head")
    assert (cut.correct, cut.answered, cut.max_depth, cut.levels) == (True, False, 1, 1)
    assert 0 < cut.kept_chars < cut.chars
