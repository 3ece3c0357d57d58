"""A person's own data: files of any kind, lines of any kind, and cells like all others."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.bench import runner, tasks
from rlm.bench.grid import Grid
from rlm.bench.runner import Settings
from rlm.bench.tasks.given import EVIDENCE, REACH, SHOWN, Given, Line, evidence
from rlm.bench.tasks.own import load
from rlm.clients import connect
from rlm.clients.base import Client
from rlm.errors import UsageError
from rlm.sandbox import Sandbox, open_sandbox
from tests.rlm.bench import published
from tests.servers.reader import ReaderServer

GOOD = {
    "context": "Rome is old. The code is 48213. Bye.",
    "query": "Which code?",
    "answer": "48213",
}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes rows, or lines as they are, to a file."""

    def write(*lines: object, name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        texts = (x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines)
        path.write_bytes(b"".join(text + b"\n" for text in texts))
        return path

    return write


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with ReaderServer() as server, closing(connect(server.spec)) as opened:
        yield opened


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with closing(open_sandbox()) as opened:
        yield opened


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Given]:
    """Loads a file and makes it a task, for one test."""
    monkeypatch.setattr(tasks, "_TASKS", dict(tasks._TASKS))

    def known(path: Path) -> Given:
        runner._make_item.cache_clear()
        data = load(path)
        tasks.register(data)
        return data

    return known


def test_a_file_becomes_items(write):
    path = write(GOOD, {**GOOD, "query": "Again?", "answer": ["48213", "forty"], "id": "b"})
    data = load(path)
    assert (data.name, data.path, data.problems) == ("own-data", path, ())
    assert data.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    item = data.item(1)
    assert (item.task, item.document, item.question) == (data.name, GOOD["context"], "Which code?")
    assert (item.gold, item.answers, item.scorer) == ("48213", ("48213",), "exact")
    assert (data.item(2).gold, data.item(2).question) == ('["48213", "forty"]', "Again?")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "no JSON: Expecting property name .* at character 3"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "no JSON that can be read: .*recursion"),
        (b"[1]", "no JSON object"),
        ({}, "no field 'context'; needed are: .*; there are: none"),
        ({"context": "x", "query": "y"}, "no field 'answer'; .*; there are: 'context', 'query'"),
        ({**GOOD, "scorers": "set"}, r"unknown field 'scorers' \(did you mean 'scorer'\?\)"),
        (
            {"context": "x", "query": "y", "Answer": "z"},
            r"unknown field 'Answer' \(did you mean 'answer'\?\)",
        ),
        ({**GOOD, "context": ""}, "field 'context' is empty"),
        ({**GOOD, "context": 7}, "field 'context' must be a text, not 7"),
        ({**GOOD, "context": " \n"}, "field 'context' is empty"),
        ({**GOOD, "context": "a\ud800"}, r"field 'context' has half a character \(\\ud800\)"),
        ({**GOOD, "context": {"path": "x"}}, "field 'context' must be a text, or .*file"),
        ({**GOOD, "context": {"file": "no.txt"}}, "cannot read the file 'no.txt': No such file"),
        ({**GOOD, "context": {"file": "."}}, "cannot read the file '.': Is a directory"),
        ({**GOOD, "context": {"file": "a\0"}}, "cannot read the file 'a.x00': .*embedded null"),
        ({**GOOD, "query": None}, "field 'query' must be a text, not null"),
        ({**GOOD, "answer": []}, "field 'answer' is an empty list"),
        ({**GOOD, "answer": ["a", " "]}, "field 'answer' is empty"),
        ({**GOOD, "answer": 1.5}, "field 'answer' must be a text, not 1.5"),
        ({**GOOD, "answer": True}, "field 'answer' must be a text, not true"),
        ({**GOOD, "answer": "?!"}, "field 'answer' '.!' holds nothing but quotes and marks"),
        ({**GOOD, "scorer": "contains"}, 'unknown scorer "contains"; there are: exact, set, count'),
        ({**GOOD, "scorer": ["set"]}, r'unknown scorer \["set"\]'),
        (
            {**GOOD, "scorer": "set"},
            r"field 'answer' must be a list for the scorer 'set', such as \[\"48213\"\]",
        ),
        (
            {**GOOD, "scorer": "count", "answer": "7.5"},
            "field 'answer' must be a whole number .*, not .7.5.$",
        ),
        (
            {**GOOD, "scorer": "regex", "answer": "(a"},
            "field 'answer' .* is no regular expression: missing \\)",
        ),
        (
            {**GOOD, "scorer": "regex", "answer": "[[a]"},
            "field 'answer' .* is no regular expression: Possible nested",
        ),
        ({**GOOD, "scorer": "regex", "answer": ["a"]}, "field 'answer' must be a single pattern"),
        ({**GOOD, "id": "a"}, "the id 'a' is that of line 1, too"),
        ({**GOOD, "id": ["a"]}, "field 'id' must be a text, not "),
    ],
)
def test_a_broken_line_is_told_and_the_rest_goes_on(write, line, says):
    data = load(write({**GOOD, "id": "a"}, line, GOOD))
    assert [each.number for each in data.lines] == [1, 3]
    (problem,) = data.problems
    assert problem.number == 2
    assert re.match(says, problem.text)
    told = data.told()
    assert told[0] == f"own-data: 2 lines of {data.path}, 1 left out"
    assert told[1] == f"data.jsonl:2: {problem.text}"


def test_many_problems_are_counted(write):
    told = load(write(GOOD, *[b"{"] * 30)).told()
    assert (len(told), told[-1]) == (1 + SHOWN + 1, "and 20 more")


def test_what_a_file_may_hold_besides(write, tmp_path):
    """Blank lines, a byte order mark, Windows line ends, no last line end, fields of its own."""
    text = json.dumps({**GOOD, "source": "x", "difficulty": 3, "idx": 9}).encode()
    path = write(b"\xef\xbb\xbf" + text + b"\r", b"", b"  ", text)
    path.write_bytes(path.read_bytes()[:-1])
    data = load(path)
    assert ([line.number for line in data.lines], data.problems) == ([1, 4], ())
    assert data.item(1).document == data.item(4).document == GOOD["context"]


def test_lines_are_not_searched_for_each_item(write):
    """Guards a run of many thousands of rows, each of which looked at all before it."""

    class Counted(tuple[Line, ...]):
        looks = 0

        def __iter__(self) -> Iterator[Line]:
            Counted.looks += 1
            return super().__iter__()

    data = load(write(GOOD, GOOD | {"answer": "Rome"}))
    counted = replace(data, lines=Counted(data.lines))
    before = Counted.looks
    assert [counted.item(number).gold for number in (2, 1, 2)] == ["Rome", "48213", "Rome"]
    with pytest.raises(UsageError, match="no usable line 3"):
        counted.item(3)
    assert Counted.looks == before


@pytest.mark.parametrize("name", ["data.json", "data.parquet"])
def test_rows_may_stand_in_an_array_or_in_parquet(tmp_path, name):
    other = {**GOOD, "answer": "Rome"}
    data = load(published.write(tmp_path / name, GOOD, {**GOOD, "query": ""}, other))
    assert [line.number for line in data.lines] == [1, 3]
    assert (data.item(3).gold, data.item(1).gold) == ("Rome", "48213")
    assert data.told()[1] == f"{name}:2: field 'query' is empty"


@pytest.mark.parametrize("lines", [(), (b"", b""), (b"nothing", b"of use")], ids=len)
def test_a_file_without_a_good_line_is_refused(write, lines):
    with pytest.raises(UsageError, match=r"has no usable line .*write one JSON object a line"):
        load(write(*lines))


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*absent.jsonl: No such file"):
        load(tmp_path / "absent.jsonl")
    with pytest.raises(UsageError, match=r"cannot read .*: Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "task"),
    [("a.jsonl", "own-a"), ("my data, v2.jsonl", "own-my-data-v2"), ("x", "own-x")],
)
def test_the_name_of_a_task_can_stand_in_a_list_of_options(write, name, task):
    assert load(write(GOOD, name=name)).name == task


def test_a_context_in_a_file_beside(write, tmp_path):
    (tmp_path / "texts").mkdir()
    text = "Line\r\nends stay. Ünd 48213."
    (tmp_path / "texts" / "a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    data = load(write({**GOOD, "context": {"file": "texts/a.txt"}}))
    assert (data.item(1).document, data.lines[0].chars) == (text, len(text))


def test_a_file_outside_of_the_folder_is_not_read(write, tmp_path):
    """Guards a person's files from data that another person wrote."""
    folder = tmp_path / "inner"
    folder.mkdir()
    secret = tmp_path / "secret.txt"
    secret.write_text("s", encoding="utf-8")
    (folder / "link.txt").symlink_to(secret)
    names = ("../secret.txt", str(secret), "link.txt")
    rows = [{**GOOD, "context": {"file": name}} for name in names]
    data = load(write(GOOD, *rows, name="inner/data.jsonl"))
    assert len(data.problems) == 3
    assert all("lies outside of" in problem.text for problem in data.problems)


def test_a_context_that_is_no_text(write, tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF\xff")
    (tmp_path / "b.txt").write_bytes(b"\n")
    rows = [{**GOOD, "context": {"file": name}} for name in ("a.pdf", "b.txt")]
    found = [problem.text for problem in load(write(GOOD, *rows)).problems]
    assert found == ["the file 'a.pdf' is no text in UTF-8", "the file 'b.txt' is empty"]


def test_a_changed_line_is_noticed_and_an_appended_one_is_none(write):
    path = write(GOOD, GOOD)
    data = load(path)
    text = path.read_bytes()
    path.write_bytes(text + text)
    assert data.item(1).gold == "48213"
    path.write_bytes(text[:-20] + b"x" + text[-19:])
    with pytest.raises(
        UsageError, match=r"line 2 of .*data.jsonl.* was changed during the session"
    ):
        data.item(2)
    path.unlink()
    with pytest.raises(UsageError, match=r"line 2 of .* was changed"):
        data.item(2)
    with pytest.raises(UsageError, match="has no usable line 3"):
        data.item(3)


def test_a_changed_context_is_noticed(write, tmp_path):
    (tmp_path / "a.txt").write_text("before", encoding="utf-8")
    data = load(write({**GOOD, "context": {"file": "a.txt"}}))
    (tmp_path / "a.txt").write_text("behind", encoding="utf-8")
    os.utime(tmp_path / "a.txt", ns=(1, 1))
    with pytest.raises(UsageError, match=r"line 1 of .*, or the file that it names, was changed"):
        data.item(1)


def test_the_evidence_is_where_the_answer_stands(write):
    text = "No code 148213. First. Not 48213! The 48213, and 48213 again.\nEnd 48213"
    item = load(write({**GOOD, "context": text})).item(1)
    assert [text[span.start : span.end] for span in item.spans] == [
        "Not 48213!",
        "The 48213, and 48213 again.",
        "End 48213",
    ]
    assert item.depth == text.index("Not") / len(text)


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"answer": "Oslo"}, 0),
        ({"answer": ["oslo", "ROME"]}, 1),
        ({"answer": ["Rome", "48213"], "scorer": "set"}, 2),
        ({"answer": 48213, "scorer": "count"}, 0),
        ({"answer": "Rome", "scorer": "regex"}, 0),
        ({"answer": "x", "context": "x. " * 1000}, EVIDENCE),
    ],
)
def test_there_may_be_no_evidence(write, fields, count):
    item = load(write({**GOOD, **fields})).item(1)
    assert len(item.spans) == count
    assert 0 <= item.depth < 1


@given(st.text("a .!\n", max_size=2000), st.text("a .!\n", max_size=2000))
def test_every_span_holds_its_answer(before, behind):
    document = f"{before} 48213 {behind}"
    (span,) = evidence(document, ["48213"])
    assert "48213" in document[span.start : span.end]
    assert 0 <= span.start < span.end <= len(document)
    assert span.end - span.start <= 5 + 2 * REACH


@given(st.integers(1, 10**8))
def test_a_length_is_the_smallest_that_holds_the_document(chars):
    length = Line(1, Path(), 1, 0, 0, "", chars).length
    assert chars <= 4 * length
    assert length == 1024 or chars > 4 * length // 2
    assert length.bit_count() == 1


def test_cells_are_the_lines_by_draw_and_architecture(write):
    data = load(write(GOOD, b"{", {**GOOD, "context": "x" * 5000}))
    cells = list(data.cells(Grid(samples=9, unit="chars", draws=2, architectures=("a", "b"))))
    ids = [cell.id for cell in cells]
    assert ids[:4] == ["L1k-s1-a", "L1k-s1-b", "L1k-s1-g1-a", "L1k-s1-g1-b"]
    assert ids[4:] == ["L2k-s3-a", "L2k-s3-b", "L2k-s3-g1-a", "L2k-s3-g1-b"]
    assert {cell.task for cell in cells} == {"own-data"}


@pytest.mark.parametrize(
    ("fields", "right", "wrong", "graded"),
    [
        ({"answer": ["Copper Lantern", "lantern"]}, "The lantern.", "a lamp", 0.0),
        ({"answer": ["a", "b"], "scorer": "set"}, "b, a", "a", 2 / 3),
        ({"answer": 7, "scorer": "count"}, "7", "8", 0.75),
        ({"answer": r"\d{2}(rd)?", "scorer": "regex"}, "23rd", "4", 0.0),
    ],
    ids=lambda value: value.get("scorer", "exact") if isinstance(value, dict) else None,
)
def test_each_line_has_its_scorer(write, fields, right, wrong, graded):
    data = load(write({**GOOD, **fields}))
    item = data.item(1)
    assert data.score(item, right).exact
    assert data.score(item, right).graded == 1.0
    assert not data.score(item, wrong).exact
    assert data.score(item, wrong).graded == pytest.approx(graded)
    assert data.score(item, item.document * 9).graded == 0.0


def test_a_document_is_given_not_made(write):
    with pytest.raises(UsageError, match=r"the documents of own-data are those of .*data.jsonl"):
        load(write(GOOD)).generate(4096, None, 0)


def test_no_document_stays_in_memory(write):
    path = write(*({**GOOD, "context": f"{i} " + "x" * 100_000} for i in range(100)))
    tracemalloc.start()
    try:
        data = load(path)
        for line in data.lines:
            data.item(line.number)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("architecture", ["vanilla", "rlm"])
def test_a_line_becomes_a_record(write, known, client, sandbox, tmp_path, architecture):
    data = known(write(b"{", GOOD))
    (cell,) = data.cells(Grid(architectures=(architecture,)))
    settings = Settings(run=tmp_path / "run")

    def measure(**more) -> runner.Outcome:
        return runner.measure(
            cell, settings, client=lambda: client, sandbox=lambda: sandbox, **more
        )

    record = measure().record
    assert (record.verdict, record.prediction, record.gold) == ("correct", "48213", "48213")
    assert (record.task, record.sample, record.depth) == ("own-data", 2, None)
    assert record.doc.chars == len(GOOD["context"])
    assert measure(done={record.key: "correct"}).record is None


def test_a_line_that_changed_is_an_error_not_wrong(write, known, client, sandbox, tmp_path):
    data = known(write(GOOD))
    (cell,) = data.cells(Grid(architectures=("vanilla",)))
    write({**GOOD, "answer": "99999"})
    settings = Settings(run=tmp_path / "run")
    outcome = runner.measure(cell, settings, client=lambda: client, sandbox=lambda: sandbox)
    assert (outcome.verdict, outcome.record.error.type) == ("error", "UsageError")
    assert "was changed during the session" in outcome.record.error.message
