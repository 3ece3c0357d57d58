"""What calls at once bring: a batch sent one by one and 16 at a time, in the same session.

    pytest benchmarks/micro/test_concurrency_speed.py -m micro

A server of 50 ms latency answers 64 calls in 4 rounds, ideally 200 ms (the goal is 1.25 times
that); the embedded engine has one slot, so it can gain no more than the time between two calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final

import pytest

from rlm.clients import connect
from rlm.clients.base import Client
from rlm.limits import Budget
from rlm.messages import Options
from rlm.subcalls import SubCalls
from rlm.trajectory import Call
from tests.servers.latency import LatencyServer

pytestmark = pytest.mark.micro

CALLS: Final = 64
SECONDS: Final = 0.05
AT_ONCE: Final = (1, 16)
SHORT: Final = Options(max_tokens=20)
PIECE: Final = "The keeper of lighthouse {number} is called Anna. Who keeps it? " * 8

Measure = Callable[..., Any]


@pytest.fixture(scope="module")
def remote() -> Iterator[Client]:
    with LatencyServer(SECONDS) as server, closing(connect(server.spec)) as client:
        client.info()
        yield client


@pytest.fixture(scope="module")
def embedded() -> Iterator[Client]:
    with closing(connect("embedded")) as client:
        yield client


def batch(client: Client, at_once: int, options: Options) -> Callable[[], list[str]]:
    """The batch as a code cell would ask it."""
    prompts = [PIECE.format(number=number) for number in range(CALLS)]

    def ask() -> list[str]:
        log: list[Call] = []
        calls = SubCalls(
            client,
            options=options,
            budget=Budget(),
            answer_chars=1000,
            concurrency=at_once,
            log=log,
        )
        answers = calls.llm_query_batched(prompts)
        assert [call.messages[0].content for call in log] == prompts
        assert not any(call.error for call in log)
        return answers

    return ask


@pytest.mark.parametrize("at_once", AT_ONCE)
def test_server_of_50_ms(measure: Measure, remote: Client, at_once: int) -> None:
    ideal = CALLS / at_once * SECONDS * 1000
    answers = measure(
        f"{CALLS} calls of {SECONDS * 1000:g} ms, {at_once} at once",
        batch(remote, at_once, Options()),
        goal=1.25 * ideal,
        rounds=5 if at_once > 1 else 1,
        warmup_rounds=1,
    )
    assert answers == ["42"] * CALLS


@pytest.fixture(scope="module")
def alone(embedded: Client) -> list[str]:
    return batch(embedded, 1, SHORT)()


@pytest.mark.parametrize("at_once", AT_ONCE)
def test_embedded_engine(
    measure: Measure, embedded: Client, alone: list[str], at_once: int
) -> None:
    row = f"{CALLS} calls of the embedded engine, {at_once} at once"
    assert measure(row, batch(embedded, at_once, SHORT), rounds=3) == alone
