"""The questions that the embedded model practises, and what they call for."""

from __future__ import annotations

import re

import pytest

from rlm.bench.tasks import get, long_doc_hops
from rlm.bench.tasks.stream import Stream
from training.pretrain import asking

FAMILIES = (
    *("niah_values", "niah_queries", "niah_semantic", "long_doc_hops", "aggregate"),
    *("aggregate_visible", "pairs", "trace"),
)
SLOTS = {
    "kinds": "owls or tea",
    "a": "an",
    "kind": "owl",
    "an": "a",
    "other": "tea",
    "most": "most",
    "more": "most",
    "thing": "code",
    "names": "Ann",
    "value": "1",
    "absent": "nothing",
    "place": "Here",
    "first": "Ann",
    "second": "Ben",
    **{f"w{number}": f"word{number}" for number in range(1, 5)},
}


def grams(text: str) -> set[tuple[str, ...]]:
    words = [word.strip('.,:;?"()') for word in text.lower().split()]
    words = [word for word in words if word]
    return {tuple(words[i : i + 4]) for i in range(len(words) - 3)}


@pytest.mark.parametrize("name", asking.PATTERNS)
def test_patterns_make_many_wordings(name: str) -> None:
    stream = Stream("patterns", name)
    made = {asking.pattern(stream, name, **SLOTS) for _ in range(400)}
    assert len(made) > 50
    assert not [text for text in made if re.search(r"[\[\]{}|]|  | [.,?:]", text)]


@pytest.mark.parametrize("name", asking.PATTERNS)
def test_each_alternative_is_said_at_times(name: str) -> None:
    """Guards against a variety that the words of the eval split take away again."""
    for form in asking.PATTERNS[name]:
        for group in re.finditer(r"\[([^\]]*)\]", form):
            for chosen in group[1].split("|"):
                forced = form[: group.start()] + chosen + form[group.end() :]
                stream = Stream("alternatives", name, form, chosen)
                made = (asking.expand(stream, forced) for _ in range(100))
                assert any(asking.is_allowed(text) for text in made), (form, chosen)


@pytest.mark.parametrize(
    "text",
    [
        "Which rent is that of the ship {place} have?",
        "Who is the designer of the {place} now?",
        "Which has more books: the Ann Lee library?",
    ],
)
def test_words_of_an_eval_question_are_known_by_their_slots_and_without(text: str) -> None:
    """Guards the phrases for a person, and words that are drawn into a pattern."""
    assert not asking.is_allowed(text)


def test_no_practised_question_has_four_words_of_an_eval_question() -> None:
    stream = Stream("goals", 1)
    practised = set().union(*(grams(asking.any_goal(stream)[0]) for _ in range(1_500)))
    items = (get(name).generate(12_000, 50, seed) for name in FAMILIES for seed in range(40))
    shared = practised & set().union(*(grams(item.question) for item in items))
    kinds = "bird|building|drink|game|garment|illness|instrument|vehicle|and|or"
    assert [each for each in shared if not re.fullmatch(f"({kinds} ?)+", " ".join(each))] == []


def test_the_line_of_code_names_what_is_asked() -> None:
    stream = Stream("goals", 2)
    lines = set()
    for _ in range(400):
        question, line = asking.any_goal(stream)
        name, _, value = line.partition(" = ")
        lines.add(name)
        for quoted in re.findall(r'"([^"]*)"', value):
            assert quoted.lower() in question.lower()
        assert re.search(r'"|max|min', value)
    assert lines == {"pick", "both", "near", "names", "place", "pair", "value", "hits"}


def test_most_and_least_are_told_apart() -> None:
    stream = Stream("goals", 3)
    most, least = set(), set()
    for _ in range(300):
        for kind, found in (("most", most), ("least", least)):
            question, line = asking.counting(stream, kind, ("bird",))
            assert line.startswith(f"pick = lambda kinds: {'max' if kind == 'most' else 'min'}(")
            found.add(question.partition(".")[2] or question)
    assert not most & least


def test_what_to_say_where_nothing_is_said_is_reworded() -> None:
    stream = Stream("goals", 4)
    made = [long_doc_hops.puzzle(stream, 0.5, "train") for _ in range(60)]
    asked = [asking.hopping(stream, puzzle)[0] for puzzle in made]
    assert all(puzzle.absent in question for puzzle, question in zip(made, asked, strict=True))
    changed = [q for puzzle, q in zip(made, asked, strict=True) if q != puzzle.question]
    assert len(changed) > 20
