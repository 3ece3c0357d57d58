"""A server that answers by reading, and sessions of pytest that ask it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rlm.bench import tasks
from tests.rlm.bench.plugin_session import Session
from tests.servers.reader import ReaderServer


@pytest.fixture(scope="module")
def server() -> Iterator[ReaderServer]:
    with ReaderServer() as running:
        yield running


@pytest.fixture
def session(pytester: pytest.Pytester, server: ReaderServer) -> Session:
    return Session(pytester, server)


@pytest.fixture(autouse=True)
def _no_task_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is known to no other."""
    monkeypatch.setattr(tasks, "_TASKS", dict(tasks._TASKS))
