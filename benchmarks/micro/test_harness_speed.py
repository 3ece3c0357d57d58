"""How fast the harness is: a run of 10,000 cells opened and continued, a row, a cell, a session.

    pytest benchmarks/micro/test_harness_speed.py -m micro

It takes about a minute. No time is asserted, only that what was measured worked.
"""

from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from rlm.bench import records, runner, session
from rlm.bench.grid import Grid
from rlm.bench.records import Record, Store
from rlm.bench.session import Options, Session, Start
from rlm.clients import connect
from rlm.clients.base import Client
from rlm.sandbox import Sandbox, open_sandbox
from tests.servers.reader import ReaderServer

pytestmark = pytest.mark.micro

GRID: Final = Grid(lengths=(1024,), depths=(10, 30, 50, 70, 90), samples=500)
TASKS: Final = ("niah", "long_doc_qa")
CELLS: Final = tuple(cell for task in TASKS for cell in GRID.cells(task, (50,)))
MB: Final = 10**6

MODULE: Final = """
import pytest

@pytest.mark.cells("niah")
def test_niah(cell):
    cell.run()
"""
SAMPLES: Final = 30
FEW: Final = ("--rlm-lengths=1k", "--rlm-depths=50", f"--rlm-samples={SAMPLES}")

Measure = Callable[..., Any]


class Clock:
    """Seconds in which neither a model nor a sandbox had anything to do."""

    def __init__(self) -> None:
        self._depth, self._stopped = 0, 0.0

    def __call__(self) -> float:
        return time.perf_counter() - self._stopped

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Does not count what happens inside; a call of the model in a sandbox's cell is inside."""
        began = time.perf_counter()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._stopped += time.perf_counter() - began


OWN: Final = Clock()


class Uncounted:
    """Another object, while whose methods `names` run the clock stands."""

    def __init__(self, inner: Client | Sandbox, *names: str) -> None:
        self._inner, self._names = inner, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._names:
            return found

        def uncounted(*args: Any, **kwargs: Any) -> Any:
            with OWN.stopped():
                return found(*args, **kwargs)

        return uncounted


@pytest.fixture(scope="module")
def server() -> Iterator[ReaderServer]:
    with ReaderServer() as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ReaderServer) -> Iterator[Client]:
    with closing(connect(server.spec)) as opened:
        yield opened


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with closing(open_sandbox()) as opened:
        yield opened


@pytest.fixture(scope="module")
def options(server: ReaderServer, tmp_path_factory: pytest.TempPathFactory) -> Options:
    return Options(spec=server.spec, run=str(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def settings(options: Options) -> runner.Settings:
    assert options.run is not None
    return session.settings(options, Start(run=options.run, environment=runner.environment()))


@pytest.fixture(scope="module")
def measured(settings: runner.Settings, client: Client, sandbox: Sandbox) -> dict[str, Record]:
    """One record of each architecture."""
    found = {}
    for cell in CELLS[: len(GRID.architectures)]:
        outcome = runner.measure(cell, settings, client=lambda: client, sandbox=lambda: sandbox)
        assert outcome.record is not None
        assert outcome.verdict == "correct"
        found[cell.architecture] = outcome.record
    return found


@pytest.fixture(scope="module")
def run(settings: runner.Settings, client: Client, measured: dict[str, Record]) -> Path:
    """A run that holds all `CELLS`: each with its own key and document, and results measured."""
    info = client.info()
    with (settings.run / records.RESULTS).open("w", encoding="ascii") as file:
        for cell in CELLS:
            item = runner.make_item(cell, settings.seed, settings.split)
            bare = runner.prepare(runner.blank(cell, settings), settings, info, item)
            of_cell = ("key", *records.COORDINATES, "doc", "question", "gold", "realised_depth")
            own = {name: getattr(bare, name) for name in of_cell}
            record = replace(measured[cell.architecture], **own, prediction=bare.gold)
            file.write(records.encode(record) + "\n")
    return settings.run


def peak(task: Callable[[], object]) -> float:
    """Most memory in MB that Python held during `task`, beyond what it held before."""
    tracemalloc.start()
    try:
        task()
        return tracemalloc.get_traced_memory()[1] / MB
    finally:
        tracemalloc.stop()


def test_open_a_run(measure: Measure, run: Path, benchmark: Any) -> None:
    def opened() -> Store:
        with closing(Store(run)) as store:
            return store

    store = measure(f"open, {len(CELLS):,} cells", opened, rounds=5)
    assert len(store.records) == len(CELLS)
    benchmark.extra_info.update(
        peak_mb=peak(opened), file_mb=(run / records.RESULTS).stat().st_size / MB
    )


@pytest.mark.usefixtures("run")
def test_continue_a_run(measure: Measure, options: Options, benchmark: Any) -> None:
    """All that a session does between the last collected cell and the first one that runs."""

    def begin() -> list[str]:
        with closing(Session(options, CELLS)) as begun:
            return begun.lines()

    lines = measure(f"continue, {len(CELLS):,} cells", begin, goal=2000, rounds=5)
    assert lines[-1].endswith(f"{len(CELLS)} done, 0 to do")
    benchmark.extra_info.update(peak_mb=peak(begin))


def test_append(measure: Measure, tmp_path: Path, measured: dict[str, Record]) -> None:
    """One row, until it would survive a crash of the machine."""
    keys = count()
    with closing(Store(tmp_path)) as store:

        def append() -> None:
            store.append(replace(measured["rlm"], key=str(next(keys))))

        measure("append, synced", append, rounds=200, warmup_rounds=5)
    assert len(records.load(tmp_path)) == next(keys)


@pytest.mark.benchmark(timer=OWN)
@pytest.mark.parametrize("architecture", GRID.architectures)
def test_cell(
    measure: Measure,
    settings: runner.Settings,
    client: Client,
    sandbox: Sandbox,
    tmp_path: Path,
    architecture: str,
) -> None:
    """From the name of a cell to its row and trajectory, without its model and sandbox."""
    here = replace(settings, run=tmp_path)
    cells = (cell for cell in CELLS if cell.architecture == architecture)
    model = Uncounted(client, "chat")
    confined = Uncounted(sandbox, "start", "run", "reset")
    with closing(Store(tmp_path)) as store:

        def answer() -> None:
            done = runner.measure(next(cells), here, client=lambda: model, sandbox=lambda: confined)
            assert done.record is not None
            store.append(done.record)

        measure(f"cell, {architecture}", answer, goal=20, rounds=50, warmup_rounds=2)
    assert {r.verdict for r in records.load(tmp_path)} == {"correct"}


@pytest.mark.parametrize("architecture", GRID.architectures)
def test_session(
    measure: Measure, server: ReaderServer, tmp_path: Path, benchmark: Any, architecture: str
) -> None:
    """A whole session of pytest, its start too.

    `own_ms` is what passes from its first cell to its last, for each, beyond model, queue and code;
    a sandbox's start is in it, which is shorter where the model takes its time.
    """
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "test_cells.py").write_text(MODULE)
    command = [sys.executable, "-m", "pytest", "-pno:cacheprovider", *FEW]
    names = count()

    def whole() -> list[Record]:
        name = f"run{next(names)}"
        asked = (f"--rlm-model={server.spec}", f"--rlm-run={name}", f"--rlm-arch={architecture}")
        subprocess.run([*command, *asked], cwd=tmp_path, check=True, capture_output=True)
        return records.load(tmp_path / "runs" / name)

    found = measure(f"session, {architecture} cell", whole, parts=SAMPLES, rounds=3)
    assert len(found) == SAMPLES
    benchmark.extra_info.update(own_ms=own(found) * 1000)


def own(found: list[Record]) -> float:
    """Seconds of a cell that were neither the model's nor the code's, from one cell to the next."""
    first, last = (datetime.fromisoformat(t) for t in (found[0].started, found[-1].finished))
    others = sum(r.time.model + r.time.queue + r.time.sandbox for r in found)
    return ((last - first).total_seconds() - others) / len(found)
