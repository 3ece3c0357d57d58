r"""The sandbox that runs cells in monty, a Python interpreter written in Rust, on any system.

The code has no files, network or processes because its interpreter has none: what it would ask of
an operating system arrives here and is refused. The interpreter is a child process of ours, which
the kernel does not confine.

helpers.py runs inside, through the stand-in for `re` of inside_monty.py, not here: monty's regular
expressions stop by themselves (a pattern that would backtrack for ever ends in an error after some
20 ms) and count towards the cell's time, and a pattern of a model's must never run in this process.

What differs from the process backend:

- The language: no ``del``, ``yield``, inheritance, ``globals()``, ``input()``, and only part of the
  standard library. A builtin's method is no value (``key=text.count`` fails), and a generator
  expression is a list (``next(...)`` of one fails). Monty's error text is the cell's error, and the
  session goes on.
- Functions that ask the host (`llm_query`, `query_chunks`, `FINAL`, ...) cannot be called from
  inside ``map``, ``sorted(key=...)`` and the like; comprehensions can call them.
- Regular expressions are another engine's. One with ``\b`` or a look-behind that finds nothing in
  a million characters ends in an error; without regard to case, "İ" is not "i".
- After a timeout or a failure of the host the variables are those from before the cell: monty
  vouches for nothing in a session that was stopped, so a copy made after the cell before replaces
  it. The copy takes 1 ms, 4 ms more for each million characters of text and variables, and while it
  is made as much memory as they do: a cell that leaves more than about half of it full ends the
  session.
- Ctrl-C in the host waits until the cell calls the host or ends. ``time.sleep`` does not wait.
- Lone surrogates become question marks in all that goes in.
"""

from __future__ import annotations

import builtins
import importlib
import keyword
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

import msgspec

from rlm.errors import RLMError, SandboxError
from rlm.limits import SandboxLimits
from rlm.prompts import say, templates
from rlm.sandbox.base import Calls, CellResult, Final, Isolation, Status
from rlm.sandbox.cell import Desk, clip
from rlm.sandbox.child import GRACE_SECONDS, ChildGoneError
from rlm.sandbox.dialect import translate
from rlm.sandbox.wire import FINAL_CHARS, VARIABLE_CHARS, VARIABLES

_ERROR_CHARS = 600
_ENDED = "the answer was given"
_ROUND_TRIPS = 2**31  # as good as no bound: the wall clock is one
_SEARCHED = r"(?<![\w.])[^\W\d]\w*"  # every name that code can bind stands in it, not after a dot

_Kind = Literal["llm_query", "llm_query_batched", "rlm_query"]
_Source = Literal["FINAL", "FINAL_VAR"]

_PROBES = {
    "open": "open('/etc/passwd')",
    "write": "open('/tmp/rlm-probe', 'w')",
    "pathlib": "from pathlib import Path\nPath('/etc/passwd').read_text()",
    "listdir": "import os\nos.listdir('/')",
    "environ": "import os\nos.environ['PATH']",
    "system": "import os\nos.system('true')",
    "socket": "import socket",
    "subprocess": "import subprocess",
    "ctypes": "import ctypes",
}
_REFUSALS = (OSError, ImportError, AttributeError, LookupError, NameError, RuntimeError)

_OPEN = (
    "_rlm['look'] = (lambda run: lambda name: run(name))(eval)\n"
    "exec(_rlm['source'], _rlm)\n"
    "_rlm['fixed'] = _rlm['fixed_names']()\n"
    "list(_rlm['fixed'])"
)
_LOOK = "_rlm_seen = _rlm['look_around']()\n"


@dataclass(slots=True)
class _Session:
    """What survives the death of a worker."""

    context: str
    query: str
    calls: Calls
    limits: SandboxLimits
    cells: int = 0


class MontySandbox:
    """A `rlm.sandbox.base.Sandbox` in a monty worker. One thread at a time."""

    def __init__(self) -> None:
        self._session: _Session | None = None
        self._worker: _Worker | None = None
        self._measured: Isolation | None = None

    @property
    def isolation(self) -> Isolation:
        """What the self-test found in force; no measures before the first `start`."""
        return self._measured or Isolation("monty", confined=False)

    def start(
        self,
        context: str,
        calls: Calls,
        *,
        query: str = "",
        limits: SandboxLimits | None = None,
    ) -> None:
        """Open a session on `context`, in place of an open one; see `Sandbox.start`."""
        self.close()
        self._session = _Session(_plain(context), _plain(query), calls, limits or SandboxLimits())
        try:
            self._worker = self._open(self._session)
        except BaseException:
            self.close()
            raise

    def run(self, code: str) -> CellResult:
        """Run one cell; see `Sandbox.run`. What `Calls` raises beside `RLMError` comes through."""
        session = self._session
        if session is None:
            raise SandboxError("no session is open: call start(context, calls) first")
        worker = self._worker = self._worker or self._open(session)
        session.cells += 1
        try:
            return _CellRun(worker, session.calls, session.limits).run(_plain(code), session.cells)
        finally:
            if worker.closed:
                self._worker = None

    def reset(self) -> None:
        """Forget all variables; `context`, `query` and limits stay."""
        self._close_worker()
        if self._session is not None:
            self._session.cells = 0

    def another(self) -> MontySandbox:
        """One more, without a session yet; see `Sandbox.another`."""
        return MontySandbox()

    def close(self) -> None:
        """End the session and its process. Idempotent."""
        self._close_worker()
        self._session = None

    def _close_worker(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _open(self, session: _Session) -> _Worker:
        worker = _Worker(session)
        self._measured = worker.isolation
        return worker


class _Worker:
    """A monty process and the session in it.

    Attributes:
        monty: the module pydantic_monty.
        closed: it was ended.
        cells: number of a cell by monty's number for what it was fed.
        names: variables that the model's code has bound.

    Raises:
        SandboxError: it did not start, or its self-test could do what it must not.
    """

    def __init__(self, session: _Session) -> None:
        self.monty = _import_monty()
        self.closed = False
        self.cells: dict[int, int] = {}
        self.names: tuple[str, ...] = ()
        self._limits = session.limits
        self._memory = session.limits.memory + 6 * len(session.context.encode())
        self._fed = 0
        # A session that was given up takes its process along.
        self._pool = self.monty.Monty(
            max_processes=1, max_checkouts_per_worker=1, feed_duration_limit_grace=GRACE_SECONDS
        )
        self._session: Any = None
        try:
            self._pool.__enter__()
            self._session = self._check_out()
            self.isolation = self._test()
            self._open(session)
        except (self.monty.MontyError, OSError, RuntimeError) as problem:
            self.close()
            raise SandboxError(f"the monty sandbox did not start: {problem}") from problem
        except BaseException:
            self.close()
            raise

    def feed(self, code: str, inputs: Mapping[str, Any], tape: _Tape) -> Any:
        """Start to run `code`; the first snapshot. Raises MontyError."""
        self._fed += 1
        return self._session.feed_start(code, inputs=dict(inputs), print_callback=tape)

    def feed_cell(self, code: str, number: int, tape: _Tape) -> Any:
        """The same for a cell of the model's."""
        self.cells[self._fed] = number
        words = {*self.names, *re.findall(_SEARCHED, code)}.difference(keyword.kwlist)
        names = sorted(word for word in words if not word.startswith(("__", "_rlm")))
        return self.feed(translate(code), {"_rlm_names": names}, tape)

    def run(self, code: str, inputs: Mapping[str, Any] | None = None) -> Any:
        """Run code of ours to its end; its value. Raises MontyError."""
        snapshot = self.feed(code, inputs or {}, _Tape(0))
        while not isinstance(snapshot, self.monty.MontyComplete):
            snapshot = snapshot.resume_auto()
        return snapshot.output

    def look_around(self) -> tuple[str, ...]:
        """After a cell: put overwritten names back, note the variables, and keep a copy of all.

        Returns:
            the names that were overwritten.
        """
        seen = msgspec.convert(self.run(self._look), tuple[tuple[str, ...], tuple[str, ...]])
        self._keep()
        self.names, rebound = seen
        return tuple(sorted(rebound))

    @property
    def lost(self) -> bool:
        """The process has ended, such as for its memory."""
        return self._session.worker_pid is None

    def go_back(self) -> None:
        """Put a new session with the copy that was kept in the place of this one."""
        self._session.__exit__(None, None, None)
        self._session = self._check_out()
        state, self._fed = self._kept
        self._session.load_session(state)

    def close(self) -> None:
        """End the process. Idempotent."""
        self.closed = True
        if self._session is not None:
            self._session.__exit__(None, None, None)
        self._pool.__exit__(None, None, None)

    def _keep(self) -> None:
        self._kept = self._session.dump(), self._fed

    def _check_out(self) -> Any:
        limits = {
            "max_feed_duration_secs": self._limits.seconds,
            "max_memory": self._memory,
            "max_suspensions": _ROUND_TRIPS,
        }
        session = self._pool.checkout(limits=limits, os_policy={"sleep": "zero"})
        session.__enter__()
        return session

    def _test(self) -> Isolation:
        """Try what must fail, before any other code runs."""
        for name, code in _PROBES.items():
            if not self._refuses(code, _REFUSALS):
                raise SandboxError(f"the monty sandbox does not refuse {name!r}: {code!r}")
        if not self._refuses(f"'x' * {2 * self._memory}", (MemoryError,)):
            raise SandboxError(f"the monty sandbox does not hold to {self._memory} bytes")
        if self._session.worker_pid in (None, os.getpid()):
            raise SandboxError("the monty sandbox runs in no process of its own")
        return Isolation(
            "monty",
            confined=True,
            measures=("own-interpreter", "child-process", "memory-limit"),
            refused=tuple(_PROBES),
            note="the interpreter confines the code; the kernel does not confine the interpreter",
        )

    def _refuses(self, code: str, errors: tuple[type[Exception], ...]) -> bool:
        try:
            self.run(code)
        except self.monty.MontyRuntimeError as problem:
            return isinstance(problem.exception(), errors)
        return False

    def _open(self, session: _Session) -> None:
        folder = files(__package__)
        given = {
            "source": folder.joinpath("inside_monty.py").read_text(encoding="utf-8"),
            "helpers": folder.joinpath("helpers.py").read_text(encoding="utf-8"),
            "context": session.context,
            "query": session.query,
            "TEXTS": templates("helpers"),
            "keywords": keyword.kwlist,
            "builtin_names": dir(builtins),
            "ask": _rlm_ask,
            "tell": _rlm_tell,
        }
        fixed = self.run(_OPEN, {"_rlm": given, "_rlm_names": []})
        again = [f"{name} = _rlm['fixed']['{name}']\n" for name in fixed]
        self._look = f"{_LOOK}{''.join(again)}_rlm_seen"
        self.run("".join(again))
        self._keep()


class _CellRun:
    """One cell: answers what it asks of the host, and stops it when its time is up."""

    def __init__(self, worker: _Worker, calls: Calls, limits: SandboxLimits) -> None:
        self._worker, self._limits = worker, limits
        self._desk = Desk(calls, limits)
        self._tape = _Tape(limits.output_chars)
        self._final: Final | None = None
        self._failure: BaseException | None = None
        self._late = False
        self._served = 0.0
        self._started = time.monotonic()

    def run(self, code: str, number: int) -> CellResult:
        """Run `code` as cell `number`.

        Raises:
            BaseException: what `Calls` raised beside `RLMError`, after the cell was stopped.
        """
        worker, died = self._worker, ""
        rebound: tuple[str, ...] = ()
        try:
            error = self._execute(code, number)
            seconds = self._elapsed()
            if self._late or self._failure is not None:
                worker.go_back()
            rebound = worker.look_around()
        except (worker.monty.MontyError, RuntimeError, msgspec.ValidationError) as problem:
            seconds = self._elapsed()
            error = died = self._cause(problem)
            worker.close()
        except BaseException:
            worker.close()
            raise
        if self._failure is not None:
            raise self._failure
        return CellResult(
            status=self._status(error, died),
            stdout=self._tape.kept(),
            stdout_chars=self._tape.total,
            error=error,
            final=self._final,
            variables=() if died else _told(worker.names),
            rebound=rebound,
            seconds=seconds,
            calls=self._desk.made,
        )

    def _execute(self, code: str, number: int) -> str:
        """Run `code` to its end; the error to show, or an empty string."""
        worker = self._worker
        try:
            snapshot = worker.feed_cell(code, number, self._tape)
            while not isinstance(snapshot, worker.monty.MontyComplete):
                snapshot = self._serve(snapshot)
        except _StoppedError:
            return self._stopped()
        except (worker.monty.MontyRuntimeError, worker.monty.MontySyntaxError) as problem:
            if worker.lost:
                raise
            raised = problem.exception()
            self._late = isinstance(raised, TimeoutError) and not problem.traceback()
            if self._late:
                return self._stopped()
            if isinstance(raised, SystemExit):
                return templates("helpers")["exit"]
            ended = self._final is not None and str(raised) == _ENDED
            return "" if ended else _explain(problem, worker.cells)
        return ""

    def _serve(self, snapshot: Any) -> Any:
        """Answer what monty asks; the next snapshot. Names and files it asks for are not there."""
        if self._elapsed() > self._limits.seconds:
            self._late = True
            raise _StoppedError
        match getattr(snapshot, "function_name", ""):
            case _rlm_ask.__name__:
                return snapshot.resume(self._ask(snapshot.args))
            case _rlm_tell.__name__:
                return snapshot.resume(self._tell(snapshot.args))
        return snapshot.resume_auto()

    def _ask(self, args: tuple[Any, ...]) -> dict[str, Any]:
        began = time.monotonic()
        try:
            kind, texts = msgspec.convert(args, tuple[_Kind, list[str]])
            return {"return_value": [_plain(text) for text in self._desk.answer(kind, texts)]}
        except RLMError as refused:
            return {"exc_type": "RuntimeError", "message": _plain(str(refused))}
        except (msgspec.ValidationError, ChildGoneError) as problem:
            return {"exc_type": "TypeError", "message": _plain(str(problem))}
        except BaseException as failure:
            self._failure = failure
            raise _StoppedError from failure
        finally:
            self._served += time.monotonic() - began

    def _tell(self, args: tuple[Any, ...]) -> dict[str, Any]:
        try:
            value, source = msgspec.convert(args, tuple[str, _Source])
        except msgspec.ValidationError as problem:
            return {"exc_type": "TypeError", "message": str(problem)}
        self._final = self._final or Final(value[:FINAL_CHARS], source)
        return {"exc_type": "BaseException", "message": _ENDED}

    def _elapsed(self) -> float:
        return time.monotonic() - self._started - self._served

    def _stopped(self) -> str:
        return f"stopped after {self._limits.seconds:g} seconds"

    def _status(self, error: str, died: str) -> Status:
        if self._final is not None:
            return "final"
        if died:
            return "died"
        if self._late:
            return "timeout"
        return "error" if error else "ok"

    def _cause(self, problem: Exception) -> str:
        """How the worker, or the session in it, came to its end."""
        monty = self._worker.monty
        if isinstance(problem, monty.MontyCrashedError):
            if self._elapsed() > self._limits.seconds:
                return say("died", "clock", seconds=f"{self._limits.seconds:g}")
            if signal := re.search(r"signal: (\d+)", str(problem)):
                return say("died", "signal", number=signal[1])
            if problem.exit_status is not None:
                return say("died", "status", code=problem.exit_status)
        elif isinstance(problem, monty.MontyError) and isinstance(problem.exception(), MemoryError):
            return str(problem)
        return say("died", "protocol")


def _told(names: tuple[str, ...]) -> tuple[str, ...]:
    """So many names, of such a length, as the process backend tells."""
    return tuple(name for name in names if len(name) <= VARIABLE_CHARS)[:VARIABLES]


class _StoppedError(Exception):
    """The cell is to be given up."""


class _Tape:
    """Takes a cell's output; keeps the first and the last half of `limit` characters."""

    def __init__(self, limit: int) -> None:
        self.total = 0
        self._limit, self._text = limit, ""

    def __call__(self, _stream: str, text: str) -> None:
        self.total += len(text)
        self._text += text
        if len(self._text) > 2 * self._limit:
            self._text = clip(self._text, self._limit)

    def kept(self) -> str:
        """Head and tail, joined."""
        return clip(self._text, self._limit)


def _rlm_ask(kind: str, texts: list[str]) -> list[str]:
    """What monty knows by this name; a call of it comes to `_CellRun`."""
    raise NotImplementedError


def _rlm_tell(value: str, source: str) -> None:
    """As `_rlm_ask`."""
    raise NotImplementedError


def _explain(problem: Any, cells: Mapping[int, int]) -> str:
    """The end of a traceback, only the lines of the model's own code."""
    text = ""
    for frame in problem.traceback():
        fed = re.fullmatch(r"<python-input-(\d+)>", frame.filename)
        number = cells.get(int(fed[1])) if fed else None
        if number is not None:
            name = frame.function_name
            where = "" if name in (None, "<module>") else f", in {name}"
            line = (frame.source_line or "").strip()
            text += f"cell {number}, line {frame.line}{where}\n    {line}\n"
    text += str(problem.display("type-msg"))
    return text if len(text) <= _ERROR_CHARS else "..." + text[3 - _ERROR_CHARS :]


def _plain(text: str) -> str:
    """`text` as UTF-8 can carry it: a lone surrogate becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _import_monty() -> Any:
    try:
        return importlib.import_module("pydantic_monty")
    except ImportError as missing:
        raise SandboxError(
            "the monty sandbox needs the package pydantic-monty: pip install 'rlm-bench[monty]'"
        ) from missing
