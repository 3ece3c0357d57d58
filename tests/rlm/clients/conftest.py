from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm.clients.llamacpp import CHATML_TEMPLATE, Engine, LlamaCppClient, start_engine
from tests.servers.tiny_gguf import write_tiny_gguf

WINDOW = 512


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with the embedded models' template."""
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", template=CHATML_TEMPLATE)


@pytest.fixture(scope="session")
def engine(tiny_gguf: Path) -> Iterator[Engine]:
    """One engine for all tests that do not end it."""
    with start_engine(tiny_gguf, n_ctx=WINDOW) as running:
        yield running


@pytest.fixture
def embedded(engine: Engine) -> Iterator[LlamaCppClient]:
    client = LlamaCppClient(engine.address, spec="embedded")
    yield client
    client.close()
