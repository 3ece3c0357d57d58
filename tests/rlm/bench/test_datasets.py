"""Published sets: what their rows become, and their authors' rules by examples made here."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from difflib import SequenceMatcher
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.bench import datasets, runner, tasks
from rlm.bench.datasets import longbench, oolong
from rlm.bench.grid import Grid
from rlm.bench.runner import Settings
from rlm.bench.tasks import rows
from rlm.bench.tasks.given import Given
from rlm.clients import connect
from rlm.errors import UsageError
from rlm.sandbox import open_sandbox
from tests.rlm.bench import published
from tests.rlm.bench.published import NUMBER, POEM, WORD, write
from tests.servers.reader import ReaderServer


def only(name: str, path: Path) -> Given:
    (data,) = datasets.load(name, path)
    return data


def graded(name: str, path: Path, *answers: str) -> list[float]:
    """The grades of answers to the first row; full marks, and they alone, are exact here."""
    data = only(name, path)
    scores = [data.score(data.item(1), answer) for answer in answers]
    assert [s.exact for s in scores] == [s.graded == 1.0 for s in scores]
    return [s.graded for s in scores]


# Reading


def test_a_row_of_ruler_is_a_prompt_cut_before_its_last_question(tmp_path):
    data = only("ruler", write(tmp_path / "niah_single_1" / "validation.jsonl", published.niah()))
    item = data.item(1)
    assert data.name == "ruler-niah_single_1"
    assert item.document.startswith("A special magic number is hidden")
    assert item.document.endswith("Here we go.")
    assert item.question == (
        "What is the special magic number for amber-lake mentioned in the provided text?"
    )
    (span,) = item.spans
    fact = item.document[span.start : span.end]
    assert fact == f"One of the special magic numbers for amber-lake is: {NUMBER}."
    assert item.depth == span.start / len(item.document)
    assert item.gold == NUMBER


def test_ruler_as_nemo_skills_writes_it_is_the_same(tmp_path):
    row = published.niah()
    text = row.pop("input").replace("text? The", "text?The")
    row |= {"question": text, "expected_answer": row.pop("outputs")}
    theirs = only("ruler", write(tmp_path / "niah_single_1" / "test.jsonl", row)).item(1)
    own = only("ruler", write(tmp_path / "a" / "niah_single_1.jsonl", published.niah())).item(1)
    assert theirs == own


def test_the_last_question_of_a_prompt_counts(tmp_path):
    item = only("ruler", write(tmp_path / "qa_1.jsonl", published.qa())).item(1)
    assert item.question == "Question: Where is Oslo?"
    assert item.document.endswith("Oslo is in Norway.")
    assert item.spans == ()
    assert json.loads(item.gold) == ["Norway", "the kingdom"]


def test_a_folder_of_ruler_is_a_task_for_each_of_its_own(tmp_path):
    for length in ("4096", "8192"):
        rows = [published.niah(), published.niah("1")]
        write(tmp_path / length / "niah_multikey_2" / "validation.jsonl", *rows)
    write(tmp_path / "4096" / "qa_1" / "validation.jsonl", published.qa())
    write(tmp_path / ".cache" / "vt.jsonl", published.qa())
    first, second = datasets.load("ruler", tmp_path)
    assert (first.name, second.name) == ("ruler-niah_multikey_2", "ruler-qa_1")
    assert [line.number for line in first.lines] == [1, 2, 3, 4]
    assert [line.at for line in first.lines] == [1, 2, 1, 2]
    assert [line.number for line in second.lines] == [1]
    assert first.item(4).gold == "1"
    assert first.sha256 == second.sha256 != first.lines[0].sha256
    assert {cell.task for cell in second.cells(Grid())} == {"ruler-qa_1"}


def test_a_file_added_to_a_folder_makes_other_data(tmp_path):
    write(tmp_path / "qa_1.jsonl", published.qa())
    before = only("ruler", tmp_path)
    write(tmp_path / "niah.jsonl", published.niah())
    after = datasets.load("ruler", tmp_path)[1]
    assert after.sha256 != before.sha256
    assert after.lines == before.lines


def test_a_row_of_longbench_is_a_question_with_its_choices(tmp_path):
    item = only("longbench-v2", write(tmp_path / "data.json", published.choice())).item(1)
    assert item.question.splitlines()[:3] == ["What is the sky?", "(A) it is a", "(B) it is b"]
    assert item.document == ('The "sky" {is} blue.\n' * 3).strip()
    assert (item.gold, item.spans) == ("B", ())


def test_rows_of_oolong_belong_to_what_they_were_made_of(tmp_path):
    path = write(
        tmp_path / "rows.jsonl",
        published.oolong("['ham']", "LABEL"),
        published.real("84"),
        published.oolong("[7]", "NUMERIC", dataset="trec coarse"),
    )
    found = datasets.load("oolong", path)
    assert [data.name for data in found] == ["oolong-spam", "oolong-real", "oolong-trec-coarse"]
    assert [data.lines[0].number for data in found] == [1, 2, 3]
    assert [data.item(i).gold for i, data in enumerate(found, 1)] == ["ham", "84", "7"]
    assert found[0].item(1).scorer == "oolong/LABEL"


def test_a_row_of_mrcr_is_a_conversation_and_its_last_message(tmp_path):
    data = only("mrcr", write(tmp_path / "rows.jsonl", published.mrcr()))
    item = data.item(1)
    assert data.name == "mrcr-2needle"
    assert item.question == f"Prepend {WORD} to the 2nd (1 indexed) poem about tapirs."
    assert item.document.startswith("User: Write a poem about tapirs\n\nAssistant: A first poem.")
    (span,) = item.spans
    assert item.document[span.start : span.end] == POEM


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_a_set_may_be_lines_or_an_array_or_parquet(tmp_path, name):
    made = [published.choice(letter, _id=letter) for letter in "ABCDA"]
    path = write(tmp_path / name, *made)
    data = only("longbench-v2", path)
    assert [line.number for line in data.lines] == [1, 2, 3, 4, 5]
    assert [data.item(number).gold for number in (5, 1, 4, 2, 3)] == list("AADBC")


@given(
    st.lists(
        st.dictionaries(st.text(max_size=5), st.text('{}[]"\\ aä\n', max_size=9), max_size=3),
        max_size=5,
    ),
    st.sampled_from([None, 1]),
)
def test_the_objects_of_any_array_are_found(tmp_path_factory, made, indent):
    path = tmp_path_factory.mktemp("array") / "rows.json"
    path.write_text(json.dumps(made, indent=indent, ensure_ascii=False), encoding="utf-8")
    found = list(rows.read_rows(path))
    assert [json.loads(row.content) for row in found] == made
    assert [rows.read_row(path, row.start, row.size) for row in found] == [
        row.content for row in found
    ]


def test_an_array_that_breaks_off_is_told(tmp_path):
    path = write(tmp_path / "data.json", published.choice(), published.choice())
    path.write_bytes(path.read_bytes()[:-60])
    (problem,) = only("longbench-v2", path).problems
    assert problem.number == 2
    assert problem.text.startswith("no JSON: ")


@pytest.mark.parametrize("cut", ["", "\\", '\\"'])
def test_an_array_that_breaks_off_in_a_text_is_read_once(tmp_path, cut):
    """Guards against a look from each quote within the text to the end of the file."""
    path = tmp_path / "rows.json"
    whole, rest = '{"a": "b"}', '{"context": "' + r"print(\"{\")" * 200_000 + cut
    path.write_text(f"[{whole}, {rest}")
    began = time.monotonic()
    assert [row.content.decode() for row in rows.read_rows(path)] == [whole, rest]
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("text", "contents"),
    [
        ('["x, {", {"a": 1}, null, {"b": 2}]', ['"x, {"', '{"a": 1}', "null", '{"b": 2}']),
        ('[{"a": 1}}, {"b": 2}]', ['{"a": 1}', "}", '{"b": 2}']),
        ('[}{"a": 1}', ["}", '{"a": 1}']),
        ('[{"a": 1} junk {"b": 2}] more', ['{"a": 1}', "junk", '{"b": 2}', "more"]),
        ("[1, 2, 3]", ["1, 2, 3"]),
        ('\ufeff [[{"a": 1}],\r\n[{"b": 2}\t], ]', ['{"a": 1}', '{"b": 2}']),
        ("[]", []),
    ],
)
def test_what_is_no_object_of_an_array_is_a_row_too(tmp_path, text, contents):
    """So that it is told: no row is lost without a word."""
    path = tmp_path / "rows.json"
    path.write_text(text, encoding="utf-8", newline="")
    found = list(rows.read_rows(path))
    assert [row.content.decode() for row in found] == contents
    assert [row.at for row in found] == [i for i, _ in enumerate(contents, 1)]
    assert [rows.read_row(path, r.start, r.size) for r in found] == [r.content for r in found]


def test_what_is_no_object_of_an_array_is_told(tmp_path):
    good = json.dumps(published.choice())
    (tmp_path / "rows.json").write_text(f"[{good}, null, {good}}}, {good}]")
    data = only("longbench-v2", tmp_path / "rows.json")
    assert [line.number for line in data.lines] == [1, 3, 5]
    assert [(p.number, p.text) for p in data.problems] == [
        (2, "no JSON object: write {…}"),
        (4, "no JSON: Expecting value at character 1"),
    ]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / "rows.parquet", published.mrcr())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'rlm-bench\[bench\]', or .* JSON lines"):
        datasets.load("mrcr", path)


def test_parquet_that_is_none_is_told(tmp_path):
    (tmp_path / "rows.parquet").write_text("no")
    with pytest.raises(UsageError, match=r"rows.parquet is no Parquet that can be read"):
        datasets.load("mrcr", tmp_path)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_a_row_that_changed_is_noticed(tmp_path, name):
    path = write(tmp_path / name, published.choice(), published.choice("C"))
    data = only("longbench-v2", path)
    write(path, published.choice(), published.choice("D"))
    with pytest.raises(UsageError, match=r"line 2 of .*rows\..* was changed during the session"):
        data.item(2)
    write(path, published.choice())
    with pytest.raises(UsageError, match=r"line 2 of .*rows\..* was changed during the session"):
        data.item(2)


@pytest.mark.parametrize(
    ("name", "file", "row", "says"),
    [
        (
            "ruler",
            "qa.jsonl",
            {"question": "?"},
            "no field 'input'; needed are: 'input', 'outputs'",
        ),
        ("ruler", "a.jsonl", published.qa(), r"'a' is none of RULER's tasks, .* niah, vt, cwe"),
        ("ruler", "vt.jsonl", published.qa(), "does not end with RULER's question"),
        ("ruler", "qa.jsonl", {**published.qa(), "pred": "x"}, "a model's answer"),
        ("ruler", "qa.jsonl", {**published.qa(), "outputs": "x"}, "must be a list of texts"),
        ("longbench-v2", "a.json", {"context": "x"}, "no field 'question'; needed are: 'context'"),
        ("longbench-v2", "a.json", published.choice("E"), "must be A, B, C or D, not 'E'"),
        ("oolong", "a.jsonl", {"text": "x"}, "no field 'context_window_text'"),
        ("oolong", "a.jsonl", published.oolong("spam", "LABEL"), r"such as \['spam'\], not 'spam'"),
        ("oolong", "a.jsonl", published.real(", ,"), "names nothing"),
        (
            "oolong",
            "a.jsonl",
            published.oolong("[datetime.date(2023, 13, 1)]", "DATE"),
            r"not '\[datetime",
        ),
        (
            "oolong",
            "a.jsonl",
            published.oolong("['Jan 2023']", "DATE"),
            "holds no date such as 2023-01-05: 'Jan 2023'",
        ),
        ("mrcr", "a.jsonl", {"prompt": "[]"}, "no field 'answer'; .*; there are: 'prompt'"),
        ("mrcr", "a.jsonl", published.mrcr(prompt="no"), "field 'prompt' is no JSON"),
        ("mrcr", "a.jsonl", published.mrcr(prompt="[1, 2]"), "a list of two messages or more"),
        ("mrcr", "a.jsonl", published.mrcr(answer="x"), "must be 'random_string_to_prepend' and"),
    ],
)
def test_another_format_is_refused_by_what_is_wrong_and_where_to_get_the_right_one(
    tmp_path, name, file, row, says
):
    path = write(tmp_path / file, row)
    with pytest.raises(UsageError, match=rf"has no usable line \(line 1: .*{says}") as caught:
        datasets.load(name, path)
    assert str(caught.value).endswith(datasets.DATASETS[name].remedy)


@pytest.mark.parametrize("name", datasets.names())
def test_a_set_that_is_not_there_says_how_to_get_it(tmp_path, name):
    remedy = datasets.DATASETS[name].remedy
    with pytest.raises(UsageError, match=r"there is no .*absent: ") as caught:
        datasets.load(name, tmp_path / "absent")
    assert str(caught.value).endswith(remedy)
    with pytest.raises(UsageError, match=r"holds no .jsonl or .json or .parquet file: ") as caught:
        datasets.load(name, tmp_path)
    assert str(caught.value).endswith(remedy)


def test_an_unknown_set_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(UsageError, match=r"unknown dataset 'oolng' \(did you mean 'oolong'\?\)"):
        datasets.load("oolng", tmp_path)


# RULER's rule


def test_ruler_grades_by_the_share_of_references_in_the_answer(tmp_path):
    row = published.niah(outputs=["7321460", "8846201"])
    path = write(tmp_path / "niah_multivalue.jsonl", row)
    assert graded("ruler", path, "7321460 and 8846201.", "[8846201]", "17321460", "none", "") == [
        1.0,
        0.5,
        0.5,
        0.0,
        0.0,
    ]


def test_ruler_s_qa_needs_one_reference_in_either_case(tmp_path):
    path = write(tmp_path / "qa_2.jsonl", published.qa())
    assert graded("ruler", path, "In NORWAY.", "the Kingdom", "Sweden") == [1.0, 1.0, 0.0]


def test_ruler_hears_no_more_than_a_model_may_write_there(tmp_path):
    """Guards against ``FINAL(context)``, which holds every reference."""
    path = write(tmp_path / "niah_single_1.jsonl", published.niah())
    at_the_end = "x" * (4 * 128 - len(NUMBER)) + NUMBER
    assert graded("ruler", path, at_the_end, "x" + at_the_end) == [1.0, 0.0]


def test_the_beginning_that_ruler_gives_an_answer_is_not_counted(tmp_path):
    row = published.vt()
    path = write(tmp_path / "vt.jsonl", row)
    lead = (
        "According to the chain(s) of variable assignment in the text above, 5 variables are "
        "assigned the value 12345, they are: "
    )
    names = " ".join(row["outputs"])
    good = (names, lead + names, f"Answer: {lead}\n{names}")
    bad = (lead + "x" * 120 + names, lead, lead + lead + names)
    assert graded("ruler", path, *good, *bad) == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


# What runs of it


@pytest.mark.parametrize(
    ("architecture", "name", "row", "room"),
    [
        ("vanilla", "mrcr", published.mrcr(), {"vanilla": 2048}),
        ("vanilla", "longbench-v2", published.choice(), {"vanilla": 128}),
        ("rlm", "mrcr", published.mrcr(), {"root": 512, "sub": 256, "last": 2048}),
        ("repl", "mrcr", published.mrcr(), {"root": 512, "last": 2048}),
        ("rlm", "longbench-v2", published.choice(), {"root": 512, "sub": 256}),
    ],
)
def test_an_answer_has_room_for_a_whole_reply_where_one_is_asked_for(
    tmp_path, architecture, name, row, room
):
    """Guards vanilla's side of MRCR: a loop may return a variable of any length, and has the room
    where it answers in words, at its last call."""
    data = only(name, write(tmp_path / "rows.jsonl", row))
    tasks.register(data)
    runner._make_item.cache_clear()
    (cell,) = data.cells(Grid(architectures=(architecture,)))
    settings = Settings(run=tmp_path / "run", environment=runner.environment())
    with (
        ReaderServer(window=16_384) as server,
        closing(connect(server.spec)) as client,
        closing(open_sandbox()) as sandbox,
    ):
        done = runner.measure(cell, settings, client=lambda: client, sandbox=lambda: sandbox)
        bodies = [asked.body for asked in server.asked if asked.path.endswith("completions")]
    record = done.record
    assert record.scores is not None
    sampling = record.model.options["sampling"]
    assert {kind: own["max_tokens"] for kind, own in sampling.items()} == room
    assert bodies[0]["max_tokens"] == next(iter(room.values()))
    is_closed = record.ended_by == "turns"
    assert is_closed == (architecture != "vanilla")
    if is_closed:
        assert bodies[-1]["max_tokens"] == room.get("last", room["root"])
    assert runner.places([record], settings, client.info()) == {cell}


# LongBench v2's rule


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("The correct answer is (B)", "B"),
        ("**The correct answer is (C).**", "C"),
        ("The correct answer is D, since A is not.", "D"),
        ("The correct answer is A, no: The correct answer is (B)", "B"),
        ("the correct answer is (B)", ""),
        ("The correct answer is (E)", ""),
        ("The answer is (B)", ""),
        ("B", "B"),
        (" (D). ", "D"),
        ("*A*", "A"),
        ("B and C", ""),
        ("b", ""),
        ("", ""),
    ],
)
def test_longbench_reads_the_letter_that_its_sentence_names(said, letter):
    assert longbench.choice(said) == letter


def test_longbench_is_right_or_wrong(tmp_path):
    path = write(tmp_path / "data.json", published.choice("B"))
    assert graded("longbench-v2", path, "The correct answer is (B)", "A", "") == [1.0, 0.0, 0.0]


# OOLONG's rules


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Answer: ham", "ham"),
        ("Thus: the label: **[ham]**", "ham"),
        ("ham", "ham"),
        ("it must have been surely ham", "ham"),
        ("Answer: ham is surely more common than spam", "more common"),
        ("Answer: both are of the same frequency as spam", "same frequency"),
        ("Answer: more common than", "more common than"),
        ("Answer: a quite long label of spam", "a quite long label of spam"),
        ("", ""),
    ],
)
def test_oolong_looks_behind_the_last_colon_or_at_the_last_word(said, meant):
    assert oolong._meant(said) == meant


@pytest.mark.parametrize(
    ("answer", "kind", "said", "grade"),
    [
        ("['ham']", "LABEL", "Label: ham", 1.0),
        ("['ham']", "LABEL", "Label: Ham", 0.0),
        ("['ham']", "LABEL", "Label: ham.", 0.0),
        ("[12]", "NUMERIC", "Answer: 12", 1.0),
        ("[12]", "NUMERIC", "Answer: 14", 0.75**2),
        ("[12]", "NUMERIC", " 11 ", 0.75),
        ("[12]", "NUMERIC", "Answer: twelve", 0.0),
        ("[12]", "NUMERIC", "Answer: 12.0", 0.0),
        ("[12]", "NUMERIC", "9" * 400, 0.0),
        ("[12]", "USER", "User: 13", 0.0),
        ("['more common than']", "COMPARISON", "Answer: more common than", 1.0),
        ("['more common than']", "COMPARISON", "Answer: it is more common than that", 1.0),
        ("['more common than']", "COMPARISON", "Answer: less common", 0.0),
        ("['same frequency as']", "COMPARISON", "same frequency", 1.0),
        ("['March 2023']", "MONTH_YEAR", "Answer: March 2023", 1.0),
        ("[datetime.date(2023, 1, 5)]", "DATE", "Date: 2023-01-05", 1.0),
        ("[datetime.date(2023, 1, 5)]", "DATE", "Date: [01/05/2023]", 1.0),
        ("[datetime.date(2023, 1, 5)]", "DATE", "Date: Jan 05, 2023", 1.0),
        ("[datetime.date(2023, 1, 5)]", "DATE", "Date: Thursday, January 5th, 2023.", 1.0),
        ("[datetime.date(2023, 1, 5)]", "DATE", "Date: 5 January 2023", 1.0),
        ("[datetime.date(2023, 1, 5)]", "DATE", "Date: 05/01/2023", 0.0),
        ("[datetime.date(2023, 1, 5)]", "DATE", "Date: 2023-02-30", 0.0),
        ("[datetime.date(2023, 1, 5)]", "DATE", "Date: January 2023", 0.0),
        ("[datetime.date(2023, 1, 5)]", "LABEL", "Date: Jan 05, 2023", 0.0),
    ],
)
def test_oolong_synth_by_kind_of_answer(tmp_path, answer, kind, said, grade):
    path = write(tmp_path / "rows.jsonl", published.oolong(answer, kind))
    assert graded("oolong", path, said) == [grade]


@pytest.mark.parametrize(
    "answer",
    ["['01/05/2023']", "['Jan 05, 2023']", "['2023-01-05 00:00:00']", "['2023-01-05']"],
)
def test_a_gold_date_of_oolong_may_be_written_as_people_do(tmp_path, answer):
    path = write(tmp_path / "rows.jsonl", published.oolong(answer, "DATE"))
    assert only("oolong", path).item(1).gold == "2023-01-05"
    said = ("Date: Jan 5, 2023", "Date: 2023-01-06", "Date: ham", "Date: 2023-01-05 00:00:00")
    assert graded("oolong", path, *said) == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("answer", "said", "grade"),
    [
        ("84", r"In all \boxed{84}.", 1.0),
        ("84", r"\boxed{83}", 0.75),
        ("84", "83", 0.75),
        ("84", "they rolled 84", 0.0),
        ("Vex", r"\boxed{\text{vex}}", 1.0),
        ("Vex", r"\boxed{{Vex}}", 1.0),
        ("Vex", "Vex, Vax", 0.0),
        ("Vex, Vax", r"\boxed{\text{Vax, Vex}}", 1.0),
        ("Vex, Vax, Keyleth", "Vax, Percy", 1 / 3),
        ("Vex, Vax", "Vex", 0.0),
        ("Vex, Vex, Vax", "Vex, Vex, Vax", 1.0),
        ("Vex, Vex, Vax", "Vax, Vex", 1.0),
        ("Vex,", "Vex,", 1.0),
        ("Vex,", r"\boxed{vex}", 1.0),
        ("Vex, Vex", "Vex", 1.0),
        ("84,", "84,", 1.0),
        ("84", "85,", 0.75),
    ],
)
def test_oolong_real(tmp_path, answer, said, grade):
    path = write(tmp_path / "rows.jsonl", published.real(answer))
    assert graded("oolong", path, said) == [pytest.approx(grade)]


def test_a_list_of_oolong_real_that_names_others_too_is_not_exact(tmp_path):
    data = only("oolong", write(tmp_path / "rows.jsonl", published.real("Vex, Vax")))
    scores = data.score(data.item(1), "Vex, Vax, Percy, Grog")
    assert (scores.exact, scores.graded) == (False, 1.0)


# MRCR's rule


def test_mrcr_needs_the_word_in_front_and_then_likens(tmp_path):
    path = write(tmp_path / "rows.jsonl", published.mrcr())
    near = POEM.replace("night", "day")
    want = SequenceMatcher(None, near, POEM).ratio()
    assert 0.8 < want < 1
    said = (WORD + POEM, POEM, f" {WORD}{POEM}", WORD + near, WORD)
    assert graded("mrcr", path, *said) == [1.0, 0.0, 0.0, want, 0.0]


def test_a_long_reply_is_like_itself(tmp_path):
    """Guards difflib's heuristic for long texts, which leaves common letters out."""
    reply = "abab ba ab\n" * 300
    path = write(tmp_path / "rows.jsonl", published.mrcr(answer=WORD + reply))
    assert graded("mrcr", path, WORD + reply) == [1.0]


@pytest.mark.parametrize("end", ["\n", " \n\n", ""])
def test_a_reply_that_ends_in_space_can_be_repeated(tmp_path, end):
    """An answer has none at its end: vanilla strips it."""
    data = only("mrcr", write(tmp_path / "rows.jsonl", published.mrcr(answer=WORD + POEM + end)))
    scores = data.score(data.item(1), WORD + POEM)
    assert scores.exact
    assert scores.graded == SequenceMatcher(None, POEM, POEM + end).ratio()
    assert not data.score(data.item(1), WORD + POEM[:-1]).exact


def test_a_copy_of_the_document_is_not_compared(tmp_path):
    path = write(tmp_path / "rows.jsonl", published.mrcr())
    began = time.monotonic()
    assert graded("mrcr", path, WORD + POEM * 100_000) == [0.0]
    assert time.monotonic() - began < 20
