"""What was read of a document, and why a cell came out wrong."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm.bench import runner, tasks
from rlm.bench.evidence import LEAST, cause, merged, passages, reading
from rlm.bench.grid import Cell as GridCell
from rlm.bench.records import Failure
from rlm.bench.tasks.base import Item, Span
from rlm.bench.tasks.kinds import kinds
from rlm.messages import Completion, Message, Usage
from rlm.sandbox.base import CellResult
from rlm.trajectory import Call, Cell, Trajectory, Turn
from tests.rlm.bench.test_records import record

FILLER = runner.make_item(GridCell("long_doc_qa", 12_000, 50, 0, "", "chars"), 0, "eval").document
NEEDLE = "The secret passcode is 48213."
AT = 6000
DOCUMENT = FILLER[:AT] + NEEDLE + FILLER[AT:]
ITEM = Item(
    task="niah",
    document=DOCUMENT,
    question="What is the secret passcode?",
    gold="48213",
    spans=(Span(AT, AT + len(NEEDLE)),),
    depth=0.5,
    split="eval",
)
AROUND = DOCUMENT[AT - 60 : AT + 90]
WRONG = replace(record(verdict="wrong"), gold="48213", prediction="11111", ended_by="final")


def call(kind, text, answer="", **other) -> Call:
    done = Completion(answer, Usage(1, 1, 1), "stop", 4096)
    sent = (Message("system", NEEDLE), Message("user", text))
    return Call(kind, 1, sent, done, **other)


def told(*calls: Call, status="ok") -> Trajectory:
    turn = Turn(1, "x", (Cell("x", CellResult(status)),))
    return Trajectory("v1", calls, (turn,))


def test_what_the_root_was_told_and_what_was_passed_on_are_found():
    read = reading(ITEM, told(call("root", f"Output:\n{AROUND}\nVariables: a"), call("sub", "x")))
    assert read.printed == (Span(AT - 60, AT + 90),)
    assert (read.passed, read.seen, read.share) == ((), (True,), 1.0)
    read = reading(ITEM, told(call("root", "nothing"), call("sub", f"Text={AROUND}")))
    assert (read.printed, read.passed) == ((), (Span(AT - 60, AT + 90),))
    assert read.share == 1.0


def test_the_question_and_the_system_prompt_are_not_evidence():
    """Guards the share from counting the words that a question has in common with its answer."""
    long = replace(ITEM, question="What, please, is it that the secret passcode is?")
    read = reading(long, told(call("root", f"Question: {long.question}")))
    assert (read.printed, read.share) == ((), 0.0)


def test_a_passage_that_ends_before_the_answer_does_not_show_it():
    cut = DOCUMENT[AT - 80 : AT + len("The secret passcode is 48")]
    read = reading(ITEM, told(call("sub", cut)))
    assert read.passed == (Span(AT - 80, AT + len("The secret passcode is 48")),)
    assert read.share == 0.0


def test_a_call_that_failed_showed_nothing():
    sent = (Message("user", AROUND),)
    refused = Call("sub", 1, sent, None, "PromptTooLong: the prompt of 9 characters")
    assert reading(ITEM, told(refused)).share == 0.0


def test_without_the_answer_in_a_span_most_of_the_span_must_be_read():
    item = replace(ITEM, gold="forty-eight thousand")
    assert reading(item, told(call("sub", AROUND))).share == 1.0
    assert reading(item, told(call("sub", DOCUMENT[AT - 90 : AT + 15]))).share == 0.0


def test_without_spans_nobody_can_tell():
    item = replace(ITEM, spans=())
    assert reading(item, told(call("sub", AROUND))).share is None


def test_escaped_lines_are_found_piece_by_piece():
    lines = DOCUMENT[:50] + "\n" + DOCUMENT[50:130]
    (read,) = passages(lines, [repr([lines])])
    assert read == (Span(0, 50), Span(51, 131))


def test_repeated_text_is_counted_once_where_it_agrees_longest():
    document = "The same sentence comes again. " * 5 + "But only here it ends so."
    (read,) = passages(document, ["The same sentence comes again. But only here"])
    assert read == (Span(124, 168),)


@settings(max_examples=40)
@given(st.integers(0, len(DOCUMENT) - 400), st.integers(LEAST, 400), st.text(max_size=30))
def test_any_piece_of_the_least_length_is_found(start, size, before):
    piece = DOCUMENT[start : start + size]
    (read,) = passages(DOCUMENT, [before + "\0" + piece + "\0"])
    assert sum(span.end - span.start for span in read) >= size
    assert any(DOCUMENT[span.start : span.end].find(piece) >= 0 for span in read)


@given(st.lists(st.text("ab", max_size=60), max_size=4), st.text("ab", max_size=300))
def test_every_passage_stands_in_a_text(texts, document):
    (read,) = passages(document, texts)
    for span in read:  # touching passages are one span, so each of its windows must be in a text
        first, last = document[span.start :][:LEAST], document[: span.end][-LEAST:]
        assert any(first in text for text in texts)
        assert any(last in text for text in texts)


def test_boilerplate_is_read_where_the_rest_of_the_line_agrees():
    """Guards the time that a log takes, in which each line begins like all the others."""
    lines = [f"2026-11-21T14:00 INFO server answered request {i:05}\n" for i in range(5000)]
    (read,) = passages("".join(lines), [lines[70] + lines[71] + "INFO server answered request"])
    assert read == (Span(70 * len(lines[0]), 72 * len(lines[0])),)


def test_merged_spans_neither_overlap_nor_touch():
    spans = [Span(5, 9), Span(0, 2), Span(2, 3), Span(8, 12), Span(20, 21)]
    assert merged(spans) == (Span(0, 3), Span(5, 12), Span(20, 21))


SEEN = call("root", f"Output:\n{AROUND}")


@pytest.mark.parametrize(
    ("row", "trajectory", "why"),
    [
        (replace(WRONG, verdict="correct"), told(SEEN), None),
        (replace(WRONG, verdict="error"), told(), "not measured"),
        (replace(WRONG, verdict="error", error=Failure("SandboxError", "x")), None, "sandbox"),
        (replace(WRONG, verdict="truncated"), told(SEEN), "limit"),
        (replace(WRONG, verdict="timeout"), told(SEEN), "limit"),
        (replace(WRONG, ended_by="turns"), told(SEEN), "limit"),
        (WRONG, told(SEEN, status="died"), "sandbox"),
        (replace(WRONG, prediction=f"dump: {AROUND}"), told(SEEN), "bad FINAL"),
        (replace(WRONG, prediction=" "), told(SEEN), "bad FINAL"),
        (WRONG, told(call("sub", AROUND, "It is 48213.")), "bad FINAL"),
        (WRONG, told(call("sub", AROUND, "482130")), "sub-call wrong"),
        (WRONG, told(SEEN, call("sub", AROUND, "7"), call("sub", "?", "48213")), "sub-call wrong"),
        (WRONG, told(SEEN), "misread"),
        (WRONG, told(SEEN, call("sub", "elsewhere", "7")), "misread"),
        (WRONG, told(call("root", DOCUMENT[:300]), call("sub", "?", "48213")), "never looked"),
        (WRONG, told(SEEN, status="error"), "misread"),
        (WRONG, None, None),
    ],
)
def test_causes(row, trajectory, why):
    assert cause(row, ITEM, trajectory) == why


def test_without_a_known_place_only_what_a_sub_call_said_can_be_told():
    item = replace(ITEM, spans=())
    assert cause(WRONG, item, told(SEEN, call("sub", "x", "48213"))) == "bad FINAL"
    assert cause(WRONG, item, told(SEEN, call("sub", "x", "7"))) is None
    assert cause(WRONG, None, told(SEEN)) is None


def many_lines(count):
    """An item in which every second line is evidence, and the number of lines is the answer."""
    lines = [f"{number:05} {sha256(b'%d' % number).hexdigest()[:60]}" for number in range(count)]
    starts = [number * 67 for number in range(0, count, 2)]
    spans = tuple(Span(start, start + 66) for start in starts)
    item = replace(ITEM, document="\n".join(lines), gold="many", spans=spans)
    return item, lines


def test_of_many_lines_each_is_seen_or_not():
    item, lines = many_lines(400)
    read = reading(item, told(call("sub", "\n".join(lines[100:200])), call("root", lines[0])))
    assert [number for number, seen in enumerate(read.seen) if seen] == [0, *range(50, 100)]


def test_a_call_that_was_shown_one_of_many_lines_is_told_from_one_that_was_not():
    """Guards a report's time: two thousand lines of evidence times a hundred calls."""
    item, lines = many_lines(1200)
    wrong = replace(WRONG, gold="many")
    others = [call("sub", lines[number], "7") for number in range(1, 201, 2)]
    assert cause(wrong, item, told(call("root", lines[2]), *others)) == "misread"
    assert cause(wrong, item, told(*others, call("sub", f"? {lines[44]}", "7"))) == "sub-call wrong"
    assert cause(wrong, item, told(*others)) == "never looked"


def made(name, fits, chars=8_192):
    """The first item of a family that fits, with a record whose answer is wrong."""
    depth = 50 if tasks.get(name).depths else None
    items = (tasks.get(name).generate(chars, depth, seed) for seed in range(99))
    item = next(item for item in items if fits(item))
    return item, replace(WRONG, gold=item.gold, prediction="Nobody & None")


def by_twenty(item):
    lines = item.document.split("\n")
    return ["\n".join(lines[i : i + 20]) for i in range(0, len(lines), 20)]


@pytest.mark.parametrize("name", ["aggregate", "aggregate_visible", "pairs"])
@pytest.mark.parametrize("scorer", ["answer", "count", ""])
def test_labels_given_by_sub_calls_are_no_answer(name, scorer):
    """Guards "bad FINAL": eight kinds, or some digits, stand in any list of labels."""
    if (name == "pairs") == bool(scorer):
        return
    item, row = made(name, lambda each: each.scorer == scorer)
    labels = f"{', '.join(kinds())} 0 1 2 3 4 5 6 7 8 9 {item.gold[:3]}"
    calls = [call("sub", f"Name the kinds.\n{part}", labels) for part in by_twenty(item)]
    assert cause(row, item, told(*calls)) == "misread"
    calls = [call("sub", f"Name the kinds.\n{part}", "none") for part in by_twenty(item)]
    assert cause(row, item, told(*calls)) == "misread"
    assert cause(row, item, told(call("sub", "Nothing at all.", labels))) == "never looked"


def test_digits_of_a_count_in_a_line_are_not_its_evidence():
    """Guards the share from dates, in which the digits of a count stand by chance."""

    def fits(each):
        return each.scorer == "count" and any(each.gold in line[:30] for line in shown(each))

    def shown(each):
        return [each.document[span.start : span.end] for span in each.spans]

    item, _ = made("aggregate", fits)
    lines = shown(item)
    at = next(i for i, line in enumerate(lines) if item.gold in line[:30])
    read = reading(item, told(call("root", f"x {lines[at][:30]}")))
    assert not any(read.seen)
    read = reading(item, told(call("root", f"x {lines[at][:-3]}")))
    assert [i for i, seen in enumerate(read.seen) if seen] == [at]


def test_the_name_alone_does_not_decide_a_comparison():
    item, row = made("long_doc_hops", lambda each: each.gold in each.question and not each.absent)
    more = next(span for span in item.spans if item.gold in item.document[span.start : span.end])
    at = item.document.index(item.gold)
    cut = call("root", "x " + item.document[more.start - 40 : at + len(item.gold)])
    whole = call("root", "x " + item.document[more.start : more.end])
    assert reading(item, told(cut)).share == 0.0
    assert reading(item, told(whole)).share == 0.5
    sub = call("sub", item.document[more.start : more.end], item.gold)
    assert cause(row, item, told(sub)) == "misread"


@pytest.mark.parametrize("name", ["niah_values", "niah_queries", "trace"])
def test_a_sub_call_is_judged_by_the_members_of_a_list_that_it_was_shown(name):
    item, row = made(name, lambda each: True)
    parts = [item.document[i : i + 3_000] for i in range(0, len(item.document), 2_900)]
    right = [
        call("sub", part, ", ".join(each for each in item.answers if each in part))
        for part in parts
    ]
    mute = [call("sub", part, "I see none.") for part in parts]
    assert cause(row, item, told(*right)) == "bad FINAL"
    assert cause(row, item, told(*mute)) == "sub-call wrong"
    one = next(i for i, each in enumerate(right) if each.completion.text)
    assert cause(row, item, told(right[one], *mute)) == "misread"
    blind = [call("sub", "Which?", item.gold)]
    assert cause(row, item, told(*blind)) == "never looked"
    dumped = replace(row, prediction="; ".join(reversed(item.answers)) + "; 12345")
    assert cause(dumped, item, told(*mute)) == "bad FINAL"


def test_the_value_of_a_list_s_member_must_be_read():
    """Four fifths of its sentence end before the number."""
    item, _ = made("niah_values", lambda each: True)
    span = item.spans[0]
    cut = item.document[span.start : span.end - 6]
    assert reading(item, told(call("root", f"x {cut}"))).share == 0.0
    whole = item.document[span.start : span.end]
    assert reading(item, told(call("root", f"x {whole}"))).seen[0]
