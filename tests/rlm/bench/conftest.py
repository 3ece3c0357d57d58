"""A server that answers by reading, and sessions of pytest that ask it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rlm.bench.plugin_session import Session
from tests.servers.reader import ReaderServer


@pytest.fixture(scope="module")
def server() -> Iterator[ReaderServer]:
    with ReaderServer() as running:
        yield running


@pytest.fixture
def session(pytester: pytest.Pytester, server: ReaderServer) -> Session:
    return Session(pytester, server)
