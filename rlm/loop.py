"""The turn loop of a Recursive Language Model (Zhang, Kraska, Khattab: arXiv 2512.24601).

What the root model is sent, byte for byte (all texts: `rlm.prompts`):

    system     system("full" | "compact")
    user       root.opening: length of the document, its first 300 characters, the query
    then for each turn:
    assistant  the reply exactly as it was received
    user       the feedback, parts joined by one newline:
               for each cell that ran, in order:
                   feedback.rebound, if it overwrote names
                   feedback.output with the true length, or feedback.silent if it printed nothing
                       and nothing went wrong
                   feedback.error, feedback.timeout or feedback.died, if something did
               feedback.variables after the last cell, if there are any
               rejected.first_turn or rejected.no_sub_call, if a FINAL was not accepted
               root.no_code, if the reply had neither code nor a FINAL
               root.repeated, root.simpler, where `rlm.policy` says so

A turn has 600 characters of output, shared equally by the cells that printed (600 // cells); a
longer output is shown as its first two thirds of that share and its end around feedback.clipped
(400 and 200 for one cell), without its final newline.

When the history plus the answer's room would pass the window, the oldest feedback is replaced by
root.dropped (the length of what was replaced), one turn at a time, never the newest. The last call
is the history with root.last_call as one more line of its newest user message; it may drop the
newest output too, and in the end all turns. A reply to it that is one call of FINAL or FINAL_VAR is
run, without further calls; what it gives is the answer.

A sub-call is one user message: the prompt.

Where code may open loops (`RLM.max_depth` above 1), the system prompt is system("deep_full" |
"deep_compact"), and that of a loop on the deepest level the one above. A loop that code opens is
sent all this too, with its own context and query.

Without sub-calls (`RLM.recursive` is off) the system prompt is system("repl_full" |
"repl_compact"), repl.simpler takes the place of root.simpler, and rejections do not occur.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Literal, cast

from rlm import prompts
from rlm.blocks import code_blocks, final_call, last_answer, text_final
from rlm.clients.base import Client, ModelInfo
from rlm.errors import BudgetExceeded, Interrupted, PromptTooLong, RLMError, UsageError
from rlm.events import (
    CallBegun,
    CallEnded,
    CellBegun,
    CellEnded,
    LoopClosed,
    LoopOpened,
    TurnEnded,
    Watch,
    unwatched,
)
from rlm.history import History
from rlm.limits import MAX_DEPTH, Budget, SandboxLimits
from rlm.messages import Completion, Message, Options
from rlm.policy import Policy, feedback
from rlm.prompts import say
from rlm.sandbox import Sandbox, open_sandbox
from rlm.subcalls import NoSubCalls, SubCalls, chat_within
from rlm.trajectory import (
    Answer,
    Call,
    CallKind,
    Cell,
    EndedBy,
    Trajectory,
    Turn,
    cut_by_window,
)

Prompt = Literal["auto", "full", "compact"]
PromptName = Literal["full", "compact", "repl_full", "repl_compact", "deep_full", "deep_compact"]
_Outcome = tuple[str, EndedBy]

ROOT_OPTIONS = Options(max_tokens=512)
SUB_OPTIONS = Options(max_tokens=256)
LAST_TOKENS = 128
"""Room for the reply to a last call that the window brought about."""
LAST_SECONDS = 60.0
"""The first loop's last call may take so long even when the budget has less time left, or none."""


class RLM:
    """A Recursive Language Model: a root model that reads a document by writing code.

    The document never enters the root model's prompt. It is a variable in a sandboxed Python
    session, whose code can search it and ask the sub-model about pieces of it.

    Args:
        root_client: the model that writes code.
        sub_client: the model that code asks, which is the root of the loops that code opens; the
            same as the root unless given.
        max_iterations: turns of each loop before its last call.
        max_depth: levels of loops, 1 to `MAX_DEPTH`. From 2 on the system prompt offers
            `rlm_query(context, query)`, with which code opens a loop of its own, in one more
            sandbox, on a text that it gives; on the deepest level it is refused.
        recursive: whether code may ask the sub-model. If not, the system prompt does not offer
            it, calls are refused inside the code, and a FINAL needs none before it.
        prompt: which system prompt; ``auto`` is compact for embedded models, else full.
        budget: what one completion may spend, all its loops together. A function makes a new one
            for each completion; a `Budget` itself is shared by all of them.
        limits: what one code cell may use.
        sandbox: a backend's name (see `rlm.open_sandbox`), opened and closed by each completion,
            or an open sandbox, which is used and left open. Loops that code opens have more of the
            same kind (`Sandbox.another`).
        root_options: sampling of root turns, and of the last call.
        answer_tokens: room for the reply to the last call, where `root_options` give less; as much
            of it as the window has beside the history.
        sub_options: sampling of sub-calls.
        concurrency: sub-calls of one batch that run at once.
        policy: the rules of the loop.
        watch: called with each event of all loops while the run goes on (see `rlm.events`).

    Raises:
        UsageError: a value cannot be used.
    """

    def __init__(
        self,
        root_client: Client,
        sub_client: Client | None = None,
        *,
        max_iterations: int = 20,
        max_depth: int = 1,
        recursive: bool = True,
        prompt: Prompt = "auto",
        budget: Budget | Callable[[], Budget] | None = None,
        limits: SandboxLimits | None = None,
        sandbox: str | Sandbox = "auto",
        root_options: Options | None = None,
        answer_tokens: int = 0,
        sub_options: Options | None = None,
        concurrency: int = 1,
        policy: Policy | None = None,
        watch: Watch = unwatched,
    ) -> None:
        if not 1 <= max_depth <= MAX_DEPTH:
            raise UsageError(f"max_depth {max_depth} is not one of 1 to {MAX_DEPTH}")
        if max_depth > 1 and not recursive:
            raise UsageError(f"max_depth {max_depth} needs sub-calls: leave out recursive=False")
        if max_iterations < 1 or concurrency < 1:
            raise UsageError(
                f"max_iterations {max_iterations} and concurrency {concurrency} must be at least 1"
            )
        if prompt not in ("auto", "full", "compact"):
            raise UsageError(f"there is no prompt {prompt!r}: use auto, full or compact")
        self.root_client = root_client
        self.sub_client = sub_client or root_client
        self.max_iterations, self.concurrency = max_iterations, concurrency
        self.max_depth, self.recursive = max_depth, recursive
        self.prompt, self.budget, self.sandbox = prompt, budget, sandbox
        self.limits = limits or SandboxLimits()
        self.root_options, self.answer_tokens = root_options or ROOT_OPTIONS, answer_tokens
        self.sub_options = sub_options or SUB_OPTIONS
        self.policy = policy or Policy()
        self.watch = watch

    def completion(self, context: str, query: str) -> Answer:
        """Answer `query` about `context`.

        Raises:
            ClientError: a root call failed, or the server or model of the sub-calls is gone. A
                prompt too long for the window is no error: see `Answer.truncated`.
            SandboxError: the sandbox cannot be opened.
            Interrupted: Ctrl-C; it is a KeyboardInterrupt.

        What had happened until then is the error's `trajectory`.
        """
        budget = self.new_budget()
        if not isinstance(self.sandbox, str):
            return _Run(self, self.sandbox, budget, context, query).answer()
        with closing(open_sandbox(self.sandbox)) as sandbox:
            return _Run(self, sandbox, budget, context, query).answer()

    def new_budget(self) -> Budget:
        """The budget of one completion."""
        if isinstance(self.budget, Budget):
            return self.budget
        return self.budget() if self.budget is not None else Budget()


class _Run:
    """One loop: its conversation, its sandbox session, and what it has done so far.

    Its level is 1, or one more than that of the loop whose code opened it. Of the loops that are
    open, one on each level down to this one, each has the room for its last call reserved.
    """

    def __init__(
        self,
        rlm: RLM,
        sandbox: Sandbox,
        budget: Budget,
        context: str,
        query: str,
        *,
        level: int = 1,
    ) -> None:
        self.rlm, self.sandbox, self.context, self.query = rlm, sandbox, context, query
        self.started = time.monotonic()
        self.budget, self.level = budget, level
        self.client = rlm.root_client if level == 1 else rlm.sub_client
        self.calls: list[Call] = []
        self.turns: list[Turn] = []
        self.statuses: list[str] = []
        self.told_simpler = False
        self.truncated = False
        info = self.client.info()
        self.window = info.window
        deeper = level < rlm.max_depth and (budget.depth is None or level < budget.depth)
        system = prompt_name(rlm.prompt, info, recursive=rlm.recursive, deeper=deeper)
        preview = context[: rlm.policy.preview_chars]
        opening = say("root", "opening", length=len(context), preview=preview, query=query)
        self.history = History(prompts.system(system), opening)
        self.sub = SubCalls(
            rlm.sub_client,
            options=rlm.sub_options,
            budget=self.budget,
            answer_chars=rlm.policy.answer_chars,
            concurrency=rlm.concurrency,
            log=self.calls,
            open_loops=level,
            open_child=self._open_child if deeper else None,
            watch=rlm.watch,
        )

    def answer(self) -> Answer:
        """Run the loop to its end."""
        self.rlm.watch(LoopOpened(self.level, len(self.context), self.query))
        try:
            calls = self.sub if self.rlm.recursive else NoSubCalls()
            self.sandbox.start(self.context, calls, query=self.query, limits=self.rlm.limits)
            text, ended_by = self._loop()
        except RLMError as error:
            error.trajectory = self._trajectory()
            self.rlm.watch(LoopClosed(self.level, "", f"{type(error).__name__}: {error}"))
            raise
        except KeyboardInterrupt as stop:
            raise Interrupted(self._trajectory()).with_traceback(stop.__traceback__) from None
        self.rlm.watch(LoopClosed(self.level, text))
        return self._answer(text, ended_by)

    def _answer(self, text: str, ended_by: EndedBy) -> Answer:
        trajectory = self._trajectory()
        return Answer(
            answer=text,
            iterations=trajectory.iterations,
            sub_calls=trajectory.sub_calls,
            trajectory=trajectory,
            usage=trajectory.usage,
            ended_by=ended_by,
            times=trajectory.times,
            wall=time.monotonic() - self.started,
            sandbox_seconds=trajectory.sandbox_seconds,
            truncated=self.truncated or trajectory.truncated,
            fault=trajectory.fault,
        )

    def _trajectory(self) -> Trajectory:
        children = tuple(self.sub.children)
        return Trajectory(prompts.VERSION, tuple(self.calls), tuple(self.turns), children)

    def _open_child(self, context: str, query: str) -> Answer:
        """Answer `query` in a loop below this one, while a cell of this one waits."""
        with closing(self.sandbox.another()) as sandbox:
            level = self.level + 1
            return _Run(self.rlm, sandbox, self.budget, context, query, level=level).answer()

    def _loop(self) -> _Outcome:
        for number in range(1, self.rlm.max_iterations + 1):
            dropped: list[int] = []
            try:
                self.budget.reserve_call(keep=self.level)  # for the last calls
                completion = self._root_call(number, dropped)
            except BudgetExceeded as spent:
                return self._last_call(cast(EndedBy, spent.resource))
            if completion is None:
                return self._last_call("window")
            done = self._turn(number, completion.text, tuple(dropped))
            if done is not None:
                return done
        return self._last_call("turns")

    def _root_call(self, number: int, dropped: list[int]) -> Completion | None:
        """Ask for the next turn, dropping old outputs as needed; ``None`` if it cannot fit."""
        while True:
            messages = self.history.messages()
            completion = self._call("root", number, messages, self.rlm.root_options)
            if completion is not None:
                return completion
            turn = self.history.drop_oldest(keep=1)
            if turn is None:
                return None
            dropped.append(turn)

    def _turn(self, number: int, reply: str, dropped: tuple[int, ...]) -> _Outcome | None:
        """Run a reply; its answer if it gives one that is accepted."""
        ran: list[Cell] = []
        try:
            self._run_cells(number, reply, ran)
        except KeyboardInterrupt:
            self.turns.append(Turn(number, reply, tuple(ran), dropped=dropped))
            raise
        cells = tuple(ran)
        if self.sub.fatal is not None:
            self.turns.append(Turn(number, reply, cells, dropped=dropped))
            raise self.sub.fatal
        final = _final(reply, cells)
        rejected = self._rejection(number) if final else ""
        accepted = final is not None and not rejected
        told = "" if accepted else self._feedback(reply, cells, rejected)
        turn = Turn(number, reply, cells, told, rejected, dropped)
        self.turns.append(turn)
        self.history.add(reply, told)
        self.rlm.watch(TurnEnded(self.level, turn))
        return final if accepted else None

    def _run_cells(self, number: int, reply: str, ran: list[Cell]) -> None:
        """Run the code of a reply up to the first cell that does not end well; add it to `ran`."""
        self.sub.turn = number
        for self.sub.cell, code in enumerate(code_blocks(reply), 1):
            self.rlm.watch(CellBegun(self.level, number, code))
            result = self.sandbox.run(code)
            ran.append(Cell(code, result))
            self.rlm.watch(CellEnded(self.level, number, ran[-1]))
            if result.status != "ok" or self.sub.fatal is not None:
                return

    def _rejection(self, number: int) -> str:
        if not self.rlm.recursive:
            return ""
        return self.rlm.policy.rejection(
            turn=number,
            chars=len(self.context),
            sub_calls=sum(c.kind == "sub" for c in self.calls) + len(self.sub.children),
            rejected=sum(bool(turn.rejected) for turn in self.turns),
        )

    def _feedback(self, reply: str, cells: tuple[Cell, ...], rejected: str) -> str:
        policy, notes = self.rlm.policy, []
        if rejected:
            notes.append(say("rejected", rejected))
        elif not cells:
            notes.append(say("root", "no_code"))
        if self.turns and policy.repeats(reply, self.turns[-1].reply):
            notes.append(say("root", "repeated"))
        self.statuses += [cell.result.status for cell in cells]
        self.told_simpler = policy.needs_simpler(
            self.statuses, new=len(cells), just_told=self.told_simpler
        )
        if self.told_simpler:
            notes.append(say("root" if self.rlm.recursive else "repl", "simpler"))
        return feedback(
            [cell.result for cell in cells],
            limits=self.rlm.limits,
            output_chars=policy.output_chars,
            notes=notes,
        )

    def _last_call(self, ended_by: EndedBy) -> _Outcome:
        """Ask for the answer from what was found."""
        over = ("tokens", "seconds") if self.level == 1 else ("tokens",)
        try:
            self.budget.reserve_call(keep=self.level - 1, over=over)
        except BudgetExceeded:
            return "", ended_by
        try:
            completion = self._closing_call(self._last_options(ended_by))
        except BudgetExceeded:
            return "", "seconds"
        if completion is None:
            self.truncated = True
            return "", ended_by
        return self._closing_answer(completion.text), ended_by

    def _last_options(self, ended_by: EndedBy) -> Options:
        """Sampling of the last call; room beyond a turn's costs no output of the history."""
        options = self.rlm.root_options
        if ended_by == "window":
            return replace(options, max_tokens=min(options.max_tokens, LAST_TOKENS))
        room = self.rlm.answer_tokens
        if self.window:
            taken = self.history.bound(self.history.closing())
            room = min(room, self.window - taken) if taken else 0
        return replace(options, max_tokens=max(options.max_tokens, room))

    def _closing_call(self, options: Options) -> Completion | None:
        """Send the last call, dropping outputs as needed; ``None`` if not even the opening fits."""
        number = len(self.turns) + 1
        completion = self._call("last", number, self.history.closing(), options)
        while completion is None and self.history.drop_oldest(keep=0) is not None:
            completion = self._call("last", number, self.history.closing(), options)
        if completion is None:
            completion = self._send("last", number, self.history.closing(bare=True), options)
        return completion

    def _closing_answer(self, reply: str) -> str:
        """The answer in the reply to a last call; a lone FINAL or FINAL_VAR runs, without calls."""
        code = final_call(reply)
        if code is not None:
            self.sub.closed = True
            final = self.sandbox.run(code).final
            if final is not None:
                return final.value
        return last_answer(reply)

    def _call(
        self, kind: CallKind, number: int, messages: tuple[Message, ...], options: Options
    ) -> Completion | None:
        """Call the root model; ``None`` if messages and answer cannot fit its window."""
        if self.window and self.history.bound(messages) + options.max_tokens > self.window:
            return None
        return self._send(kind, number, messages, options)

    def _send(
        self, kind: CallKind, number: int, messages: tuple[Message, ...], options: Options
    ) -> Completion | None:
        """The same without a look at the window; ``None`` if the messages are refused."""
        least = LAST_SECONDS if kind == "last" and self.level == 1 else 0.0
        self.rlm.watch(CallBegun(self.level, number, kind))
        try:
            completion = chat_within(self.client, messages, options, self.budget, least=least)
        except RLMError as error:
            self._keep(Call.failed(kind, number, messages, error))
            if isinstance(error, PromptTooLong):
                return None
            raise
        self._keep(Call.answered(kind, number, messages, completion))
        self.truncated = self.truncated or cut_by_window(completion, options)
        self.window = completion.window or self.window
        self.history.count(messages, completion)
        return completion

    def _keep(self, call: Call) -> None:
        self.calls.append(call)
        self.rlm.watch(CallEnded(self.level, call))


def prompt_name(
    asked: Prompt, info: ModelInfo, *, recursive: bool = True, deeper: bool = False
) -> PromptName:
    """Which system prompt a root model is given; see `RLM`. `deeper`: code may open loops."""
    if asked == "auto":
        asked = "compact" if info.spec.startswith("embedded") else "full"
    if deeper:
        return "deep_compact" if asked == "compact" else "deep_full"
    if recursive:
        return asked
    return "repl_compact" if asked == "compact" else "repl_full"


def _final(reply: str, cells: tuple[Cell, ...]) -> _Outcome | None:
    """The answer that a reply gives, and how: from its last cell, or as text without any code."""
    if not cells:
        text = text_final(reply)
        return None if text is None else (text, "text")
    final = cells[-1].result.final
    return None if final is None else (final.value, "final")
