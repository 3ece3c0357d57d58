"""The teacher without a sub-model: what it prints, it quotes, and what it quotes, it answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from rlm import open_sandbox, prompts
from rlm.sandbox.base import Sandbox
from training.pretrain import alone
from training.pretrain.demos import Demo, make_demo
from training.pretrain.pages import ABSENT


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    opened = open_sandbox()
    yield opened
    opened.close()


def played(play: alone.Draw, sandbox: Sandbox, count: int = 8) -> list[Demo]:
    """Those of the first `count` that reach the answer."""
    made = (
        make_demo(23, number, lambda stream: replace(play(stream), recursive=False), sandbox)
        for number in range(count)
    )
    return [demo for demo in made if demo is not None]


@pytest.mark.parametrize("play", dict.fromkeys(alone.PLAYS))
def test_it_reaches_the_answer_without_asking_a_model(play: alone.Draw, sandbox: Sandbox) -> None:
    kept = played(play, sandbox)
    assert len(kept) >= 5
    for demo in kept:
        assert demo.messages[0].content in map(prompts.system, ("repl_compact", "repl_full"))
        replies = [m.content for m in demo.messages if m.role == "assistant"]
        assert not any("llm_query" in reply for reply in replies)
        assert "FINAL(" in replies[-1]
        assert demo.targets[-1]


@pytest.mark.parametrize("play", [p for p in dict.fromkeys(alone.PLAYS) if p != alone.trace_play])
def test_what_it_answers_it_has_read_in_what_was_printed(
    play: alone.Draw, sandbox: Sandbox
) -> None:
    for demo in played(play, sandbox):
        printed = demo.messages[-2].content
        quotes = re.findall(r"^# (.*)$", demo.messages[-1].content, re.MULTILINE)
        assert quotes
        for quote in quotes:
            about, _, value = quote.rpartition(" ")
            if value == "nothing":
                assert f'FINAL("{ABSENT}")' in demo.messages[-1].content
            elif about.endswith(" before:"):
                assert value in printed
            else:
                assert quote.lower() in printed.lower()
