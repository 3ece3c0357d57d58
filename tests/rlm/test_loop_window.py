"""The loop in a small window: old outputs are dropped, then one last call asks for the answer."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import pytest

from rlm.history import History
from rlm.loop import RLM
from rlm.messages import Completion, Message, Options, Usage
from rlm.prompts import say
from rlm.sandbox import Sandbox, open_sandbox
from rlm.trajectory import Answer
from tests.rlm.scripted import Scripted, count

PRINT = "print('{}' * 599)"
SMALL = Options(max_tokens=20)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    box = open_sandbox()
    yield box
    box.close()


def run(sandbox: Sandbox, client: Scripted, **options: object) -> Answer:
    given: dict = {"root_options": SMALL, "prompt": "compact"} | options
    return RLM(client, sandbox=sandbox, **given).completion("some text", "What?")


def printing(turns: int, *after: str) -> list[str]:
    """Replies that print 600 characters each, no two alike."""
    return [PRINT.format(letter) + f"\n{letter} = 1" * 5 for letter in "abcdefgh"[:turns]] + [
        *after
    ]


def room(turns: int) -> int:
    """Tokens that the conversation takes after so many printing turns."""
    box = open_sandbox()
    try:
        answer = run(box, Scripted(printing(turns, "FINAL(1)")))
    finally:
        box.close()
    return count(answer.trajectory.calls[-1].messages)


@pytest.mark.parametrize(("silent", "more"), [(False, 20), (True, -1)])
def test_oldest_output_is_dropped_when_the_window_is_full(
    sandbox: Sandbox, silent: bool, more: int
) -> None:
    window = room(3) + more
    client = Scripted(printing(3, "FINAL(1)"), window=window, silent=silent)
    answer = run(sandbox, client)
    assert (answer.answer, answer.ended_by) == ("1", "final")
    assert 1 in {k for turn in answer.trajectory.turns for k in turn.dropped}
    length = len(answer.trajectory.turns[0].feedback)
    marker = Message("user", say("root", "dropped", turn=1, length=length))
    assert answer.trajectory.calls[-1].messages[3] == marker


def test_marker_says_turn_and_length() -> None:
    history = History("s", "o")
    history.add("r", "x" * 600)
    history.add("r", "y" * 600)
    assert history.drop_oldest(keep=1) == 1
    assert history.messages()[3].content == "[output of turn 1, 600 characters, dropped]"


def test_newest_output_is_kept() -> None:
    history = History("s", "o")
    history.add("r", "x" * 600)
    assert history.drop_oldest(keep=1) is None


def test_output_shorter_than_its_marker_is_kept() -> None:
    history = History("s", "o")
    history.add("r", "Output: none.")
    history.add("r", "x" * 600)
    assert history.drop_oldest(keep=0) == 2


def test_nothing_is_dropped_twice() -> None:
    history = History("s", "o")
    history.add("r", "x" * 600)
    history.drop_oldest(keep=0)
    assert history.drop_oldest(keep=0) is None


def test_dropped_is_recorded_with_the_turn_before_which_it_happened(sandbox: Sandbox) -> None:
    client = Scripted(printing(4, "FINAL(1)"), window=room(3) + 20)
    dropped = [turn.dropped for turn in run(sandbox, client).trajectory.turns]
    assert dropped == [(), (), (1,), (2,), (3,)]


def test_a_known_window_is_never_overrun(sandbox: Sandbox) -> None:
    window = room(3)
    answer = run(sandbox, Scripted(printing(8, "48213"), window=window))
    assert not any(call.error for call in answer.trajectory.calls)
    for call in answer.trajectory.calls:
        assert count(call.messages) + SMALL.max_tokens <= window


def test_refusals_of_an_unknown_window_are_recorded(sandbox: Sandbox) -> None:
    client = Scripted(printing(3, "FINAL(1)"), window=room(2) + 10, silent=True)
    answer = run(sandbox, client)
    assert {call.error for call in answer.trajectory.calls} == {"", "PromptTooLong: too long"}
    assert answer.iterations == 4
    assert not answer.truncated


@pytest.mark.parametrize("silent", [False, True])
def test_last_call_when_dropping_is_not_enough(sandbox: Sandbox, silent: bool) -> None:
    replies = [f"print('{'x' * 400}')", "48213"]
    window = room(0) + 150
    answer = run(sandbox, Scripted(replies, window=window, silent=silent))
    assert (answer.answer, answer.ended_by, answer.iterations) == ("48213", "window", 1)
    assert answer.trajectory.calls[-1].kind == "last"
    assert not answer.truncated


def test_last_call_keeps_the_newest_output_where_it_fits(sandbox: Sandbox) -> None:
    options = Options(max_tokens=512)
    window = room(1) + 400
    client = Scripted([*printing(1), "48213"], window=window)
    answer = run(sandbox, client, root_options=options)
    assert (answer.answer, answer.ended_by) == ("48213", "window")
    assert "a" * 100 in answer.trajectory.calls[-1].messages[-1].content
    assert client.options[-1].max_tokens == 128


def test_last_call_falls_back_to_the_opening(sandbox: Sandbox) -> None:
    replies = [f"# {'word ' * 200}\nprint(1)", "48213"]
    answer = run(sandbox, Scripted(replies, window=room(0) + 60))
    last = answer.trajectory.calls[-1]
    assert answer.answer == "48213"
    assert [message.role for message in last.messages] == ["system", "user"]
    assert last.messages[-1].content.endswith("\n" + say("root", "last_call"))


def test_run_whose_opening_does_not_fit_is_truncated(sandbox: Sandbox) -> None:
    answer = run(sandbox, Scripted([], window=10))
    assert (answer.answer, answer.ended_by, answer.truncated) == ("", "window", True)
    assert {call.completion for call in answer.trajectory.calls} == {None}


def completion(text: str, tokens: int, answered: int) -> Completion:
    return Completion(text, Usage(tokens, answered, 1), "stop", None)


class Forgetful(Scripted):
    """A server that leaves out older messages, and counts what is left."""

    def chat(self, messages: Sequence[Message], *, options: Options) -> Completion:
        kept = [*messages[:1], *messages[-1:]]
        return super().chat(kept if len(messages) > 2 else messages, options=options)


@pytest.mark.parametrize(("client", "truncated"), [(Forgetful, True), (Scripted, False)])
def test_run_whose_server_left_messages_out_is_truncated(
    sandbox: Sandbox, client: type[Scripted], truncated: bool
) -> None:
    """Guards against a cut that no count of one call shows: Ollama drops whole older messages."""
    answer = run(sandbox, client(["print(1)\n" + "# word\n" * 40, "FINAL(1)"]))
    assert (answer.answer, answer.truncated) == ("1", truncated)


def test_nothing_counted_bounds_nothing() -> None:
    assert History("s", "o").bound([Message("user", "x" * 9_000)]) == 0


def test_new_text_is_bounded_by_half_its_characters() -> None:
    history = History("s", "o")
    history.count(history.messages(), completion("abcd", 100, 1))
    history.add("abcd", "x" * 600)
    assert history.bound(history.messages()) == 100 + 1 + 16 + 300


def test_dropped_text_is_not_overrated() -> None:
    history = History("s", "o")
    history.add("r", "x" * 643)
    history.count(history.messages(), completion("", 200, 0))
    history.drop_oldest(keep=0)
    assert history.bound(history.messages()) == 200 + 16 - 100


def test_thinking_does_not_fill_the_history() -> None:
    """A thinking model counts tokens that are not in its reply."""
    history = History("s", "o")
    history.count(history.messages(), completion("abcd", 100, 3_000))
    assert history.bound(history.messages()) < 200


@pytest.mark.parametrize(("more", "given"), [(1000, {300}), (330, range(50, 250))])
def test_the_last_call_has_the_answers_room_and_drops_no_output_for_it(
    sandbox: Sandbox, more: int, given: Container[int]
) -> None:
    """Guards against room that every turn has, for which outputs were dropped."""
    plain = Scripted([*printing(2), "48213"])
    run(sandbox, plain, max_iterations=2)
    window = room(2) + count((Message("user", say("root", "last_call")),)) + more
    client = Scripted([*printing(2), "48213"], window=window)
    roomy = run(sandbox, client, max_iterations=2, answer_tokens=300)
    assert (roomy.answer, roomy.ended_by) == ("48213", "turns")
    assert client.sent == plain.sent
    *turns, last = (o.max_tokens for o in client.options)
    assert set(turns) == {SMALL.max_tokens}
    assert last in given
    assert count(client.sent[-1]) + last <= window


def test_without_a_window_the_last_call_has_all_of_the_answers_room(sandbox: Sandbox) -> None:
    client = Scripted(["x = 1", "48213"])
    run(sandbox, client, max_iterations=1, answer_tokens=300)
    assert [o.max_tokens for o in client.options] == [SMALL.max_tokens, 300]
