"""The process that has the terminal: it alone writes records, owns the engine and judges gates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from rlm.bench.gates import Finding, Gate
    from rlm.bench.grid import Cell
    from rlm.bench.mailbox import Mailbox
    from rlm.bench.plugin import Bench
    from rlm.bench.progress import Progress, Standing
    from rlm.bench.runner import Outcome
    from rlm.bench.session import Session

PROPERTY: Final = "rlm_cell"
CONTROLLER: Final = "rlm_bench_controller"
DISPLAY: Final = "rlm_bench_display"
STOP: Final = "stop"
OWN: Final = "own"
"""The task of a module that takes the cells of ``--rlm-file``."""
DATASET: Final = "dataset"
"""The task of a module that takes the cells of ``--rlm-dataset``."""
ALL: Final = "all"
"""In the place of the names of all tasks."""
GIVEN: Final = {OWN: "--rlm-file DATA.jsonl", DATASET: "--rlm-dataset NAME --rlm-data PATH"}
"""The options that bring the cells of such a module."""
STATUS: Final = {
    "correct": ("C", {"green": True}),
    "wrong": ("W", {"yellow": True}),
    "truncated": ("T", {"yellow": True}),
    "timeout": ("O", {"yellow": True}),
    "error": ("E", {"red": True}),
    "crashed": ("X", {"red": True}),
}
"""Letter and colour of each verdict; a cell done in an earlier session has a small letter."""

Status = tuple[str, str, tuple[str, Mapping[str, bool]]]


@dataclass
class Collected:
    """What a process collected.

    Attributes:
        cells: by node id.
        tasks: all seen, selected or not.
        problem: why a cell cannot be run; only who collects knows everybody's tasks.
    """

    cells: dict[str, Cell] = field(default_factory=dict)
    tasks: list[str] = field(default_factory=list)
    problem: str = ""


def pack(outcome: Outcome) -> str:
    """One ASCII string: what else stands in `user_properties` can kill a whole xdist run."""
    from rlm.bench.records import encode

    record = encode(outcome.record) if outcome.record else None
    return json.dumps({"key": outcome.key, "verdict": outcome.verdict, "record": record})


def unpack(report: pytest.TestReport) -> dict[str, str | None] | None:
    """What `pack` put into the report of the call, if it is one of a cell."""
    if report.when != "call":
        return None
    packed = dict(report.user_properties).get(PROPERTY)
    return json.loads(str(packed)) if packed else None


class Controller:
    """The process that has the terminal: it alone writes records and owns the engine."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.cells: dict[str, Cell] = {}
        self.session: Session | None = None
        self.progress: Progress | None = None
        self.mailbox: Mailbox | None = None
        self.not_run = 0
        self.findings: list[Finding] = []

    def begin(self, collected: Collected) -> None:
        """Start the session once its cells are known."""
        from rlm.bench import tasks
        from rlm.bench.grid import known
        from rlm.bench.session import Session
        from rlm.errors import RecordError, UsageError

        option = self.bench.config.option
        self.cells = collected.cells
        try:
            for name in option.rlm_tasks or ():
                known(name, "task", sorted({*tasks.names(), *collected.tasks, ALL}))
            if (option.rlm_draws or 1) > 1 and option.rlm_temperature == 0:
                raise UsageError(
                    f"--rlm-draws {option.rlm_draws} at temperature 0 would be the same answer "
                    "each time: add --rlm-temperature 0.7, or --rlm-samples for more documents"
                )
            if collected.problem:
                raise UsageError(collected.problem)
            self._refuse_missing_data(option.rlm_tasks or (), collected.tasks)
            self._refuse_idle_gates(option.rlm_fail_under)
            if self.cells and not (option.rlm_plan or option.collectonly):
                self.session = Session(self.bench.options, self.cells.values())
                self.bench.start = self.session.start
                self._follow(self.session)
        except (UsageError, RecordError) as error:
            raise pytest.UsageError(str(error)) from error

    def _refuse_missing_data(self, chosen: Sequence[str], collected: Sequence[str]) -> None:
        """Given data need a module that takes their cells, and such a module needs data."""
        from rlm.errors import UsageError

        given_as = self.bench.given_as
        if given_as and given_as not in collected:
            option = GIVEN[given_as].partition(" ")[0]
            raise UsageError(
                f"{option}: no module with its cells is collected; take the folder benchmarks, or "
                f'write one with @pytest.mark.cells("{given_as}")'
            )
        for name in GIVEN:
            if name in chosen and name != given_as:
                raise UsageError(f"--rlm-tasks {name} needs data: add {GIVEN[name]}")

    def _follow(self, session: Session) -> None:
        """Show, from the first cell on, how far the session is."""
        from rlm.bench.progress import Predictor, Progress
        from rlm.bench.terminal import display

        config, option = self.bench.config, self.bench.config.option
        window = session.info.window if session.info else option.rlm_num_ctx
        predictor = Predictor(option.rlm_model.startswith("embedded"), window, option.rlm_overflow)
        workers = len(getattr(option, "tx", None) or ()) or 1
        self.progress = Progress(self.cells, session.held, predictor, workers=workers)
        if shown := display(config, option.rlm_progress, self._standing):
            config.pluginmanager.register(shown, DISPLAY)

    def _standing(self) -> Standing:
        assert self.progress is not None
        return self.progress.standing(self.session.seconds_left if self.session else None)

    def _refuse_idle_gates(self, given: Sequence[Gate]) -> None:
        """Refuse a gate that speaks of none of the cells, before they run."""
        from rlm.bench.grid import label
        from rlm.errors import UsageError

        places = {(c.task, c.unit, c.length, c.architecture) for c in self.cells.values()}
        for gate in given if places else ():
            if not any(gate.names(place) for place in places):
                there = (sorted({str(place[i]) for place in places}) for i in (0, 3))
                tasks, names = (", ".join(found) for found in there)
                lengths = ", ".join(label(n) for n in sorted({place[2] for place in places}))
                raise UsageError(
                    f"--rlm-fail-under {gate.text} names none of the cells; there are {tasks}; "
                    f"{names}; {lengths}"
                )

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say what will run, below the number of collected items."""
        if self.session is None:
            return []
        terminal = self.bench.config.pluginmanager.getplugin("terminalreporter")
        # Their order in pytest's closing line; what fails is none of them, and would make it red.
        passing = [verdict for verdict, (_, markup) in STATUS.items() if "red" not in markup]
        for verdict in passing if terminal else ():
            terminal.stats.setdefault(verdict, [])
        return self.session.lines() + [line for data in self.bench.given for line in data.told()]

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to meet."""
        from rlm.bench.mailbox import Mailbox

        self.mailbox = self.mailbox or Mailbox.new()
        node.workerinput["rlm_mailbox"] = str(self.mailbox.path)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        """Begin, when the first worker says what there is to run."""
        assert self.mailbox is not None
        data = self.mailbox.read(node.workerinput["workerid"])
        if data is None or self.session is not None:
            return
        from rlm.bench.grid import Cell

        cells = {nodeid: Cell(**cell) for nodeid, cell in data["cells"].items()}
        self.begin(Collected(cells, data["tasks"], data["problem"]))
        if self.session is not None:
            self.mailbox.write("start", asdict(self.session.start))
            if terminal := self.bench.config.pluginmanager.getplugin("terminalreporter"):
                from rlm.bench.terminal import write_lines

                write_lines(terminal, self.pytest_report_collectionfinish())

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> bool | None:
        """With ``--rlm-plan``: show the plan, in place of all tests."""
        config = self.bench.config
        if not config.option.rlm_plan:
            return None
        from rlm.bench.report.plan import plan

        terminal = config.pluginmanager.getplugin("terminalreporter")
        if terminal and self.cells:
            text = plan(
                list(self.cells.values()),
                spec=config.option.rlm_model,
                window=config.option.rlm_num_ctx,
                overflow=config.option.rlm_overflow,
                width=terminal._tw.fullwidth,
                color=terminal._tw.hasmarkup,
            )
            terminal.write_line("")
            terminal.write_line(text)
        return True

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A cell begins, here or in a worker."""
        if self.progress is not None and (node := self._node(nodeid)):
            self.progress.started(node)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the record of a cell."""
        from rlm.errors import RecordError

        try:
            self._keep(report)
        except RecordError as error:  # the session is pointless if its records cannot be kept
            raise pytest.UsageError(str(error)) from error

    def _node(self, nodeid: str) -> str | None:
        """The node id of a cell, to which ``--dist loadgroup`` may have added a group's name."""
        return next((n for n in (nodeid, nodeid.rpartition("@")[0]) if n in self.cells), None)

    def _keep(self, report: pytest.TestReport) -> None:
        node = self._node(report.nodeid)
        if self.session is None or self.progress is None or node is None:
            return
        from rlm.bench.records import Failure, decode

        packed, cell = unpack(report), self.cells[node]
        when = str(report.when)
        if packed and packed["record"]:
            record = decode(packed["record"])
            self.session.finished(record)
            self.progress.measured(node, record.verdict)
            self._stop_when_spent(self.session)
        elif packed:
            self.progress.shown(node, self.session.cached(str(packed["key"])).verdict)
        elif when == "call" and report.skipped and self.bench.stopped:
            self.not_run += 1
            self.progress.left_out(node)
        elif when == "???":  # the worker died
            self.session.unmeasured(cell, "crashed", Failure("crashed", report.longreprtext))
            self.progress.measured(node, "crashed")
        elif when in ("setup", "call") and report.failed:
            self.session.unmeasured(cell, "error", Failure(when, report.longreprtext))
            self.progress.measured(node, "error")
        elif when in ("setup", "call") and report.skipped:
            self.progress.left_out(node)

    def _stop_when_spent(self, session: Session) -> None:
        """Once a bound is reached, let no process start another cell."""
        if not self.bench.stopped and (reason := session.spent):
            self.bench.stopped = reason
            if self.mailbox is not None:
                self.mailbox.write(STOP, {"reason": reason})

    def pytest_report_teststatus(self, report: pytest.TestReport) -> Status | None:
        """A verdict is a category of its own, except that what was not measured failed."""
        if str(report.when) == "???" and self.session is not None:
            return "failed", "X", ("CRASHED", {"red": True})
        packed = unpack(report)
        if not packed:
            return None
        verdict, is_cached = str(packed["verdict"]), packed["record"] is None
        letter, markup = STATUS[verdict]
        if report.failed and "red" not in markup:
            return None  # something after `cell.run()` failed
        cut = " (cut)" if self._is_cut_answer(packed) else ""
        word = verdict.upper() + cut + (" (cached)" if is_cached else "")
        category = "failed" if report.failed else verdict + cut
        return category, letter.lower() if is_cached else letter, (word, markup)

    def _is_cut_answer(self, packed: Mapping[str, str | None]) -> bool:
        """Whether a cell is an answer to a part of its document, which counts apart."""
        from rlm.bench.pairs import is_cut_answer
        from rlm.bench.records import decode

        if packed["record"]:
            return is_cut_answer(decode(packed["record"]))
        held = self.session.store.records.get(str(packed["key"])) if self.session else None
        return held is not None and is_cut_answer(held)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge the gates; an unfinished run and one that fails them tell it by their status.

        A status that is not 0 already says more, and stays.
        """
        option = self.bench.config.option
        if option.rlm_plan or option.collectonly or not (self.session or option.rlm_fail_under):
            return
        from rlm.bench import gates

        records = list(self.session.shown.values()) if self.session else []
        self.findings = gates.judge(option.rlm_fail_under, records)
        if self.session and option.rlm_fail_on == "regression" and self.session.before is not None:
            self.findings += gates.regressions(self.session.before, records)
        if session.exitstatus != pytest.ExitCode.OK:
            return
        if not all(finding.passed for finding in self.findings):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif self.not_run:
            session.exitstatus = pytest.ExitCode.INTERRUPTED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table, and where the records are."""
        if self.session is None or not self.session.shown:
            self._show_findings(terminalreporter)
            return
        from rlm.bench.report.summary import summary

        terminalreporter.section("rlm-bench")
        writer = terminalreporter._tw
        records = list(self.session.shown.values())
        text = summary(records, width=writer.fullwidth, color=writer.hasmarkup)
        terminalreporter.write_line(text)
        if self.session.before is not None:
            terminalreporter.write_line(self._comparison(self.session, writer))
        self._show_findings(terminalreporter)
        if self.not_run:
            terminalreporter.write_line(self._unfinished(self.session), yellow=True)
        terminalreporter.write_line(f"records: {self.session.place}/")
        if page := self.bench.config.option.rlm_report:
            terminalreporter.write_line(f"report: {self._report(self.session, page)}")

    def _show_findings(self, terminalreporter: pytest.TerminalReporter) -> None:
        for finding in self.findings:
            color = {"green" if finding.passed else "red": True}
            terminalreporter.write_line(finding.text, **color)

    def _unfinished(self, session: Session) -> str:
        told = f"{self.bench.stopped}: {self.not_run} cells not run; the same command with "
        told += f"--rlm-run {session.place} continues"
        again = set(self.bench.config.option.rlm_rerun) - {"error", "crashed"}
        return told + (", but without --rlm-rerun, which would begin again" if again else "")

    @staticmethod
    def _comparison(session: Session, writer: Any) -> str:
        from rlm.bench.pairs import between_runs
        from rlm.bench.report.compare import render

        assert session.before is not None
        found = between_runs(session.before, list(session.shown.values()))
        return render(found, width=writer.fullwidth, color=writer.hasmarkup)

    def _report(self, session: Session, page: str) -> str:
        """Write the page; what comes of it. The records are there, whatever happens here."""
        from pathlib import Path

        from rlm.bench.records import folder
        from rlm.errors import RLMError

        runs, options = [str(session.store.path)], session.options
        if options.compare is not None:
            runs.insert(0, str(folder(options.compare, options.root)))
        try:
            from rlm.bench.report.page import write

            write(runs, Path(page))
        except ModuleNotFoundError as error:
            return f"not written, it needs {error.name}: pip install 'rlm-bench[bench]'"
        except RLMError as error:
            return f"not written: {error}"
        return page

    def pytest_unconfigure(self) -> None:
        """Stop the engine and close the files."""
        if self.session is not None:
            self.session.close()
        if self.mailbox is not None:
            self.mailbox.close()
