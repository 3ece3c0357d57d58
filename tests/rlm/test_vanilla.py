"""The baseline: one call with the whole document."""

from __future__ import annotations

import re

import pytest

from rlm.errors import CallTimeout, PromptTooLong
from rlm.messages import Message, Options
from rlm.vanilla import Vanilla
from tests.rlm.scripted import Scripted


def test_document_and_question_byte_for_byte() -> None:
    client = Scripted(["48213"])
    Vanilla(client).completion("The code {x} is 48213.", "Which code?")
    assert client.sent == [
        (
            Message("system", "Answer the question about the text. Reply with the answer only."),
            Message("user", "The code {x} is 48213.\n\nQuestion: Which code?"),
        )
    ]


def test_answer() -> None:
    answer = Vanilla(Scripted([" 48213\n"])).completion("d", "q")
    assert (answer.answer, answer.ended_by, answer.truncated) == ("48213", "answered", False)
    assert (answer.iterations, answer.sub_calls, answer.usage.calls) == (1, 0, 1)
    assert answer.times.wall == 0.5


def test_call_is_recorded() -> None:
    (call,) = Vanilla(Scripted(["48213"])).completion("d", "q").trajectory.calls
    assert (call.kind, call.turn, call.completion.text) == ("vanilla", 0, "48213")


def test_options() -> None:
    client = Scripted(["a", "b"])
    Vanilla(client).completion("d", "q")
    Vanilla(client, options=Options(max_tokens=5)).completion("d", "q")
    assert [options.max_tokens for options in client.options] == [128, 5]


def test_document_that_does_not_fit_is_truncated_not_an_error() -> None:
    answer = Vanilla(Scripted([PromptTooLong("no")])).completion("d", "q")
    assert (answer.answer, answer.truncated) == ("", True)
    assert [call.error for call in answer.trajectory.calls] == ["PromptTooLong: no"]


def test_prompt_cut_silently_is_said() -> None:
    assert Vanilla(Scripted(["x"], truncated=True)).completion("d", "q").truncated


@pytest.mark.parametrize(
    ("most", "truncated"), [(20, True), (2, False)], ids=["by the window", "by max_tokens"]
)
def test_answer_cut_off_by_the_window_is_truncated(most: int, truncated: bool) -> None:
    """Guards against scoring half an answer as a wrong one."""
    client = Scripted(["48213 is"], finish_reason="length")
    answer = Vanilla(client, options=Options(max_tokens=most)).completion("d", "q")
    assert (answer.answer, answer.truncated) == ("48213 is", truncated)


def test_answer_that_the_server_did_not_count_is_not_called_cut() -> None:
    client = Scripted(["yes"], finish_reason="length")  # 3 characters: 0 tokens
    assert not Vanilla(client).completion("d", "q").truncated


def test_other_failure_is_an_error_that_tells_what_was_sent() -> None:
    with pytest.raises(CallTimeout) as raised:
        Vanilla(Scripted([CallTimeout("slow")])).completion("d", "q")
    (call,) = raised.value.trajectory.calls
    assert (call.messages[1].content, call.error) == ("d\n\nQuestion: q", "CallTimeout: slow")


def test_a_document_that_is_not_sent_is_not_kept_either() -> None:
    """Guards 40 MB of trajectory, and a count of all its words, for each cell that is refused."""
    client = Scripted([], window=4096)
    answer = Vanilla(client).completion("grey " * 10**6, "Which code?")
    (call,) = answer.trajectory.calls
    assert (answer.truncated, client.sent) == (True, [])
    assert call.messages[1].content == "[5000000 characters, not sent]\n\nQuestion: Which code?"
    counted = int(re.search(r"at least (\d+) tokens", call.error)[1])
    assert 4096 <= counted < 20_000
