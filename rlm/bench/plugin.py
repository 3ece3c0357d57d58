"""The pytest plugin: options, cells, verdicts, summary.

A module of cells, here or in anyone's repository, is

    @pytest.mark.cells("niah")
    def test_niah(cell):
        cell.run()

and the grid comes from the options. Nothing is printed or started unless a cell is collected.
`-k` matches substrings of folder, module, function and mark names, so none of them may hold the
name of an architecture.
"""

from __future__ import annotations

import argparse
import ast
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from rlm.bench import options
from rlm.bench.controller import (
    ALL,
    CONTROLLER,
    DATASET,
    GIVEN,
    OWN,
    PROPERTY,
    STOP,
    Collected,
    Controller,
    pack,
)

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

    from rlm.bench.grid import Cell, Grid
    from rlm.bench.mailbox import Mailbox
    from rlm.bench.runner import Outcome
    from rlm.bench.session import Options, Start
    from rlm.bench.tasks.given import Given
    from rlm.clients.base import Client
    from rlm.sandbox.base import Sandbox


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; lists are separated by commas."""
    group = parser.getgroup("rlm-bench", "benchmark cells (rlm-bench)")
    for (name, placeholder, parse, default), text in options.VALUES:
        group.addoption(
            f"--rlm-{name}",
            metavar=placeholder,
            type=options.typed(parse),
            default=default,
            help=text,
        )
    for name, values, text in options.CHOICES:
        told = f"{text}; default {values[0]}"
        group.addoption(f"--rlm-{name}", choices=values, default=values[0], help=told)
    group.addoption(
        "--rlm-fail-under",
        metavar="GATE",
        type=options.typed("parse_gate", "gates"),
        action="append",
        default=[],
        help=options.FAIL_UNDER,
    )
    group.addoption("--rlm-pull", action="store_true", help=options.PULL)
    group.addoption("--rlm-plan", action="store_true", help=options.PLAN)


class Bench:
    """What a process knows of the session, whether it owns it or is a worker.

    Attributes:
        given: the data of ``--rlm-file`` or ``--rlm-dataset``, if there are any.
        given_as: the name in a mark that takes them; empty where there are none.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.worker: Mapping[str, str] = getattr(config, "workerinput", {})
        self.collected = Collected()
        self._start: Start | None = None
        self._stopped = ""
        self.given = _given_data(config.option)
        self.given_as = "" if not self.given else DATASET if config.option.rlm_dataset else OWN

    @property
    def mailbox(self) -> Mailbox | None:
        """Where a worker meets the controller; ``None`` in the controller itself."""
        from rlm.bench.mailbox import Mailbox

        return Mailbox(Path(self.worker["rlm_mailbox"])) if self.worker else None

    @property
    def options(self) -> Options:
        """The options of the command line."""
        from rlm.bench.session import Options

        given = self.config.option
        return Options(
            spec=given.rlm_model,
            num_ctx=given.rlm_num_ctx,
            prompt=given.rlm_prompt,
            seed=given.rlm_seed,
            split=given.rlm_split,
            sandbox=given.rlm_sandbox,
            run=given.rlm_run,
            rerun=given.rlm_rerun,
            root=self.config.invocation_params.dir,
            clients=1 + len(getattr(given, "tx", None) or ()),
            temperature=given.rlm_temperature,
            max_tokens=given.rlm_max_tokens,
            max_minutes=given.rlm_max_minutes,
            compare=given.rlm_compare,
            pull=given.rlm_pull,
            concurrency=given.rlm_concurrency,
            record=given.rlm_record,
            replay=given.rlm_replay,
            max_iterations=given.rlm_max_iterations,
            max_depth=given.rlm_max_depth,
            overflow=given.rlm_overflow,
            file=self._file,
        )

    @property
    def _file(self) -> dict[str, str] | None:
        """What the header of the run says about the given data."""
        if not self.given:
            return None
        first, name = self.given[0], self.config.option.rlm_dataset
        told = {"path": str(first.path), "sha256": first.sha256}
        return {**told, "dataset": name} if name else told

    @property
    def start(self) -> Start:
        """The start of the session: set by its owner, or waited for by a worker with cells."""
        from rlm.bench.session import Start

        if self._start is None and self.mailbox is not None and self.collected.cells:
            self._start = Start(**self.mailbox.wait("start"))
        return self._start or Start()

    @start.setter
    def start(self, start: Start) -> None:
        self._start = start

    @property
    def stopped(self) -> str:
        """Why no further cell shall start; empty while cells may."""
        if self.mailbox is not None and not self._stopped:
            self._stopped = (self.mailbox.read(STOP) or {}).get("reason", "")
        return self._stopped

    @stopped.setter
    def stopped(self, reason: str) -> None:
        self._stopped = reason


BENCH: Final = pytest.StashKey[Bench]()


def _given_data(option: argparse.Namespace) -> tuple[Given, ...]:
    """The data of ``--rlm-file`` or ``--rlm-dataset``, known as tasks from here on."""
    file, name, path = option.rlm_file, option.rlm_dataset, option.rlm_data
    if file is None and name is None and path is None:
        return ()
    from rlm.bench import datasets, tasks
    from rlm.bench.tasks import own
    from rlm.errors import UsageError

    if file and name:
        raise pytest.UsageError("--rlm-file and --rlm-dataset: give one, and the other to a run")
    if path and not name:
        raise pytest.UsageError(f"--rlm-data {path}: which set? Add --rlm-dataset NAME")
    if name and not path:
        remedy = datasets.DATASETS[name].remedy
        raise pytest.UsageError(f"--rlm-dataset {name} needs --rlm-data PATH: {remedy}")
    try:
        found = datasets.load(name, path) if name else (own.load(file),)
    except UsageError as error:
        raise pytest.UsageError(f"--rlm-{'data' if name else 'file'}: {error}") from error
    for data in found:
        tasks.register(data)
    return found


@pytest.hookimpl(tryfirst=True)  # before xdist looks at its options
def pytest_configure(config: pytest.Config) -> None:
    """Register the marks, and in the process that has the terminal the controller."""
    config.addinivalue_line("markers", "cells(task): one case for each cell of the task's grid")
    config.addinivalue_line("markers", "smoke: a subset of the cells that takes under a minute")
    if config.option.rlm_fail_on == "regression" and not config.option.rlm_compare:
        raise pytest.UsageError("--rlm-fail-on regression compares nothing: add --rlm-compare RUN")
    config.stash[BENCH] = bench = Bench(config)
    if bench.worker:
        return
    if config.option.rlm_plan and hasattr(config.option, "tx"):
        config.option.dist, config.option.tx = "no", []  # a plan needs no workers
    config.pluginmanager.register(Controller(bench), CONTROLLER)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """``-n auto`` with cells: as many workers as the model answers calls at once, and one more.

    More would only wait for it. The one more has its next prompt ready when the model is free;
    it is left out where it would load a copy of the model. A replay has no model to ask: xdist's
    own number suits it.
    """
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") or not _has_cells(config):
        return None
    if config.option.rlm_replay:
        return None
    from rlm.clients import is_shared, parallel
    from rlm.errors import RLMError

    try:
        slots = parallel(config.option.rlm_model)
        waiting = int(is_shared(config.option.rlm_model))
    except RLMError:  # the session will tell
        return None
    return None if slots is None else slots + waiting


def _has_cells(config: pytest.Config) -> bool:
    """Whether a module among the arguments has cells; workers are counted before collection."""
    paths = (config.invocation_params.dir / arg.partition("::")[0] for arg in config.args)
    return any(_marks_cells(file) for path in paths for file in _modules(path, config))


def _modules(path: Path, config: pytest.Config) -> Iterator[Path]:
    """The files of tests below a folder where pytest would look, or the file itself."""
    if path.is_file():
        yield path
    patterns, left_out = config.getini("python_files"), config.getini("norecursedirs")
    for folder, inner, files in os.walk(path):
        inner[:] = [
            name
            for name in inner
            if not any(fnmatch(name, pattern) for pattern in left_out)
            and not Path(folder, name, "pyvenv.cfg").exists()
        ]
        for name in files:
            if any(fnmatch(name, pattern) for pattern in patterns):
                yield Path(folder, name)


def _marks_cells(file: Path) -> bool:
    """Whether a module of tests has a function with the mark."""
    try:
        source = file.read_text(encoding="utf-8")
        if "mark.cells(" not in source:
            return False
        marks = (mark for node in ast.walk(ast.parse(source)) for mark in _decorators(node))
        return any("mark.cells(" in ast.unparse(mark) for mark in marks)
    except (OSError, ValueError, SyntaxError):
        return False


def _decorators(node: ast.AST) -> list[ast.expr]:
    return node.decorator_list if isinstance(node, ast.FunctionDef) else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make the cells of a function marked ``cells``."""
    mark = metafunc.definition.get_closest_marker("cells")
    if mark is None:
        return
    from rlm.bench import tasks

    (task,) = mark.args
    bench, option = metafunc.config.stash[BENCH], metafunc.config.option
    chosen = option.rlm_tasks
    if chosen is None and bench.given:
        chosen = (bench.given_as,)
    bench.collected.tasks.append(task)
    if task in GIVEN:
        params = _given_cells(bench, chosen, _grid(option)) if task == bench.given_as else []
    else:
        is_chosen = _is_named(task, metafunc.config) if chosen is None else _is_in(task, chosen)
        cells = _grid(option).cells(task, tasks.get(task).depths) if is_chosen else ()
        params = [
            pytest.param(cell, id=cell.id, marks=[pytest.mark.smoke] if cell.is_smoke else [])
            for cell in cells
        ]
    metafunc.parametrize("cell", params or [pytest.param(None, id="not-selected")], indirect=True)


def _is_in(task: str, chosen: Sequence[str]) -> bool:
    return task in chosen or ALL in chosen


def _is_named(task: str, config: pytest.Config) -> bool:
    """Whether a task runs that no option names: by default, or its name is in ``-k`` or a path."""
    from rlm.bench import tasks

    written = (config.option.keyword, *(Path(arg).name for arg in config.args))
    return not tasks.by_name_alone(task) or task in " ".join(written)


def _given_cells(bench: Bench, chosen: Sequence[str] | None, grid: Grid) -> list[ParameterSet]:
    """The cells of given data; where they are several tasks, a cell's id says of which it is."""
    bench.collected.tasks += (data.name for data in bench.given)
    return [
        pytest.param(cell, id=f"{data.name}-{cell.id}" if len(bench.given) > 1 else cell.id)
        for data in bench.given
        if chosen is None or _is_in(bench.given_as, chosen) or data.name in chosen
        for cell in data.cells(grid)
    ]


def _grid(option: argparse.Namespace) -> Grid:
    from rlm.bench.grid import Grid

    axes = {
        "lengths": option.rlm_lengths,
        "depths": option.rlm_depths,
        "samples": option.rlm_samples,
        "architectures": option.rlm_arch,
        "unit": option.rlm_length_unit,
        "draws": option.rlm_draws,
    }
    return Grid(**{name: value for name, value in axes.items() if value is not None})


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the place-holders of tasks that were not chosen."""
    out = [item for item in items if item.get_closest_marker("cells") and _param(item) is None]
    if config.stash[BENCH].collected.tasks and out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.hookimpl(tryfirst=True)  # before xdist reports to the controller
def pytest_collection_finish(session: pytest.Session) -> None:
    """Note the cells that are left; then begin, or as a worker pass them on."""
    bench = session.config.stash[BENCH]
    if not bench.collected.tasks:
        return
    from rlm.bench.grid import Cell
    from rlm.bench.runner import too_short

    pairs = [(item.nodeid, _param(item)) for item in session.items]
    cells = {node: cell for node, cell in pairs if isinstance(cell, Cell)}
    bench.collected.cells = cells
    bench.collected.problem = too_short(cells.values(), bench.options.seed, bench.options.split)
    if bench.mailbox is not None:
        bench.mailbox.write(bench.worker["workerid"], asdict(bench.collected))
    else:
        session.config.pluginmanager.getplugin(CONTROLLER).begin(bench.collected)


def _param(item: pytest.Item) -> object:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("cell") if callspec else None


@pytest.fixture(scope="session")
def _rlm_connect(pytestconfig: pytest.Config) -> Iterator[Callable[[], Client]]:
    """Connects on the first call that succeeds: pytest would keep a fixture's failure for good."""
    from rlm.bench.session import connect

    bench = pytestconfig.stash[BENCH]
    with ExitStack() as stack:
        # A cache keeps what is returned, not what is raised.
        yield cache(lambda: stack.enter_context(closing(connect(bench.options, bench.start))))


@pytest.fixture(scope="session")
def rlm_client(_rlm_connect: Callable[[], Client]) -> Client:
    """The model of ``--rlm-model``; the engine, if it needs one, is shared by all workers."""
    return _rlm_connect()


@pytest.fixture(scope="session")
def rlm_ollama(pytestconfig: pytest.Config) -> Iterator[Client]:
    """A model of an Ollama server: that of ``--rlm-model``, else qwen3.5:2b. Skips without one."""
    from rlm.clients import connect
    from rlm.errors import ClientError

    spec = pytestconfig.option.rlm_model
    try:
        opened = connect(
            spec if spec.startswith("ollama/") else "ollama/qwen3.5:2b",
            num_ctx=pytestconfig.option.rlm_num_ctx,
        )
    except ClientError as error:
        pytest.skip(str(error))
    with closing(opened):
        yield opened


@pytest.fixture(scope="session")
def rlm_sandbox(pytestconfig: pytest.Config) -> Iterator[Sandbox]:
    """A sandbox without a session; `start` opens one, and the next `start` replaces it."""
    from rlm.sandbox import open_sandbox

    with closing(open_sandbox(pytestconfig.option.rlm_sandbox)) as opened:
        yield opened


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> CellRun:
    """One cell of the grid, for a function marked ``cells``."""
    if not hasattr(request, "param"):
        raise pytest.UsageError(
            f"{request.node.nodeid} takes `cell` but names no task: "
            'mark it, such as @pytest.mark.cells("niah")'
        )
    return CellRun(request.param, request)


class CellRun:
    """One cell, ready to run.

    Attributes:
        cell: which one.
    """

    def __init__(self, cell: Cell, request: pytest.FixtureRequest) -> None:
        self.cell, self._request = cell, request

    def run(self) -> None:
        """Run it, or show its verdict if the run has it already; a wrong answer is no failure.

        Raises:
            Failed: the verdict is ``error``: nothing was measured.
        """
        __tracebackhide__ = True
        from rlm.bench import runner, session
        from rlm.bench.records import FAILED

        bench = self._request.config.stash[BENCH]
        if bench.stopped:
            pytest.skip(bench.stopped)
        outcome = runner.measure(
            self.cell,
            session.settings(bench.options, bench.start),
            client=self._request.getfixturevalue("_rlm_connect"),
            sandbox=lambda: self._request.getfixturevalue("rlm_sandbox"),
            done=bench.start.done,
        )
        self._request.node.user_properties.append((PROPERTY, pack(outcome)))
        if outcome.bug is not None:
            raise outcome.bug
        if outcome.verdict in FAILED:
            pytest.fail(_reason(outcome), pytrace=False)


def _reason(outcome: Outcome) -> str:
    if outcome.record is None or outcome.record.error is None:
        return f"{outcome.verdict} in an earlier session of this run"
    return f"{outcome.record.error.type}: {outcome.record.error.message}"
