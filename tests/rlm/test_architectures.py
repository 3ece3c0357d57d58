"""A name for each way of answering an item."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from rlm import architectures
from rlm.architectures import Setup
from rlm.errors import UsageError
from rlm.limits import Budget
from rlm.messages import Options
from rlm.sandbox import open_sandbox
from tests.rlm.scripted import Scripted


@dataclass(frozen=True)
class Item:
    document: str = "The code is 48213."
    question: str = "Which code?"
    spans: tuple = ()


def test_names() -> None:
    assert architectures.names() == ("vanilla", "rlm")


def test_unknown_name_lists_those_that_are() -> None:
    with pytest.raises(UsageError, match="'rml'; there are: vanilla, rlm"):
        architectures.get("rml")


def test_vanilla_reads_the_document() -> None:
    client = Scripted(["48213"])
    answer = architectures.get("vanilla")(Item(), Setup(client))
    assert (answer.answer, answer.ended_by) == ("48213", "answered")
    assert Item().document in client.sent[0][1].content


def test_rlm_runs_the_loop_in_the_given_sandbox() -> None:
    sandbox = open_sandbox()
    try:
        client = Scripted(["FINAL(context[-6:-1])"])
        answer = architectures.get("rlm")(Item(), Setup(client, sandbox=sandbox))
        assert (answer.answer, answer.ended_by) == ("48213", "final")
        assert sandbox.run("print(query)").stdout == "Which code?\n"
    finally:
        sandbox.close()


def test_setup_reaches_the_loop() -> None:
    seen: list = []
    setup = Setup(
        Scripted(["print(1)", "48213"]),
        prompt="compact",
        budget=Budget(calls=2),
        on_turn=seen.append,
    )
    answer = architectures.get("rlm")(Item(), setup)
    assert (answer.ended_by, len(seen)) == ("calls", 1)
    assert answer.trajectory.calls[0].messages[0].content.startswith("Answer a question about")


@pytest.mark.parametrize(
    ("name", "given", "sent"),
    [
        ("vanilla", None, [Options(128)]),
        ("vanilla", Options(64, 0.7, 3), [Options(64, 0.7, 3)]),
        ("rlm", None, [Options(512), Options(256)]),
        ("rlm", Options(64, 0.7, 3), [Options(64, 0.7, 3), Options(256, 0.7, 3)]),
    ],
)
def test_options_reach_every_call(name: str, given: Options | None, sent: list[Options]) -> None:
    client = Scripted(["FINAL(llm_query('q'))", "48213"])
    architectures.get(name)(Item(), Setup(client, options=given))
    assert client.options == sent
