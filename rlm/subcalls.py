"""Serves the model calls that code cells make, and the loops they open, or refuses them all."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from rlm.clients.base import Client
from rlm.errors import (
    BudgetExceeded,
    CallRefused,
    CallTimeout,
    ClientError,
    Interrupted,
    ModelNotFound,
    NotRecorded,
    PromptTooLong,
    RLMError,
    SandboxError,
    ServerUnreachable,
)
from rlm.events import CallBegun, CallEnded, Watch, unwatched
from rlm.limits import Budget
from rlm.messages import Completion, Message, Options
from rlm.prompts import VERSION, say
from rlm.trajectory import Answer, Call, ChildRun, Trajectory

_Outcome = str | CallRefused
_FATAL = (ServerUnreachable, ModelNotFound, NotRecorded, SandboxError)


def chat_within(
    client: Client,
    messages: Sequence[Message],
    options: Options,
    budget: Budget,
    *,
    least: float = 0.0,
) -> Completion:
    """One call that ends with the budget's time and is charged to it.

    Args:
        client: the model.
        messages: what is sent.
        options: sampling; its seconds hold where the budget leaves more.
        budget: of the run; `Budget.reserve_call` has counted the call.
        least: seconds that the call may take even if fewer are left.

    Raises:
        BudgetExceeded: the time ended before the call did.
        ClientError: the call failed.
    """
    try:
        completion = client.chat(messages, options=budget.within(options, least=least))
    except CallTimeout:
        budget.check_seconds()
        raise
    budget.charge(completion.usage)
    return completion


class SubCalls:
    """`rlm.sandbox.base.Calls` over a client, for one run of the loop.

    A sub-call is one user message and nothing else. Every call that reached the client is written
    to `log`, in the order of the prompts.

    Args:
        client: the model.
        options: sampling.
        budget: of the run.
        answer_chars: characters of an answer that reach the code.
        concurrency: calls of one batch that run at once.
        log: of the run's calls.
        open_loops: so many are open, this one included: each of them keeps a call for its end.
        open_child: answers a query on a context in a loop of its own; ``None`` where there shall be
            no deeper one.
        watch: is told of each call; see `rlm.events`.

    Attributes:
        turn: the root turn that calls now belong to; the loop sets it.
        cell: number of the cell in that turn, from 1; the loop sets it.
        children: the loops that were opened.
        fatal: server, model, recorded answer or sandbox is not there, which no code cell can mend:
            further calls are refused, and the loop raises this error when the cell is over.
        closed: the loop sets it when the run is over: every call is refused.
    """

    def __init__(
        self,
        client: Client,
        *,
        options: Options,
        budget: Budget,
        answer_chars: int,
        concurrency: int,
        log: list[Call],
        open_loops: int = 1,
        open_child: Callable[[str, str], Answer] | None = None,
        watch: Watch = unwatched,
    ) -> None:
        self._client, self._options, self._budget = client, options, budget
        self._answer_chars, self._concurrency, self._log = answer_chars, concurrency, log
        self._open_loops, self._open_child, self._watch = open_loops, open_child, watch
        self.turn = self.cell = 0
        self.children: list[ChildRun] = []
        self.fatal: RLMError | None = None
        self.closed = False

    def llm_query(self, prompt: str) -> str:
        """Answer one prompt.

        Raises:
            CallRefused: no call is left, the prompt does not fit, or the call failed.
        """
        (outcome,) = self._ask([prompt])
        if isinstance(outcome, CallRefused):
            raise outcome
        return outcome

    def llm_query_batched(self, prompts: Sequence[str]) -> list[str]:
        """Answer several prompts, some at once, in order; a refused one's slot says why."""
        return [
            say("calls", "batch_slot", reason=outcome)
            if isinstance(outcome, CallRefused)
            else outcome
            for outcome in self._ask(prompts)
        ]

    def rlm_query(self, context: str, query: str) -> str:
        """Answer a query on a context in a loop of its own, one level deeper.

        Raises:
            CallRefused: this is the deepest level, no call is left for such a loop, it failed, or
                it found no answer.
        """
        if self._open_child is None:
            raise CallRefused(say("calls", "no_recursion"))
        refused = self._over()
        if refused is not None:
            raise refused
        try:
            self._budget.check(keep=self._open_loops + 1)
        except BudgetExceeded as spent:
            raise CallRefused(say("calls", "spent", reason=spent)) from None
        try:
            found = self._open_child(context, query)
        except RLMError as error:
            went = error.trajectory or Trajectory(VERSION)
            self._keep(context, query, went, error=f"{type(error).__name__}: {error}")
            self.fatal = error if isinstance(error, _FATAL) else None
            raise CallRefused(say("deep", "failed", reason=error)) from None
        except Interrupted as stop:
            self._keep(context, query, stop.trajectory, error="Interrupted: stopped by Ctrl-C")
            raise
        self._keep(
            context,
            query,
            found.trajectory,
            answer=found.answer,
            ended_by=found.ended_by,
            truncated=found.truncated,
        )
        if not found.answer.strip():
            raise CallRefused(say("deep", "no_answer", ended_by=found.ended_by))
        return self._cut(found.answer)

    def _keep(self, context: str, query: str, went: Trajectory, **outcome: Any) -> None:
        """Note a loop that was opened, and its outcome: fields of `ChildRun`."""
        place = (self.turn, self.cell, len(self._log))
        self.children.append(ChildRun(*place, len(context), query, went, **outcome))

    def _ask(self, prompts: Sequence[str]) -> list[_Outcome]:
        """What became of each prompt; the calls that were made stand in the log, in this order.

        Calls begin, and are counted, in the order of the prompts. None begins any more once the
        budget is spent, the server is gone, or something nobody foresaw stops this thread.
        """
        calls: dict[int, Call] = {}
        outcomes: dict[int, _Outcome] = {}
        todo, lock = deque(enumerate(prompts)), threading.Lock()

        def work() -> None:
            try:
                while True:
                    with lock:
                        if not todo:
                            return
                        index, prompt = todo.popleft()
                        refused = self._reserve()
                    if refused is not None:
                        outcomes[index] = refused
                        continue
                    self._watch(CallBegun(self._open_loops, self.turn, "sub"))
                    calls[index], outcomes[index] = self._answered(prompt)
                    self._watch(CallEnded(self._open_loops, calls[index]))  # kept if Ctrl-C is here
            finally:  # empty by now, unless something broke: then nobody shall go on
                todo.clear()

        try:
            _run(work, min(self._concurrency, len(prompts)), todo.clear)
        finally:
            self._log += [calls[index] for index in sorted(calls)]
        return [outcomes[index] for index in range(len(prompts))]

    def _reserve(self) -> CallRefused | None:
        """Count a call, or say why there shall be none."""
        refused = self._over()
        if refused is not None:
            return refused
        try:
            self._budget.reserve_call(keep=self._open_loops)
        except BudgetExceeded as spent:
            return CallRefused(say("calls", "spent", reason=spent))
        return None

    def _over(self) -> CallRefused | None:
        """Why no call may begin any more, if so."""
        if self.closed:
            return CallRefused(say("calls", "spent", reason="the run is over"))
        if self.fatal is not None:
            return CallRefused(say("calls", "failed", reason=self.fatal))
        return None

    def _answered(self, prompt: str) -> tuple[Call, _Outcome]:
        messages = (Message("user", prompt),)
        try:
            completion = chat_within(self._client, messages, self._options, self._budget)
        except (ClientError, BudgetExceeded) as error:
            return Call.failed("sub", self.turn, messages, error), self._refusal(error, prompt)
        return Call.answered("sub", self.turn, messages, completion), self._cut(completion.text)

    def _refusal(self, error: ClientError | BudgetExceeded, prompt: str) -> CallRefused:
        if isinstance(error, BudgetExceeded):
            return CallRefused(say("calls", "spent", reason=error))
        if isinstance(error, PromptTooLong):
            window = error.window or self._client.info().window or "?"
            return CallRefused(say("calls", "too_long", length=len(prompt), window=window))
        if isinstance(error, _FATAL):
            self.fatal = error
        return CallRefused(say("calls", "failed", reason=error))

    def _cut(self, answer: str) -> str:
        if len(answer) <= self._answer_chars:
            return answer
        kept = answer[: self._answer_chars]
        return say("calls", "cut", answer=kept, limit=self._answer_chars)


def _run(work: Callable[[], None], workers: int, cancel: Callable[[], None]) -> None:
    """Run `work` in so many threads, or in this one; what is raised in any of them comes through.

    An exception in this thread, such as Ctrl-C, calls `cancel` and waits for what is under way.
    """
    if workers < 2:
        work()
        return
    with ThreadPoolExecutor(workers, "rlm-sub") as pool:
        try:
            for done in [pool.submit(work) for _ in range(workers)]:
                done.result()
        finally:
            cancel()


class NoSubCalls:
    """`rlm.sandbox.base.Calls` of a loop without sub-calls: each is refused, none is made."""

    def _refuse(self, *_: object) -> NoReturn:
        raise CallRefused(say("repl", "refused"))

    llm_query = llm_query_batched = rlm_query = _refuse
