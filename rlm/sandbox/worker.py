"""Child side of the process sandbox: runs the cells it is sent and says what they did.

Its arguments are two file descriptors and a word: a socket on which first the context and then
cells arrive and their results leave, a socket for what the cells ask of the host, and what to do
about files (`rlm.sandbox.child.Files`). It imports the standard library only, and `lockdown`,
`caseless` and `lazylist`, which lie beside it. Nothing but `lockdown` is a barrier against the code
it runs.
"""

from __future__ import annotations

import _socket
import builtins
import gc
import io
import json
import keyword
import linecache
import mmap
import os
import re
import reprlib
import resource
import signal
import struct
import sys
import threading
import traceback
import types
from collections.abc import Callable

import caseless  # type: ignore[import-not-found]
import lazylist  # type: ignore[import-not-found]
import lockdown  # type: ignore[import-not-found]

TYPE_CHECKING = False  # of typing, whose import is a tenth of a worker's start
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")

PRELOADED = (
    *("abc", "ast", "bisect", "calendar", "collections.abc", "contextlib", "copy", "csv"),
    *("dataclasses", "datetime", "decimal", "difflib", "enum", "fractions", "functools"),
    *("hashlib", "heapq", "html", "html.parser", "itertools", "math", "operator", "pprint"),
    *("queue", "random", "statistics", "string", "textwrap", "time", "typing", "unicodedata"),
    *("urllib.parse", "zlib", "cmath", "concurrent.futures.thread", "encodings.latin_1"),
    *("graphlib", "pathlib", "pickle", "shlex"),
)
"""Modules that code can import where no file can be opened; what they import comes with them."""
ERROR_CHARS = 600


class CellEnded(BaseException):
    """FINAL was called: unwinds the cell, past every ``except Exception``."""


class Channel:
    """Frames over one descriptor: four bytes of length (big-endian), then JSON in UTF-8."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def send(self, message: dict[str, Any]) -> None:
        """Write one frame; lone surrogates become question marks."""
        body = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
        rest = memoryview(struct.pack(">I", len(body)) + body)
        while rest:
            rest = rest[os.write(self.fd, rest) :]

    def receive(self) -> dict[str, Any]:
        """Read one frame. Ends this process when the host has closed the socket."""
        (length,) = struct.unpack(">I", self._read(4))
        message: dict[str, Any] = json.loads(self._read(length))
        return message

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = os.read(self.fd, size - len(data))
            if not piece:
                os._exit(0)
            data += piece
        return bytes(data)


class Gate:
    """Lets the host's SIGINT through to the model's code, and to nothing of the worker's."""

    def __init__(self) -> None:
        self.is_open = False
        self.waiting = False

    def arm(self) -> None:
        """Forget an interrupt meant for an earlier cell."""
        self.waiting = False
        signal.signal(signal.SIGINT, self._interrupt)

    def open(self) -> None:
        """From here on an interrupt raises; one that waited does so now."""
        self.is_open = True
        if self.waiting:
            self.waiting = False
            raise KeyboardInterrupt

    def close(self) -> None:
        """From here on an interrupt waits."""
        self.is_open = False

    def _interrupt(self, _number: int, _frame: object) -> None:
        if self.is_open:
            raise KeyboardInterrupt
        self.waiting = True


class Tape(io.TextIOBase):
    """Takes the cell's output; keeps the first and the last half of `limit` characters."""

    encoding = "utf-8"

    def __init__(self, limit: int) -> None:
        self.total = 0
        self._head, self._head_room = io.StringIO(newline=""), limit // 2
        self._tail: list[str] = []
        self._tail_size, self._tail_limit = 0, limit - limit // 2

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str, /) -> int:
        """Count all of it, keep what the limit allows."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.total += len(text)
        kept = text[: self._head_room]
        self._head_room -= len(kept)
        self._head.write(kept)
        if len(kept) < len(text):
            self._tail.append(text[len(kept) :][-self._tail_limit :])
            self._tail_size += len(self._tail[-1])
            if self._tail_size > 2 * self._tail_limit:
                self._tail = ["".join(self._tail)[-self._tail_limit :]]
                self._tail_size = len(self._tail[0])
        return len(text)

    def kept(self) -> str:
        """Head and tail, joined."""
        return self._head.getvalue() + "".join(self._tail)[-self._tail_limit :]


class Host:
    """What the cells can ask of the host, one question at a time, from any thread."""

    def __init__(self, channel: Channel, gate: Gate, setup: dict[str, Any]) -> None:
        self._channel, self._gate, self._setup = channel, gate, setup
        self._lock = threading.Lock()
        self._asked = 0

    def llm_query(self, prompt: str) -> str:
        """One answer of the model."""
        self._check_text("prompt", prompt)
        return self._ask("llm_query", [prompt])[0]

    def llm_query_batched(self, prompts: list[str]) -> list[str]:
        """The model's answers, in order."""
        batch = [prompts] if isinstance(prompts, str) else list(prompts)
        for index, prompt in enumerate(batch):
            self._check_text(f"prompts[{index}]", prompt)
        return self._ask("llm_query_batched", batch) if batch else []

    def rlm_query(self, context: str, query: str) -> str:
        """The answer of a whole new session on `context`."""
        self._check_text("context", context)
        self._check_text("query", query)
        return self._ask("rlm_query", [context, query])[0]

    def tell_final(self, value: str, source: str) -> None:
        """Record the answer with the host, whatever happens to this process later."""
        message = {"type": "final", "value": value[: self._setup["final_chars"]], "source": source}
        self._undisturbed(lambda: self._channel.send(message))

    def _ask(self, kind: str, texts: list[str]) -> list[str]:
        reply = self._undisturbed(lambda: self._exchange(kind, texts))
        if "error" in reply:
            raise RuntimeError(reply["error"])
        answers: list[str] = reply["answers"]
        return answers

    def _exchange(self, kind: str, texts: list[str]) -> dict[str, Any]:
        self._asked += 1
        longest, total = max(map(len, texts)), sum(map(len, texts)) + len(texts)
        fits = total <= self._setup["call_chars"] and len(texts) <= self._setup["call_texts"]
        if kind != "rlm_query":
            fits = fits and longest <= self._setup["prompt_chars"]
        question = {"type": "call", "id": self._asked, "kind": kind, "count": len(texts)}
        chars = longest if total <= self._setup["call_chars"] else total
        self._channel.send({**question, "chars": chars, "texts": texts if fits else []})
        reply = self._channel.receive()
        while reply["id"] != self._asked:
            reply = self._channel.receive()
        return reply

    def _undisturbed(self, work: Callable[[], T]) -> T:
        """Run `work` so that an interrupt cannot cut a frame in half."""
        if threading.current_thread() is not threading.main_thread() or not self._gate.is_open:
            with self._lock:
                return work()
        self._gate.close()
        try:
            with self._lock:
                return work()
        finally:
            self._gate.open()

    def _check_text(self, name: str, value: object) -> None:
        if not isinstance(value, str):
            text = self._setup["texts"]["not_text"]
            raise ValueError(text.format(name=name, type=type(value).__name__))


class Session:
    """One namespace over many cells."""

    def __init__(self, context: str, host: Host, gate: Gate, setup: dict[str, Any]) -> None:
        self._host, self._gate, self._setup = host, gate, setup
        self._module = types.ModuleType("__main__")
        self._names = self._module.__dict__
        sys.modules["__main__"] = self._module
        self._tape = Tape(setup["output_chars"])
        self._fixed = self._fixed_names(context)
        self._failed = False
        builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]
        self._builtins = dict(vars(builtins))
        threading.excepthook = self._thread_failed

    def run(self, code: str, number: int) -> dict[str, Any]:
        """Run one cell; the message that says what it did."""
        self._names.update(self._fixed, __builtins__=builtins)
        self._tape = Tape(self._setup["output_chars"])
        sys.stdout = sys.stderr = self._tape
        _limit_cpu(self._setup["seconds"])
        if self._failed:  # an error and the frames it came through hold each other, and their data
            gc.collect()
        error = self._execute(code, f"cell {number}")
        self._failed = bool(error)
        rebound = [n for n, v in self._fixed.items() if self._names.get(n, self) is not v]
        self._names.update(self._fixed)
        vars(builtins).update(self._builtins)
        return {
            "type": "done",
            "number": number,
            "stdout": self._tape.kept(),
            "stdout_chars": self._tape.total,
            "error": error,
            "variables": self._names_told(),
            "rebound": sorted(rebound),
        }

    def _execute(self, code: str, name: str) -> str:
        """Run `code`; the error to show, or an empty string."""
        error = ""
        try:
            self._open_and_run(code, name)
        except CellEnded:
            self._gate.close()
        except SystemExit:
            self._gate.close()
            error = str(self._setup["texts"]["exit"])
        except BaseException as problem:
            self._gate.close()
            error = explain(problem)
        return error

    def _open_and_run(self, code: str, name: str) -> None:
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            self._gate.open()
            exec(compile(code, name, "exec", dont_inherit=True), self._names)  # noqa: S102
        finally:
            self._gate.close()

    def _fixed_names(self, context: str) -> dict[str, Any]:
        query = self._setup["query"]
        batched = self._host.llm_query_batched
        inside = {
            "__name__": "helpers",
            "context": context,
            "query": query,
            "TEXTS": self._setup["texts"],
            "llm_query_batched": batched,
            "find_caseless": caseless.Caseless(context).find,
            "items": lazylist.LazyList,
        }
        lazylist.teach_json()
        before = set(inside)
        exec(compile(self._setup["helpers"], "helpers", "exec", dont_inherit=True), inside)  # noqa: S102
        public = {n: v for n, v in inside.items() if n not in before and not n.startswith("_")}
        mine = (self.FINAL, self.FINAL_VAR, self.SHOW_VARS)
        asked = (self._host.llm_query, batched, self._host.rlm_query)
        fixed = {**public, "context": context, "query": query, "context_len": len(context)}
        fixed.update({"re": re, "json": json})
        return {**fixed, **{f.__name__: f for f in (*mine, *asked)}}

    def _names_told(self) -> list[str]:
        """Names of the variables; the host takes so many, of such a length."""
        most, longest = self._setup["variables"], self._setup["variable_chars"]
        return sorted(name for name in self._variables() if len(name) <= longest)[:most]

    def _variables(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in list(self._names.items())
            if isinstance(name, str) and name not in self._fixed and not name.startswith("__")
        }

    def FINAL(self, answer: object) -> NoReturn:  # noqa: N802
        """Give the answer and end the cell."""
        self._host.tell_final(str(answer), "FINAL")
        raise CellEnded

    def FINAL_VAR(self, name: object) -> NoReturn:  # noqa: N802
        """Give the value of the variable called `name`, or `name` itself if it is a value."""
        self._host.tell_final(str(self._value_of(name)), "FINAL_VAR")
        raise CellEnded

    def SHOW_VARS(self) -> dict[str, str]:  # noqa: N802
        """Print and return the model's variables, each with its type and size."""
        texts = self._setup["texts"]
        shown = {n: describe(value, texts) for n, value in sorted(self._variables().items())}
        lines = [texts["listed"].format(name=name, text=text) for name, text in shown.items()]
        self._tape.write("\n".join(lines or [texts["no_variables"]]) + "\n")
        return shown

    def _value_of(self, name: object) -> object:
        variables = self._variables()
        if not isinstance(name, str):
            return name
        if name in variables:
            return variables[name]
        is_name = name.isidentifier() and not keyword.iskeyword(name)
        if not is_name or any(isinstance(v, str) and v == name for v in variables.values()):
            return name
        texts = self._setup["texts"]
        names = ", ".join(sorted(variables)) or texts["no_variables"]
        raise NameError(texts["unknown_variable"].format(name=name, names=names))

    def _thread_failed(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, CellEnded):
            self._tape.write(explain(args.exc_value) + "\n")


def explain(problem: BaseException) -> str:
    """The end of a traceback, only the lines of the model's own code."""
    try:
        frames = traceback.extract_tb(problem.__traceback__)
        own = [f for f in frames if f.filename.startswith("cell ")]
        text = "".join(map(_show_frame, own))
        text += "".join(traceback.format_exception_only(problem)).rstrip()
    except BaseException:
        text = type(problem).__name__
    text = re.sub(r'^ *File "(cell \d+)", line (\d+)', r"\1, line \2", text, flags=re.MULTILINE)
    return text if len(text) <= ERROR_CHARS else "..." + text[3 - ERROR_CHARS :]


def _show_frame(entry: traceback.FrameSummary) -> str:
    where = "" if entry.name == "<module>" else f", in {entry.name}"
    return f"{entry.filename}, line {entry.lineno}{where}\n    {entry.line}\n"


def describe(value: object, texts: dict[str, str]) -> str:
    """Type and length of a container or text, type and value of anything small."""
    kind = type(value).__name__
    if isinstance(value, (str, bytes, list, tuple, dict, set, frozenset)):
        return texts["sized"].format(type=kind, length=len(value))
    if value is None or isinstance(value, (bool, int, float, complex)):
        return texts["valued"].format(type=kind, value=reprlib.repr(value))
    return kind


def read_context(fd: int) -> str:
    """Decode the sealed context and give its descriptor back."""
    size = os.fstat(fd).st_size
    text = ""
    if size:
        with mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as data:
            text = str(data, "utf-8", "surrogatepass")
    os.close(fd)
    return text


def _limit_cpu(seconds: float) -> None:
    """A second line behind the host's clock: twice the wall time of this cell, and a little."""
    used = sum(os.times()[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(min(used + 2 * seconds, 1e9)) + 3, hard))


def receive_context(fd: int) -> int:
    """The descriptor that the host sends first, with one byte (unix(7), SCM_RIGHTS)."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
    try:
        byte, messages, _, _ = sock.recvmsg(1, _socket.CMSG_LEN(4))
    finally:
        sock.detach()
    if not byte:
        os._exit(0)
    ((_, _, data),) = messages
    (received,) = struct.unpack("=i", data[:4])
    return int(received)


def main() -> None:
    """Set up from the first frame, then run cells until the host goes away."""
    cells, calls, files = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    channel, gate = Channel(cells), Gate()
    gate.arm()
    if files == "closed":
        for name in PRELOADED:
            __import__(name)
    context_fd = receive_context(cells)
    setup = channel.receive()
    context = read_context(context_fd)
    program = bytes.fromhex(setup["program"])
    try:
        measures, refused = lockdown.lock(setup["memory"], program, landlock=files == "listed")
    except (lockdown.LockdownError, OSError) as problem:
        channel.send({"type": "unfit", "reason": str(problem)})
        return
    session = Session(context, Host(Channel(calls), gate, setup), gate, setup)
    channel.send({"type": "hello", "measures": measures, "refused": refused})
    while True:
        cell = channel.receive()
        gate.arm()
        channel.send(session.run(cell["code"], cell["number"]))
