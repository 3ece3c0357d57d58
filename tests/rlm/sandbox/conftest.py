"""A real sandbox, and a model that answers by rule."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from rlm.limits import SandboxLimits
from rlm.sandbox import CellResult, Sandbox, open_sandbox

CONTEXT = "The harbour is grey. The secret passcode is 48213. The harbour sleeps."


@dataclass
class Echo:
    """Answers with what it was asked, and remembers it."""

    asked: list[object] = field(default_factory=list)
    effect: Callable[[str], str] = "<{}>".format

    def llm_query(self, prompt: str) -> str:
        self.asked.append(prompt)
        return self.effect(prompt)

    def llm_query_batched(self, prompts: Sequence[str]) -> list[str]:
        self.asked.append(list(prompts))
        return [self.effect(prompt) for prompt in prompts]

    def rlm_query(self, context: str, query: str) -> str:
        self.asked.append((context, query))
        return f"{query}: {len(context)}"


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture(params=["process", "no-open", "bwrap"])
def backend(request: pytest.FixtureRequest) -> str:
    required = "bwrap" in os.environ.get("RLM_REQUIRE", "").split(",")
    if request.param == "bwrap" and not shutil.which("bwrap") and not required:
        pytest.skip("there is no bwrap; install bubblewrap")
    return str(request.param)


@pytest.fixture
def sandbox(backend: str) -> Iterator[Sandbox]:
    sandbox = open_sandbox(backend)
    yield sandbox
    sandbox.close()


@pytest.fixture
def start(sandbox: Sandbox, echo: Echo) -> Callable[..., Callable[[str], CellResult]]:
    """Open a session; gives back its `run`."""

    def start(
        context: str = CONTEXT, query: str = "Which passcode?", **limits: object
    ) -> Callable[[str], CellResult]:
        sandbox.start(context, echo, query=query, limits=SandboxLimits(**limits))
        return sandbox.run

    return start


@pytest.fixture
def run(start: Callable[..., Callable[[str], CellResult]]) -> Callable[[str], CellResult]:
    return start(seconds=5.0)
