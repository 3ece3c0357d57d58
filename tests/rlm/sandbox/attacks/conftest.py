"""Attacks on the sandbox: each is the code of a cell, in every backend that confines.

After each one a guard looks at what it may have done to the host. While a backend has a hole an
attack goes through, so each is written to do no harm then: signal 0, canaries, invalid arguments.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlm.limits import SandboxLimits
from rlm.sandbox import CellResult, Sandbox, open_sandbox
from tests.rlm.sandbox.attacks.host import Guard

BACKENDS = (
    "process",
    pytest.param("no-open", marks=pytest.mark.slow),
    pytest.param("bwrap", marks=pytest.mark.slow),
)
INSIDE = Path(__file__).with_name("inside.py").read_text(encoding="utf-8")
REFUSALS = {"process": {"EPERM", "EACCES", "ENOSYS"}}
REFUSALS["no-open"] = REFUSALS["process"] | {"import"}  # only what was imported before is there
REFUSALS["bwrap"] = REFUSALS["process"] | {"ENOENT", "ESRCH", "EROFS"}  # not there at all
CONTEXT = "The harbour is grey. The secret passcode is 48213. The harbour sleeps."

Run = Callable[[str], CellResult]
Refused = Callable[..., None]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "bwrap" and shutil.which("bwrap") is None:
        reason = "bubblewrap is not installed: apt-get install bubblewrap"
        if "bwrap" in os.environ.get("RLM_REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that nothing may read, and nothing may change."""
    folder = tmp_path / "canaries"
    (folder / "cage").mkdir(parents=True)
    (folder / "secret.txt").write_text("the canary sings", encoding="utf-8")
    (folder / "cage" / "planted.py").touch()
    (folder / "link").symlink_to("secret.txt")
    (folder / "run").write_text("#!/bin/sh\ntrue\n", encoding="utf-8")
    (folder / "run").chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def guard(folder: Path) -> Iterator[Guard]:
    guard = Guard(folder)
    yield guard
    guard.check()


@pytest.fixture
def sandbox(backend: str, guard: Guard) -> Iterator[Sandbox]:
    sandbox = open_sandbox(backend)
    yield sandbox
    sandbox.close()


@pytest.fixture
def start(sandbox: Sandbox, echo: object) -> Callable[..., Run]:
    """Open a session; gives back its `run`."""

    def start(context: str = CONTEXT, **limits: object) -> Run:
        sandbox.start(context, echo, query="Which passcode?", limits=SandboxLimits(**limits))
        return sandbox.run

    return start


@pytest.fixture
def run(start: Callable[..., Run]) -> Run:
    return start(seconds=5.0)


@pytest.fixture
def inside(folder: Path) -> str:
    """What goes before the code of an attack."""
    return f"HOST, FOLDER = {os.getpid()}, {str(folder)!r}\n{INSIDE}\n"


@pytest.fixture
def refused(start: Callable[..., Run], inside: str, backend: str) -> Refused:
    """Assert that an attack, tried on each target, is refused each time, by the sandbox."""

    def refused(code: str, *targets: object) -> None:
        if "call(" in code and platform.machine() != "x86_64":
            pytest.skip("goes by the numbers of x86-64")
        tries = [f"judge({code!r}, {target!r})" for target in targets or (None,)]
        result = start(seconds=5.0)(inside + "\n".join(tries))
        assert result.status == "ok", result
        outcomes = result.stdout.splitlines()
        assert [line for line in outcomes if not _is_refusal(line, REFUSALS[backend])] == []
        assert len(outcomes) == len(tries)

    return refused


def _is_refusal(line: str, refusals: set[str]) -> bool:
    outcome = line.rpartition(": ")[2] if "refused import" not in line else "refused import"
    return outcome.startswith("refused ") and outcome.removeprefix("refused ") in refusals


@pytest.fixture
def usable() -> Callable[[Run], None]:
    """Assert that the session goes on: at once, or after it said that its worker died."""

    def usable(run: Run) -> None:
        result = run("print(context_len)")
        if result.status == "died":
            result = run("print(context_len)")
        assert (result.status, result.stdout) == ("ok", f"{len(CONTEXT)}\n"), result

    return usable
