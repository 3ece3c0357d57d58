"""A depth-2 run on a document that needs it: the root is written down, its children are real.

`pytest tests/rlm/test_recursion_embedded.py -s` prints the tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from rlm import RLM, Budget, Message, Options, PromptTooLong, connect
from rlm.bench.tasks import Item, get
from rlm.clients.base import Client
from rlm.trajectory import Answer
from rlm.tree import draw, levels
from tests.rlm.chapters import QUERY, book, chapters, root

CHAPTERS = chapters(0)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with closing(connect("embedded")) as connected:
        yield connected


def right(answer: Answer, items: list[Item]) -> list[bool]:
    """Whether each child found what its chapter asks for."""
    found = [child.answer for child in answer.trajectory.children]
    return [get(i.task).score(i, text).exact for i, text in zip(items, found, strict=True)]


def test_no_single_call_reads_a_chapter(client: Client) -> None:
    """Guards the claim that the document needs a loop below the loop."""
    for item in CHAPTERS:
        prompt = Message("user", f"{item.document}\n{item.question}")
        with pytest.raises(PromptTooLong):
            client.chat([prompt], options=Options(max_tokens=8))


def test_each_chapter_is_answered_by_a_loop_of_its_own(client: Client) -> None:
    document = book(CHAPTERS)
    answer = RLM(root(), client, max_depth=2).completion(document, QUERY)
    console = Console(width=100, markup=False, highlight=False, emoji=False)
    ended = f"ended by {answer.ended_by}"
    given = {"chars": len(document), "query": QUERY, "answer": answer.answer, "ended": ended}
    console.print(draw(answer.trajectory, **given))
    for line in levels(answer.trajectory):
        console.print(line)
    assert right(answer, CHAPTERS) == [True] * 4
    assert answer.answer == ", ".join(item.gold for item in CHAPTERS)
    assert [level.runs for level in answer.trajectory.levels] == [1, 4]
    assert all(child.trajectory.sub_calls for child in answer.trajectory.children)


def test_a_budget_that_ends_among_the_chapters_leaves_what_was_found(client: Client) -> None:
    budget = Budget(calls=9)
    answer = RLM(root(), client, max_depth=2, budget=budget).completion(book(CHAPTERS), QUERY)
    first, second = answer.trajectory.children
    assert (first.answer, first.ended_by) == (CHAPTERS[0].gold, "final")
    assert (second.ended_by, second.trajectory.calls[-1].kind) == ("calls", "last")
    assert (answer.answer.partition(",")[0], answer.ended_by) == (first.answer, "calls")
    assert budget.spent == answer.usage
    assert answer.usage.calls == 9


def test_a_recorded_tree_is_replayed_without_the_model(tmp_path: Path) -> None:
    items = chapters(1, number=2)
    found = []
    for way in ({"record": tmp_path}, {"replay": tmp_path}):
        with closing(connect("embedded", **way)) as sub:
            rlm = RLM(root(), sub, max_depth=2)
            found.append(rlm.completion(book(items), QUERY).trajectory)
    first, again = ([c.answer for c in tree.children] for tree in found)
    assert first == again
    assert found[0].usage == found[1].usage
    assert [run.calls for _, run in found[0].runs()][1:] == [
        run.calls for _, run in found[1].runs()
    ][1:]
