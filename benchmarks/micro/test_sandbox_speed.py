"""How fast the sandboxes are: start, cell, call, large context, and the way back from a death.

    pytest benchmarks/micro -m micro

It takes less than a minute on a machine that does nothing else; on another one the figures are of
that machine's load. No time is asserted, only that what was measured worked.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from rlm.errors import SandboxError
from rlm.sandbox import Sandbox, open_sandbox, process

pytestmark = pytest.mark.micro

BACKENDS = ("process", "no-open", "bwrap", "monty")
LOCKED = ("process", "no-open", "bwrap")
OPTIONAL = ("bwrap", "monty")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a memfd needs Linux")

TEXT = "The harbour is grey.\n"
MB = 10**6
EMPTY = "x = 1"
CALLS = 200
ASK = f"for _ in range({CALLS}):\n    answer = llm_query('How grey?')\nprint(answer)"

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows knows only the second, and kills

Measure = Callable[..., Any]


class Prompt:
    """A model that answers at once."""

    def llm_query(self, prompt: str) -> str:
        return prompt

    def llm_query_batched(self, prompts: Sequence[str]) -> list[str]:
        return list(prompts)

    def rlm_query(self, context: str, query: str) -> str:
        return f"{len(context)} {query}"


@cache
def missing(backend: str) -> str:
    """Why `backend` cannot be measured here; empty if it can."""
    try:
        with closing(open_sandbox(backend)) as sandbox:
            sandbox.start(TEXT, Prompt())
    except SandboxError as problem:
        return str(problem)
    return ""


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    may_miss = name in OPTIONAL or sys.platform != "linux"
    if may_miss and missing(name) and name not in os.environ.get("RLM_REQUIRE", "").split(","):
        pytest.skip(missing(name))
    return name


@pytest.fixture
def fresh(backend: str) -> Iterator[Callable[[], Sandbox]]:
    """Opens a sandbox, without a worker that waits, and closes the one that it opened before."""
    with ExitStack() as stack:

        def fresh() -> Sandbox:
            stack.close()
            return stack.enter_context(closing(open_sandbox(backend)))

        yield fresh


@pytest.fixture
def sandbox(fresh: Callable[[], Sandbox]) -> Sandbox:
    """With a session, and nothing else going on."""
    sandbox = started(fresh())
    settle(sandbox)
    return sandbox


@pytest.fixture(scope="module")
def floor() -> float:
    """Seconds that the empty cell takes in this process."""
    return min(timeit.repeat(execute, number=1000, repeat=5)) / 1000


def execute() -> None:
    """The empty cell without a sandbox."""
    names: dict[str, Any] = {}
    exec(compile(EMPTY, "cell", "exec", dont_inherit=True), names)
    assert names["x"] == 1


def started(sandbox: Sandbox, context: str = TEXT) -> Sandbox:
    sandbox.start(context, Prompt())
    return sandbox


def run(sandbox: Sandbox) -> None:
    result = sandbox.run(EMPTY)
    assert (result.status, result.error) == ("ok", "")


def check_context(sandbox: Sandbox, context: str) -> None:
    code = f"print(len(context), context.endswith({TEXT!r}))"
    assert sandbox.run(code).stdout == f"{len(context)} True\n"


def settle(sandbox: Sandbox) -> None:
    """Wait until the worker that waits for the next session, if there is one, is up and asleep."""
    spare = getattr(sandbox, "_spare", None)
    deadline, asleep = time.monotonic() + 30, 0
    while spare is not None and asleep < 5:  # a start that waits for something does so once
        assert time.monotonic() < deadline, "the next worker does not come to rest"
        status = Path(f"/proc/{spare._pid}/stat").read_text()
        asleep = asleep + 1 if status.rpartition(")")[2].split()[0] == "S" else 0
        time.sleep(0.005)


def worker_pid(sandbox: Any) -> int:
    """Process id of the worker that runs the cells."""
    if hasattr(sandbox, "_child"):
        return int(sandbox._child._pid)
    return int(sandbox._worker._session.worker_pid)


def document(size: int) -> str:
    """As many characters, and bytes."""
    return (TEXT * (size // len(TEXT) + 1))[-size:]


def test_start_cold(measure: Measure, fresh: Callable[[], Sandbox]) -> None:
    """No worker waits, so that the start of a Python is part of it."""
    last = measure(
        "start, cold",
        started,
        goal=50,
        setup=lambda: ((fresh(),), {}),
        rounds=20,
        warmup_rounds=2,
    )
    check_context(last, TEXT)


def test_start_warm(measure: Measure, sandbox: Sandbox) -> None:
    """A worker waits: a session takes the place of another one."""
    measure(
        "start, warm",
        lambda: started(sandbox),
        goal=50,
        setup=lambda: settle(sandbox),
        rounds=20,
        warmup_rounds=2,
    )
    check_context(sandbox, TEXT)


@pytest.mark.parametrize("size", [1, 100], ids="{}MB".format)
def test_start_with_a_context(measure: Measure, fresh: Callable[[], Sandbox], size: int) -> None:
    """Cold, all of it: the text is encoded, written, and read again by the worker."""
    text = document(size * MB)
    last = measure(
        f"start, {size} MB",
        lambda sandbox: started(sandbox, text),
        setup=lambda: ((fresh(),), {}),
        rounds=10 if size == 1 else 3,
    )
    check_context(last, text)


@pytest.mark.parametrize("backend", LOCKED, indirect=True)
def test_start_with_a_written_context(
    measure: Measure, fresh: Callable[[], Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, but its memfd is there already. It is still encoded, for nothing."""
    text = document(100 * MB)
    sealed = process._seal(text.encode())
    monkeypatch.setattr(process, "_seal", lambda _data: os.dup(sealed))
    try:
        last = measure(
            "start, 100 MB written",
            lambda sandbox: started(sandbox, text),
            goal=300,
            setup=lambda: ((fresh(),), {}),
            rounds=5,
        )
        check_context(last, text)
    finally:
        os.close(sealed)


@ON_LINUX
@pytest.mark.parametrize("size", [1, 100], ids="{}MB".format)
def test_write_of_a_context(measure: Measure, size: int) -> None:
    """What the host does before any worker can read it."""
    data = document(size * MB).encode()
    with ExitStack() as stack:

        def write() -> int:
            fd = process._seal(data)
            stack.callback(os.close, fd)
            assert os.fstat(fd).st_size == len(data)
            return fd

        measure(f"memfd, {size} MB", write, setup=stack.close, rounds=10 if size == 1 else 5)


def test_cell_without_a_sandbox(measure: Measure) -> None:
    """The floor of an empty cell."""
    measure("cell, empty", execute, goal=0.3, rounds=100, iterations=100)


def test_cell(measure: Measure, sandbox: Sandbox, floor: float, benchmark: Any) -> None:
    """An empty cell, from its code to its result; whether late cells of a session take longer."""
    measure("cell, empty", run, goal=0.3, args=(sandbox,), rounds=100, warmup_rounds=5)
    if benchmark.stats is None:
        return
    times = benchmark.stats.stats.data
    benchmark.extra_info.update(
        floor_ms=floor * 1000,
        of_floor=median(times) / floor,
        last_of_first=median(times[-20:]) / median(times[:20]),
    )


def test_call(measure: Measure, sandbox: Sandbox) -> None:
    """From `llm_query` in a cell to its answer there. The cell itself is part of it."""
    result = measure(
        "call",
        lambda: sandbox.run(ASK),
        goal=0.2,
        parts=CALLS,
        rounds=10,
        warmup_rounds=1,
    )
    assert (result.status, result.calls, result.stdout) == ("ok", CALLS, "How grey?\n")


def test_way_back_from_a_death(measure: Measure, sandbox: Sandbox) -> None:
    """From a kill over the cell that finds the worker dead to the end of the cell after it."""

    def prepare() -> tuple[tuple[int], dict[str, Any]]:
        run(sandbox)
        settle(sandbox)
        return (worker_pid(sandbox),), {}

    def die_and_go_on(pid: int) -> None:
        os.kill(pid, KILL)
        assert sandbox.run(EMPTY).status == "died"
        run(sandbox)

    measure(
        "death to next cell", die_and_go_on, goal=100, setup=prepare, rounds=20, warmup_rounds=1
    )
    check_context(sandbox, TEXT)
