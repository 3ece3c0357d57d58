"""What a run does, shown on stderr while it does it: in colour on a terminal, else line by line.

Whatever a model or a document says is shown as text: no markup in it is read, and what a terminal
would take for a command is shown by its number (`rlm.visible`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from rlm import prompts
from rlm.events import (
    CallBegun,
    CallEnded,
    CellBegun,
    CellEnded,
    Event,
    LoopClosed,
    LoopOpened,
    TurnEnded,
)
from rlm.messages import Usage
from rlm.trajectory import Call, Cell, Turn
from rlm.tree import count
from rlm.visible import short, visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

CODE_LINES: Final = 40
OUTPUT_LINES: Final = 10
LINE_CHARS: Final = 400
"""Characters that are shown of one line of code or output."""
CALLS: Final = 6
"""Sub-calls of one turn that are shown; the others are counted."""
_ANSWER, _ERROR, _QUERY = 80, 100, 100
_STATUS: Final = {
    "root": "the model writes code",
    "sub": "sub-call",
    "last": "the model is asked for its answer",
}


class Totals:
    """What all loops of a run have used so far. Thread-safe.

    Attributes:
        sub_calls: that have ended, failed ones included.
        usage: of all calls that were answered.
        open_calls: sub-calls under way.
    """

    def __init__(self) -> None:
        self._started, self._lock = time.monotonic(), threading.Lock()
        self.sub_calls = self.open_calls = 0
        self.usage = Usage()

    def add(self, event: Event) -> None:
        """Count an event."""
        with self._lock:
            if isinstance(event, CallBegun):
                self.open_calls += event.kind == "sub"
            if not isinstance(event, CallEnded):
                return
            is_sub, done = event.call.kind == "sub", event.call.completion
            self.sub_calls += is_sub
            self.open_calls -= is_sub
            self.usage += done.usage if done else Usage()

    def __str__(self) -> str:
        tokens = self.usage.prompt_tokens + self.usage.completion_tokens
        took = f"{time.monotonic() - self._started:.1f} s"
        return f"{count(self.sub_calls, 'sub-call')}, {count(tokens, 'token')}, {took}"


class Quiet:
    """A view that shows nothing; the others are called as it is."""

    def watch(self, event: Event) -> None:
        """See an event of the loop."""

    def note(self, text: str) -> None:
        """Tell something that is no event."""

    def reading(self, what: str) -> AbstractContextManager[None]:
        """While something is done that has no events."""
        del what
        return nullcontext()


class Lines(Quiet):
    """A line for each turn, and for each loop that code opens.

    Args:
        write: takes a line.
        verbose: also show what was written and what came of it, all of it.
    """

    def __init__(self, write: Callable[[str], None], *, verbose: bool = False) -> None:
        self._write, self._verbose, self._totals = write, verbose, Totals()

    def watch(self, event: Event) -> None:
        """See an event of the loop."""
        self._totals.add(event)
        margin = "    " * (event.level - 1)
        if isinstance(event, TurnEnded):
            self._write(f"{margin}{_head(event.turn)}; so far {self._totals}")
            if self._verbose:
                self._tell(margin, event.turn)
        elif isinstance(event, LoopOpened) and event.level > 1:
            about = short(event.query, _QUERY)
            self._write(f"{margin}loop on {count(event.chars, 'character')}: {about}")

    def note(self, text: str) -> None:
        """Tell something that is no event."""
        self._write(visible(text))

    def _tell(self, margin: str, turn: Turn) -> None:
        written = [cell.code for cell in turn.cells] or [turn.reply]
        for text in filter(None, (*written, turn.feedback)):
            for line in visible(text).splitlines():
                self._write(margin + line)


class Screen(Quiet):
    """A terminal: what is done is printed as it is done, above a line that says how far it is.

    A context manager: that line is there until it is left.

    Args:
        console: of rich, on a terminal.
        verbose: show all of the code, outputs and sub-calls, not the beginning of each.
    """

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        from rich.live import Live
        from rich.spinner import Spinner

        self._console, self._verbose = console, verbose
        self._totals, self._doing, self._turn = Totals(), "starting", ""
        self._lock = threading.Lock()  # sub-calls of a batch tell of themselves from their threads
        self._shown: Counter[int] = Counter()  # sub-calls of the turn of each level
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            get_renderable=self._status, console=console, refresh_per_second=8, transient=True
        )

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()

    def watch(self, event: Event) -> None:
        """See an event of the loop."""
        with self._lock:
            self._totals.add(event)
            self._see(event)

    def _see(self, event: Event) -> None:
        match event:
            case CallBegun(level, turn, kind):
                self._doing = _STATUS.get(kind, kind)
                if level == 1:
                    self._turn = f"turn {turn}" if kind != "last" else ""
            case CallEnded(level, call):
                self._called(level, call)
            case CellBegun(level, _, code):
                self._doing = "the code runs"
                self._print(level, self._code(code))
            case CellEnded(level, _, cell):
                self._ran(level, cell)
            case TurnEnded(level, turn):
                self._ended(level, turn)
            case LoopOpened(level, chars, query) if level > 1:
                head = f"loop on {count(chars, 'character')}: "
                self._print(level, _text(head, "bold magenta", short(query, _QUERY), "cyan"))
            case LoopClosed(level, answer, error) if level > 1:
                told = _text("failed: ", "bold red", short(error, _ERROR)) if error else None
                found = _text("loop answered: ", "bold magenta", short(answer, _ANSWER))
                self._print(level, told or found)

    def note(self, text: str) -> None:
        """Tell something that is no event."""
        self._print(1, _text(visible(text), "dim"))

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """While something is done that has no events."""
        before, self._turn, self._doing = self._turn, "", what
        try:
            yield
        finally:
            self._turn, self._doing = before, ""

    def _status(self) -> RenderableType:
        open_calls = self._totals.open_calls
        doing = self._doing if open_calls < 2 else f"{open_calls} sub-calls under way"
        told = " · ".join(filter(None, (self._turn, doing, str(self._totals))))
        self._spinner.update(text=_text(told, "cyan"))
        return self._spinner

    def _called(self, level: int, call: Call) -> None:
        done = call.completion
        cost = (
            f"  {done.usage.prompt_tokens:,} + {done.usage.completion_tokens:,} tokens, "
            f"{done.times.wall:.1f} s"
            if done
            else f"  {short(call.error, _ERROR)}"
        )
        style = "dim" if done else "red"
        if call.kind == "sub":
            self._shown[level] += 1
            if self._verbose or self._shown[level] <= CALLS:
                self._print(level, self._sub_call(level, call).append(cost, style))
            return
        self._shown[level] = 0
        head = f"turn {call.turn}" if call.kind == "root" else "last call"
        self._print(level, "", _text(head, "bold", cost, style))

    def _sub_call(self, level: int, call: Call) -> Text:
        """Its number, prompt and answer, in a line that leaves room for what it cost."""
        room = max(40, self._console.width - 2 * level - 54)
        asked, done = call.messages[-1].content, call.completion
        if self._verbose:
            answer = visible(done.text) if done else "failed"
            asked = visible(asked)
        else:
            answer = short(done.text, room // 2) if done else "failed"
            asked = short(asked, room - len(answer))
        head = f"sub-call {self._totals.sub_calls} "
        return _text(head, "magenta", f"{asked} → ", "dim", answer, "bold")

    def _ran(self, level: int, cell: Cell) -> None:
        result = cell.result
        if hidden := 0 if self._verbose else max(0, self._shown[level] - CALLS):
            self._print(level, _text(f"… and {count(hidden, 'sub-call')} more", "magenta"))
        self._shown[level] = 0
        if result.stdout:
            size = count(result.stdout_chars, "character")
            self._print(level, _Barred(self._clipped(result.stdout, OUTPUT_LINES, size), "blue"))
        if result.error:
            error = _text(self._lines(result.error, OUTPUT_LINES, end=True), "red")
            self._print(level, _Barred(error, "red"))
        if result.final is not None:
            final = self._lines(result.final.value, OUTPUT_LINES)
            self._print(level, _text("FINAL: ", "bold green", final, "bold"))

    def _ended(self, level: int, turn: Turn) -> None:
        if not turn.cells:
            told = self._clipped(turn.reply, OUTPUT_LINES, count(len(turn.reply), "character"))
            self._print(level, _text("no code:", "bold yellow"), _Barred(told, "yellow"))
        if turn.rejected:
            why = prompts.templates("rejected").get(turn.rejected, turn.rejected)
            self._print(level, _text(short(why, 200), "yellow"))

    def _code(self, code: str) -> RenderableType:
        from rich.syntax import Syntax

        text = self._lines(code.strip("\n"), CODE_LINES)
        return Syntax(text, "python", theme="ansi_dark", background_color="default", word_wrap=True)

    def _clipped(self, text: str, most: int, size: str) -> Text:
        """The beginning of a text, and its size if something is left out."""
        kept, whole = self._lines(text.rstrip("\n"), most), _joined(text.rstrip("\n"))
        return _text(kept, "", "" if kept == visible(whole) else f"\n… {size}", "dim")

    def _lines(self, text: str, most: int, *, end: bool = False) -> str:
        """The first or last lines of a text, none too long; all of it if verbose."""
        text = _joined(text)
        if self._verbose:
            return visible(text)
        lines = text.split("\n")
        kept = lines[-most:] if end else lines[:most]
        cut = (line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]}…" for line in kept)
        return visible("\n".join(cut))

    def _print(self, level: int, *what: RenderableType) -> None:
        for each in what:
            for _ in range(level - 1):
                each = _Barred(each, "magenta")  # noqa: PLW2901 - a bar for each level
            self._console.print(each)


class _Barred:
    """Something with a bar to its left."""

    def __init__(self, inner: RenderableType, style: str) -> None:
        self._inner, self._style = inner, style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        bar = Segment("│ ", console.get_style(self._style))
        inner = options.update_width(max(1, options.max_width - 2))
        for line in console.render_lines(self._inner, inner, pad=False):
            yield bar
            yield from line
            yield Segment.line()


def _joined(text: str) -> str:
    """The text with the line ends of Unix."""
    return text.replace("\r\n", "\n")


def _head(turn: Turn) -> str:
    """What came of a turn, in some words."""
    calls = sum(cell.result.calls for cell in turn.cells)
    status = turn.cells[-1].result.status if turn.cells else "no code"
    rejected = ", FINAL rejected" if turn.rejected else ""
    return f"turn {turn.number}: {status}, {count(calls, 'sub-call')}{rejected}"


def _text(*parts: str) -> Text:
    """Texts and their styles in turn; the last style may be left out."""
    from rich.text import Text

    text = Text(overflow="fold")
    for i in range(0, len(parts), 2):
        text.append(parts[i], style=parts[i + 1] if i + 1 < len(parts) else "")
    return text
