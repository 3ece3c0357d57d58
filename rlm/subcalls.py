"""Serves the model calls that code cells make, or refuses them all."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from rlm.clients.base import Client
from rlm.errors import (
    BudgetExceeded,
    CallRefused,
    CallTimeout,
    ClientError,
    ModelNotFound,
    PromptTooLong,
    ServerUnreachable,
)
from rlm.limits import Budget
from rlm.messages import Completion, Message, Options
from rlm.prompts import say
from rlm.trajectory import Call


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

    Attributes:
        turn: the root turn that calls now belong to; the loop sets it.
        fatal: the server or the model is gone, which no code cell can mend: further calls are
            refused, and the loop raises this error when the cell is over.
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
    ) -> None:
        self._client, self._options, self._budget = client, options, budget
        self._answer_chars, self._concurrency, self._log = answer_chars, concurrency, log
        self.turn = 0
        self.fatal: ClientError | None = None
        self.closed = False

    def llm_query(self, prompt: str) -> str:
        """Answer one prompt.

        Raises:
            CallRefused: no call is left, the prompt does not fit, or the call failed.
        """
        call, outcome = self._ask(prompt)
        self._write(call)
        if isinstance(outcome, CallRefused):
            raise outcome
        return outcome

    def llm_query_batched(self, prompts: Sequence[str]) -> list[str]:
        """Answer several prompts, in order; a refused one's slot says why."""
        workers = min(self._concurrency, len(prompts))
        if workers > 1:
            with ThreadPoolExecutor(workers) as pool:
                asked = list(pool.map(self._ask, prompts))
        else:
            asked = [self._ask(prompt) for prompt in prompts]
        for call, _ in asked:
            self._write(call)
        return [
            say("calls", "batch_slot", reason=outcome)
            if isinstance(outcome, CallRefused)
            else outcome
            for _, outcome in asked
        ]

    def rlm_query(self, context: str, query: str) -> str:
        """Refuse: loops below the loop are not available."""
        del context, query
        raise CallRefused(say("calls", "no_recursion"))

    def _ask(self, prompt: str) -> tuple[Call | None, str | CallRefused]:
        if self.closed:
            return None, CallRefused(say("calls", "spent", reason="the run is over"))
        if self.fatal is not None:
            return None, CallRefused(say("calls", "failed", reason=self.fatal))
        try:
            self._budget.reserve_call(keep=1)
        except BudgetExceeded as spent:
            return None, CallRefused(say("calls", "spent", reason=spent))
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
        if isinstance(error, ServerUnreachable | ModelNotFound):
            self.fatal = error
        return CallRefused(say("calls", "failed", reason=error))

    def _cut(self, answer: str) -> str:
        if len(answer) <= self._answer_chars:
            return answer
        kept = answer[: self._answer_chars]
        return say("calls", "cut", answer=kept, limit=self._answer_chars)

    def _write(self, call: Call | None) -> None:
        if call is not None:
            self._log.append(call)


class NoSubCalls:
    """`rlm.sandbox.base.Calls` of a loop without sub-calls: each is refused, none is made."""

    def _refuse(self, *_: object) -> NoReturn:
        raise CallRefused(say("repl", "refused"))

    llm_query = llm_query_batched = rlm_query = _refuse
