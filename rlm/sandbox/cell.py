"""One cell, from sending its code to its result: the watchdog, and the desk that answers calls."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rlm.errors import CallRefused, RLMError, SandboxError
from rlm.limits import SandboxLimits
from rlm.prompts import say
from rlm.sandbox.base import Calls, CellResult, Final, Status
from rlm.sandbox.child import GRACE_SECONDS, Child, ChildGoneError
from rlm.sandbox.wire import MAX_CALL_CHARS, MAX_TEXTS, Answered, Call, Done, Hello, Unfit, texts_of

_ERROR_CHARS = 2_000
_STOPPED = say("calls", "failed", reason="the cell was stopped")
_NOTHING = Done(0, "", 0, "", (), ())


class Desk:
    """Answers the calls of one cell within its limits.

    Args:
        calls: who answers.
        limits: `calls`, `prompt_chars` and `batch` are enforced here.
    """

    def __init__(self, calls: Calls, limits: SandboxLimits) -> None:
        self._calls, self._limits = calls, limits
        self.made = 0

    def answer(
        self, kind: str, texts: Sequence[str], *, count: int = 0, chars: int = 0
    ) -> list[str]:
        """The answers to one question.

        Args:
            kind: the name of a method of `Calls`.
            texts: its arguments, or empty where the worker saw that they are too long.
            count: how many there would be.
            chars: length of the longest.

        Raises:
            RLMError: refused, or failed; the text is for the model.
            ChildGoneError: there is no such question.
        """
        count = max(count, len(texts)) if kind == "llm_query_batched" else 1
        self._check(kind, count, max([chars, *map(len, texts)]))
        if kind == "rlm_query" and len(texts) > 1:
            self._check_chars(len(texts[1]), self._limits.prompt_chars)
        self.made += count
        match kind, tuple(texts):
            case "llm_query", (prompt,):
                return [self._calls.llm_query(prompt)]
            case "llm_query_batched", prompts:
                return list(self._calls.llm_query_batched(list(prompts)))
            case "rlm_query", (context, query):
                return [self._calls.rlm_query(context, query)]
        raise ChildGoneError(say("died", "protocol"))

    def _check(self, kind: str, count: int, chars: int) -> None:
        limits = self._limits
        batch = min(limits.batch, MAX_TEXTS)
        most = MAX_CALL_CHARS if kind == "rlm_query" else limits.prompt_chars
        if count > batch:
            raise CallRefused(say("calls", "batch_limit", count=count, limit=batch))
        self._check_chars(chars, most)
        if self.made + count > limits.calls:
            raise CallRefused(say("calls", "cell_limit", limit=limits.calls))

    def _check_chars(self, chars: int, most: int) -> None:
        if chars > most:
            raise CallRefused(say("calls", "prompt_limit", length=chars, limit=most))


class CellRun:
    """One cell under the watchdog: SIGINT at the deadline, SIGKILL after a grace.

    The clock stands still while the host answers a call.
    """

    def __init__(self, child: Child, calls: Calls, limits: SandboxLimits) -> None:
        self._child, self._limits = child, limits
        self._desk = Desk(calls, limits)
        self._final: Final | None = None
        self._failure: BaseException | None = None
        self._interrupted = False
        self._served = 0.0
        self._started = time.monotonic()
        self._deadline = self._started + limits.seconds

    def run(self, code: str, number: int) -> CellResult:
        """Run `code` as cell `number`.

        Raises:
            BaseException: what `Calls` raised beside `RLMError`, after the cell was stopped.
        """
        try:
            self._child.send_cell(code, number)
            done = self._watch(number)
            self._child.pause()
            result = self._result(done)
        except ChildGoneError as gone:
            result = self._result(_NOTHING, died=str(gone))
        except BaseException:
            self._child.end()
            raise
        if self._failure is not None:
            raise self._failure
        return result

    def _watch(self, number: int) -> Done:
        while True:
            left = self._deadline - time.monotonic()
            if left <= 0:
                self._stop()
                continue
            for message in self._child.receive(left):
                match message:
                    case Done() if message.number == number:
                        return message
                    case Call():
                        self._serve(message)
                    case Answered(value, source):
                        self._final = self._final or Final(value, source)
                    case Hello() | Unfit() | Done():
                        self._child.end()
                        raise ChildGoneError(say("died", "protocol"))

    def _stop(self) -> None:
        if self._interrupted:
            self._child.end()
            raise ChildGoneError(say("died", "clock", seconds=f"{self._limits.seconds:g}"))
        self._interrupted = True
        self._deadline = time.monotonic() + GRACE_SECONDS
        self._child.interrupt()

    def _serve(self, call: Call) -> None:
        began = time.monotonic()
        reply: dict[str, object] = {"id": call.id}
        try:
            if self._interrupted:
                raise CallRefused(_STOPPED)
            texts = _texts_of(call)
            answers = self._desk.answer(call.kind, texts, count=call.count, chars=call.chars)
            reply["answers"] = answers
        except RLMError as refused:
            reply["error"] = str(refused)
        except ChildGoneError:
            self._child.end()
            raise
        except BaseException as failure:
            self._failure = failure
            reply["error"] = _STOPPED
            self._stop()
        took = time.monotonic() - began
        self._served += took
        if not self._interrupted:
            self._deadline += took
        left = max(0.0, self._deadline - time.monotonic())
        self._child.send_reply(reply, left + GRACE_SECONDS)

    def _result(self, done: Done, died: str = "") -> CellResult:
        seconds = self._limits.seconds
        error = died or (f"stopped after {seconds:g} seconds" if self._interrupted else done.error)
        return CellResult(
            status=self._status(error, died),
            stdout=clip(done.stdout, self._limits.output_chars),
            stdout_chars=max(done.stdout_chars, len(done.stdout)),
            error=error[-_ERROR_CHARS:],
            final=self._final,
            variables=done.variables,
            rebound=done.rebound,
            seconds=time.monotonic() - self._started - self._served,
            calls=self._desk.made,
        )

    def _status(self, error: str, died: str) -> Status:
        if self._final is not None:
            return "final"
        if died:
            return "died"
        if self._interrupted:
            return "timeout"
        return "error" if error else "ok"


def _texts_of(call: Call) -> tuple[str, ...]:
    try:
        return texts_of(call)
    except SandboxError:
        raise ChildGoneError(say("died", "protocol")) from None


def clip(text: str, limit: int) -> str:
    """The first and the last half of `limit` characters; `text` itself if it is no longer."""
    if len(text) <= limit:
        return text
    return text[: limit // 2] + text[len(text) - (limit - limit // 2) :]
