"""The turn loop: scripted models, the real sandbox. One property a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from rlm import prompts
from rlm.errors import (
    CallTimeout,
    Interrupted,
    ModelNotFound,
    PromptTooLong,
    ProtocolError,
    RLMError,
    SandboxError,
    ServerUnreachable,
    UsageError,
)
from rlm.events import CallEnded, Event, TurnEnded
from rlm.limits import Budget, SandboxLimits
from rlm.loop import LAST_SECONDS, RLM
from rlm.messages import Message, Options
from rlm.prompts import say
from rlm.sandbox import Sandbox, open_sandbox
from rlm.trajectory import Answer, Trajectory
from rlm.vanilla import Vanilla
from tests.rlm.scripted import STOP, Scripted, code

SHORT = "The secret passcode is 48213. " * 3
LONG = "The harbour is quiet. " * 800
QUERY = "What is the secret passcode?"
LAST = "This is the last turn. From what was found, reply with the answer only."
Ask = Callable[..., Answer]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    box = open_sandbox()
    yield box
    box.close()


@pytest.fixture
def ask(sandbox: Sandbox) -> Ask:
    """Run a script, or a client, on a short document."""

    def run(script: object, context: str = SHORT, sub: Scripted | None = None, **rlm: object):
        client = script if isinstance(script, Scripted) else Scripted(script)
        return RLM(client, sub, sandbox=sandbox, **rlm).completion(context, QUERY)

    return run


def root(answer: Answer) -> list[tuple[Message, ...]]:
    return [call.messages for call in answer.trajectory.calls if call.kind == "root"]


def errors(answer: Answer) -> list[str]:
    return [call.error for call in answer.trajectory.calls if call.error]


# What the model sees


def test_two_turns_byte_for_byte(ask: Ask) -> None:
    """Guards the bytes that the embedded model was trained on."""
    reply = "I search.\n" + code("w = keyword_windows('secret', window=12)\nprint(w[0])")
    final = code("FINAL('48213')")
    answer = ask([reply, final], prompt="compact")
    opening = f"Text: 90 characters. It begins:\n{SHORT}\nQuestion: What is the secret passcode?"
    told = "Output (23 characters):\nThe secret passcode is\nVariables: w"
    before = (Message("system", prompts.system("compact")), Message("user", opening))
    assert root(answer) == [before, (*before, Message("assistant", reply), Message("user", told))]
    assert [turn.feedback for turn in answer.trajectory.turns] == [told, ""]


def test_document_never_enters_the_opening(ask: Ask) -> None:
    document = "a" * 300 + "b" * 100
    (messages,) = root(ask([code("FINAL(1)")], document))
    assert (
        messages[1].content == f"Text: 400 characters. It begins:\n{'a' * 300}\nQuestion: {QUERY}"
    )


def test_braces_in_document_and_query_are_left_alone(sandbox: Sandbox) -> None:
    client = Scripted([code("FINAL(query)")])
    answer = RLM(client, sandbox=sandbox).completion("{document} {0}", "{query}?")
    assert "{document} {0}\nQuestion: {query}?" in client.sent[0][1].content
    assert answer.answer == "{query}?"


def test_reply_stands_in_the_history_as_received(ask: Ask) -> None:
    reply = "  \n" + code("a = 1") + "  \n\n"
    assert root(ask([reply, code("FINAL(1)")]))[1][2] == Message("assistant", reply)


@pytest.mark.parametrize(
    ("spec", "name"), [("embedded", "compact"), ("embedded/sft", "compact"), ("ollama/x", "full")]
)
def test_automatic_prompt(ask: Ask, spec: str, name: prompts.System) -> None:
    (messages,) = root(ask(Scripted([code("FINAL(1)")], spec=spec)))
    assert messages[0] == Message("system", prompts.system(name))


def test_prompt_can_be_chosen(ask: Ask) -> None:
    (messages,) = root(ask(Scripted([code("FINAL(1)")], spec="embedded"), prompt="full"))
    assert messages[0].content == prompts.system("full")


def test_reply_without_code_is_told(ask: Ask) -> None:
    answer = ask(["I do not know.", code("FINAL(1)")])
    assert answer.trajectory.turns[0].feedback == say("root", "no_code")


def test_repeated_reply_is_told(ask: Ask) -> None:
    answer = ask([code("print(1)"), code("print(2)"), code("FINAL(1)")])
    assert answer.trajectory.turns[1].feedback == "\n".join(
        ["Output (2 characters):\n2", say("root", "repeated")]
    )


def test_simpler_plan_is_told_after_two_failures(ask: Ask) -> None:
    answer = ask([code("a = 1 / 0"), code("undefined_name"), code("print('x' * 9)"), "FINAL(1)"])
    ends = [turn.feedback.endswith(say("root", "simpler")) for turn in answer.trajectory.turns]
    assert ends == [False, True, False, False]


# Cells


def test_cells_of_a_reply_run_in_order(ask: Ask) -> None:
    answer = ask([code("a = 1", "a += 1\nprint(a)"), code("FINAL(a)")])
    assert answer.answer == "2"
    assert answer.trajectory.turns[0].feedback == (
        "Output: none.\nOutput (2 characters):\n2\nVariables: a"
    )


@pytest.mark.parametrize(
    "bad", ["1 / 0", "FINAL('x')", "while True: pass", "import os; os._exit(1)"]
)
def test_cells_after_one_that_is_not_ok_do_not_run(ask: Ask, bad: str) -> None:
    answer = ask([code(bad, "print('never')"), code("FINAL(1)")], limits=SandboxLimits(seconds=0.3))
    assert [cell.code for cell in answer.trajectory.turns[0].cells] == [bad]


def test_unfenced_python_runs(ask: Ask) -> None:
    assert ask(["FINAL(context_len)"]).answer == "90"


def test_timeout_is_told_with_its_seconds(ask: Ask) -> None:
    answer = ask(["while True: pass", "FINAL(1)"], limits=SandboxLimits(seconds=0.3))
    assert answer.trajectory.turns[0].feedback == (
        "The cell was stopped after 0.3 seconds. Variables are kept."
    )


def test_death_of_the_session_is_told_and_the_context_survives(ask: Ask) -> None:
    answer = ask([code("import os; os._exit(3)"), "FINAL(context_len)"])
    assert "Variables are gone" in answer.trajectory.turns[0].feedback
    assert answer.answer == "90"


def test_overwritten_helper_is_told(ask: Ask) -> None:
    answer = ask([code("context = 'gone'"), "FINAL(context_len)"])
    assert answer.trajectory.turns[0].feedback == (
        "Restored, do not overwrite: context\nOutput: none."
    )


def test_variables_do_not_live_on_in_the_next_run(ask: Ask) -> None:
    ask(["secret = 1\nFINAL(1)"])
    answer = ask(["print(SHOW_VARS())", "FINAL(1)"])
    assert "secret" not in answer.trajectory.turns[0].feedback


# FINAL and the recursive-first policy


def test_final_ends_the_run(ask: Ask) -> None:
    answer = ask([code("FINAL(48213)")])
    assert (answer.answer, answer.ended_by, answer.iterations) == ("48213", "final", 1)


def test_final_var_ends_the_run(ask: Ask) -> None:
    assert ask([code("a = [1, 2]\nFINAL_VAR('a')")]).answer == "[1, 2]"


def test_unknown_variable_is_told_with_those_that_exist(ask: Ask) -> None:
    answer = ask([code("a = 1\nFINAL_VAR('b')"), "FINAL(a)"])
    assert say("helpers", "unknown_variable", name="b", names="a") in (
        answer.trajectory.turns[0].feedback
    )


def test_final_as_text_ends_the_run(ask: Ask) -> None:
    answer = ask(["I am done.\nFINAL(the number 48213)"])
    assert (answer.answer, answer.ended_by) == ("the number 48213", "text")


def test_final_on_the_first_turn_of_a_long_document_is_rejected(ask: Ask) -> None:
    answer = ask([code("a = llm_query('q')\nFINAL(a)"), "yes", "FINAL(a)"], LONG)
    turn = answer.trajectory.turns[0]
    assert turn.rejected == "first_turn"
    assert turn.feedback == (
        "Output: none.\nVariables: a\nFINAL was rejected: this is the first turn. "
        "Look at the text first, then ask llm_query about what you find."
    )
    assert answer.answer == "yes"


def test_final_without_sub_call_on_a_long_document_is_rejected(ask: Ask) -> None:
    answer = ask(["print(1)", "FINAL(1)", "a = llm_query('q')", "yes", "FINAL(a)"], LONG)
    assert [turn.rejected for turn in answer.trajectory.turns] == ["", "no_sub_call", "", ""]


def test_policy_lets_go_after_two_rejections(ask: Ask) -> None:
    answer = ask(["FINAL(1)", "FINAL(20)", "FINAL(300)"], LONG)
    assert [turn.rejected for turn in answer.trajectory.turns] == ["first_turn", "no_sub_call", ""]
    assert answer.answer == "300"


def test_final_as_text_is_rejected_alike(ask: Ask) -> None:
    answer = ask(["So:\nFINAL(the red one)", "FINAL(1)", "FINAL(2)"], LONG)
    assert answer.trajectory.turns[0].feedback == say("rejected", "first_turn")


def test_short_document_may_be_answered_at_once(ask: Ask) -> None:
    assert ask(["FINAL(1)"], "x" * 15_999).iterations == 1


def test_rejected_turn_stays_in_the_history(ask: Ask) -> None:
    answer = ask(["FINAL(1)", "FINAL(20)", "FINAL(300)"], LONG)
    assert root(answer)[2][2] == Message("assistant", "FINAL(1)")


# Sub-calls


def sub_prompt(answer: Answer) -> tuple[Message, ...]:
    return next(call.messages for call in answer.trajectory.calls if call.kind == "sub")


def test_sub_call_is_one_user_message(ask: Ask) -> None:
    answer = ask(["FINAL(llm_query('Who?'))", "Ann"])
    assert sub_prompt(answer) == (Message("user", "Who?"),)
    assert (answer.answer, answer.sub_calls) == ("Ann", 1)


def test_sub_model_answers_sub_calls_with_its_options(ask: Ask) -> None:
    main, sub = Scripted(["FINAL(llm_query('Who?'))"]), Scripted(["Ann"])
    answer = ask(
        main, sub=sub, root_options=Options(max_tokens=7), sub_options=Options(max_tokens=9)
    )
    assert answer.answer == "Ann"
    assert ([o.max_tokens for o in main.options], [o.max_tokens for o in sub.options]) == ([7], [9])


def test_long_answer_of_a_sub_call_is_cut_and_told(ask: Ask) -> None:
    answer = ask(["FINAL(llm_query('q'))", "x" * 1_201])
    assert answer.answer == "x" * 1_200 + " [cut at 1200 characters]"


def test_answer_at_the_limit_is_not_cut(ask: Ask) -> None:
    assert ask(["FINAL(llm_query('q'))", "x" * 1_200]).answer == "x" * 1_200


def test_sub_call_that_does_not_fit_is_told_and_recorded(ask: Ask) -> None:
    sub = Scripted(["never"], window=10)
    answer = ask(["print(llm_query('x' * 99))", "FINAL(1)"], sub=sub)
    assert "RuntimeError: " + say("calls", "too_long", length=99, window=10) in (
        answer.trajectory.turns[0].feedback
    )
    assert errors(answer) == ["PromptTooLong: too long"]
    assert answer.sub_calls == 1
    assert not answer.truncated


def test_unknown_window_is_not_invented(ask: Ask) -> None:
    sub = Scripted([PromptTooLong("no")])
    answer = ask(["print(llm_query('xyz'))", "FINAL(1)"], sub=sub)
    assert "the prompt of 3 characters does not fit the model's window of ? tokens" in (
        answer.trajectory.turns[0].feedback
    )


@pytest.mark.parametrize("error", [CallTimeout("no answer in 5 s"), ProtocolError("garbled")])
def test_failed_sub_call_is_told_and_recorded(ask: Ask, error: Exception) -> None:
    answer = ask(["print(llm_query('q'))", "FINAL(1)"], sub=Scripted([error]))
    assert f"RuntimeError: the model call failed: {error}" in answer.trajectory.turns[0].feedback
    assert errors(answer) == [f"{type(error).__name__}: {error}"]


def test_fault_is_the_first_failure_that_is_the_servers(ask: Ask) -> None:
    """Guards against scoring a server's fault as a wrong answer."""
    sub = Scripted([PromptTooLong("no"), ProtocolError("garbled"), CallTimeout("slow")])
    cell = "print(llm_query_batched(['a', 'b', 'c']))"
    assert ask([cell, "FINAL(1)"], sub=sub).fault == "ProtocolError: garbled"


def test_refusal_and_length_are_no_fault(ask: Ask) -> None:
    cell = "print(llm_query_batched(['a', 'b']))"
    answer = ask([cell, "1"], sub=Scripted([PromptTooLong("no")]), budget=Budget(calls=3))
    assert (answer.sub_calls, answer.fault) == (1, "")


@pytest.mark.parametrize("error", [ServerUnreachable("no server"), ModelNotFound("no model")])
@pytest.mark.parametrize("call", ["llm_query('q')", "llm_query_batched(['q', 'r'])"])
def test_lost_server_ends_the_run_even_if_the_code_hides_it(
    ask: Ask, error: Exception, call: str
) -> None:
    cell = f"try:\n    {call}\nexcept RuntimeError:\n    FINAL('hidden')"
    with pytest.raises(type(error), match=str(error)):
        ask([code(cell)], sub=Scripted(lambda _: error))


def test_lost_server_is_not_asked_again_by_the_same_cell(ask: Ask) -> None:
    sub = Scripted(lambda _: ServerUnreachable("no server"))
    with pytest.raises(ServerUnreachable):
        ask(["llm_query_batched(['a', 'b', 'c'])"], sub=sub)
    assert len(sub.sent) == 1


def test_fault_of_a_client_is_not_hidden(ask: Ask) -> None:
    with pytest.raises(ZeroDivisionError):
        ask(["llm_query('q')"], sub=Scripted([ZeroDivisionError("bug")]))


def test_batch_answers_in_order(ask: Ask) -> None:
    sub = Scripted(lambda messages: messages[0].content.upper())
    assert ask(["FINAL(llm_query_batched(['a', 'b', 'c']))"], sub=sub).answer == "['A', 'B', 'C']"


def test_batch_slot_says_why_it_failed(ask: Ask) -> None:
    sub = Scripted(lambda m: CallTimeout("slow") if m[0].content == "b" else "fine")
    answer = ask(["FINAL(llm_query_batched(['a', 'b', 'c']))"], sub=sub)
    assert answer.answer == "['fine', 'Error: the model call failed: slow', 'fine']"
    assert answer.sub_calls == 3


@pytest.mark.parametrize("batch", ["llm_query_batched(six)", "query_chunks(six, '{chunk}')"])
def test_batch_runs_as_many_calls_at_once_as_allowed(ask: Ask, batch: str) -> None:
    running, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2, timeout=5)

    class Slow(Scripted):
        def chat(self, messages: Sequence[Message], *, options: Options):
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            both.wait()
            with lock:
                running -= 1
            return super().chat(messages, options=options)

    sub = Slow(lambda messages: messages[0].content.upper())
    answer = ask([f"six = list('abcdef')\nFINAL({batch})"], sub=sub, concurrency=2)
    assert most == 2
    assert answer.answer == str(list("ABCDEF"))
    asked = [call.messages[0].content for call in answer.trajectory.calls if call.kind == "sub"]
    assert asked == list("abcdef")


@pytest.mark.parametrize("concurrency", [1, 4])
def test_calls_that_are_left_go_to_the_first_prompts(ask: Ask, concurrency: int) -> None:
    sub = Scripted(lambda messages: messages[0].content.upper())
    cell = "print(llm_query_batched(list('abcdef')))"
    answer = ask([cell, "last"], sub=sub, concurrency=concurrency, budget=Budget(calls=5))
    spent = say(
        "calls", "batch_slot", reason=say("calls", "spent", reason="all 5 model calls are used")
    )
    assert str([*"ABC", spent, spent, spent]) in answer.trajectory.turns[0].feedback
    assert sorted(messages[0].content for messages in sub.sent) == ["a", "b", "c"]


def test_no_call_of_a_batch_begins_once_the_tokens_are_spent(ask: Ask) -> None:
    """The calls of one round are under way when the first of them spends the budget."""
    together = threading.Barrier(3, timeout=5)

    class Slow(Scripted):
        def chat(self, messages: Sequence[Message], *, options: Options):
            together.wait()
            return super().chat(messages, options=options)

    sub, budget = Slow(lambda _: "x" * 4000), Budget(tokens=1500)
    cell = "print(len(llm_query_batched([str(n) for n in range(30)])))"
    answer = ask([cell, "last"], sub=sub, concurrency=3, budget=budget)
    assert (len(sub.sent), answer.sub_calls, answer.ended_by) == (3, 3, "tokens")


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_call_of_a_batch_begins_once_something_broke(ask: Ask, concurrency: int) -> None:
    """Guards against a Ctrl-C, or a bug, after which the rest of a batch is still paid for."""
    begun, broke = [], threading.Event()

    class Breaking(Scripted):
        def chat(self, messages: Sequence[Message], *, options: Options):
            begun.append(messages[0].content)
            if begun[-1] == "1":
                broke.set()
                raise KeyboardInterrupt
            if concurrency > 1:
                broke.wait(5)
                time.sleep(0.1)
            return super().chat(messages, options=options)

    cell = "llm_query_batched([str(n) for n in range(30)])"
    with pytest.raises(KeyboardInterrupt):
        ask([cell], sub=Breaking(lambda _: "fine"), concurrency=concurrency)
    assert len(begun) < 10


def test_loop_within_the_loop_is_refused(ask: Ask) -> None:
    answer = ask(["rlm_query('c', 'q')", "FINAL(1)"])
    assert say("calls", "no_recursion") in answer.trajectory.turns[0].feedback
    assert answer.sub_calls == 0


def test_calls_belong_to_their_turn(ask: Ask) -> None:
    answer = ask(["llm_query('a')", "x", "FINAL(llm_query('b'))", "y"])
    calls = [(call.kind, call.turn) for call in answer.trajectory.calls]
    assert calls == [("root", 1), ("sub", 1), ("root", 2), ("sub", 2)]


# Turns, budget and the last call


def test_last_call_after_the_last_turn(ask: Ask) -> None:
    answer = ask(["print(1)", "print(22)", " 48213\n"], max_iterations=2)
    last = answer.trajectory.calls[-1]
    assert (answer.answer, answer.ended_by, answer.iterations) == ("48213", "turns", 2)
    assert last.kind == "last"
    assert last.messages[-1] == Message("user", f"Output (3 characters):\n22\n{LAST}")
    assert [m.role for m in last.messages[1:]] == ["user", "assistant"] * 2 + ["user"]
    assert last.messages[:-1] == (
        *root(answer)[1],
        Message("assistant", "print(22)"),
    )


def test_last_call_takes_what_stands_in_final(ask: Ask) -> None:
    answer = ask(["print(1)", code('FINAL("48213")')], max_iterations=1)
    assert (answer.answer, answer.ended_by) == ("48213", "turns")


@pytest.mark.parametrize("reply", ["FINAL_VAR(found)", code("FINAL(str(found)[1:-1])")])
def test_last_call_may_name_a_variable(ask: Ask, reply: str) -> None:
    answer = ask(["found = [48213]", reply], max_iterations=1)
    assert answer.answer in ("[48213]", "48213")
    assert (answer.ended_by, answer.iterations) == ("turns", 1)


@pytest.mark.parametrize(
    ("reply", "text"), [("FINAL(Paris)", "Paris"), ("FINAL(llm_query('q'))", "llm_query('q')")]
)
def test_code_of_the_last_call_that_fails_stays_text(ask: Ask, reply: str, text: str) -> None:
    answer = ask(["print(1)", reply], max_iterations=1)
    assert (answer.answer, answer.sub_calls) == (text, 0)


def test_last_call_is_reserved_in_the_budget(ask: Ask) -> None:
    answer = ask(["print(1)", "print(22)", "48213"], budget=Budget(calls=3))
    assert (answer.answer, answer.ended_by, answer.usage.calls) == ("48213", "calls", 3)


def test_sub_calls_leave_the_last_call_its_room(ask: Ask) -> None:
    cell = "for p in 'abcd':\n    print(llm_query(p))"
    answer = ask([cell, "A", "B", "48213"], budget=Budget(calls=4))
    reason = "all 4 model calls are used"
    assert say("calls", "spent", reason=reason) in answer.trajectory.turns[0].feedback
    assert (answer.answer, answer.ended_by, answer.sub_calls) == ("48213", "calls", 2)


def test_spent_budget_in_a_batch_stands_in_its_slots(ask: Ask) -> None:
    answer = ask(["print(llm_query_batched(['a', 'b']))", "A", "48213"], budget=Budget(calls=3))
    assert "['A', 'Error: no more model calls: all 3 model calls are used;" in (
        answer.trajectory.turns[0].feedback
    )


def test_spent_tokens_end_the_run_with_a_last_call(ask: Ask) -> None:
    answer = ask(["print(1)", "48213"], budget=Budget(tokens=10))
    assert (answer.answer, answer.ended_by, answer.iterations) == ("48213", "tokens", 1)


def test_tokens_of_sub_calls_are_charged(ask: Ask) -> None:
    budget = Budget()
    answer = ask(["FINAL(llm_query('q' * 400))", "x" * 40], budget=budget)
    assert budget.spent == answer.usage
    assert answer.trajectory.calls[1].completion.usage.prompt_tokens == 100


def test_spent_seconds_end_the_run_with_a_last_call(ask: Ask) -> None:
    answer = ask(["import time; time.sleep(2.1)", "48213"], budget=lambda: Budget(seconds=2.0))
    assert (answer.answer, answer.ended_by, answer.iterations) == ("48213", "seconds", 1)


class Waiting(Scripted):
    """Takes `wait` seconds over a call, or fails after the seconds that the call may take."""

    wait = 2.1

    def chat(self, messages: Sequence[Message], *, options: Options):
        if options.seconds is not None and options.seconds < self.wait:
            time.sleep(options.seconds)
            self.sent.append(tuple(messages))
            self.options.append(options)
            raise CallTimeout(f"no answer in {options.seconds:g} s")
        time.sleep(self.wait)
        return super().chat(messages, options=options)


def test_calls_may_take_what_the_budget_leaves(ask: Ask) -> None:
    sub_options, options = Options(seconds=3.0), Options(seconds=90.0)
    client = Scripted(["print(llm_query('q'))", "a", "48213"])
    budget = Budget(seconds=50.0)
    ask(client, budget=budget, sub_options=sub_options, root_options=options, max_iterations=1)
    root_seconds, sub_seconds, last_seconds = (o.seconds for o in client.options)
    assert 3.0 < root_seconds < 50.0
    assert (sub_seconds, last_seconds) == (3.0, LAST_SECONDS)


def test_calls_without_a_budget_take_their_own_seconds(ask: Ask) -> None:
    client = Scripted(["FINAL(1)"])
    ask(client)
    assert client.options[0].seconds is None


def test_root_call_that_the_budget_ends_leads_to_the_last_call(ask: Ask) -> None:
    answer = ask(Waiting(["48213"]), budget=lambda: Budget(seconds=2.0))
    assert (answer.answer, answer.ended_by, answer.iterations) == ("48213", "seconds", 0)
    assert errors(answer) == ["BudgetExceeded: all 2 seconds are used"]


def test_sub_call_that_the_budget_ends_is_told_as_spent(ask: Ask) -> None:
    main = Scripted(["print(llm_query('q'))", "48213"])
    answer = ask(main, sub=Waiting([]), budget=lambda: Budget(seconds=2.0))
    told = say("calls", "spent", reason="all 2 seconds are used")
    assert told in answer.trajectory.turns[0].feedback
    assert (answer.answer, answer.ended_by, answer.fault) == ("48213", "seconds", "")


def test_last_call_that_takes_too_long_ends_without_an_answer(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlm.loop.LAST_SECONDS", 0.1)
    answer = ask(Waiting([]), budget=lambda: Budget(seconds=2.0))
    assert (answer.answer, answer.ended_by) == ("", "seconds")
    assert [call.kind for call in answer.trajectory.calls] == ["root", "last"]


def test_call_that_takes_too_long_by_itself_is_an_error(ask: Ask) -> None:
    with pytest.raises(CallTimeout):
        ask(Waiting([]), root_options=Options(seconds=0.01), budget=lambda: Budget(seconds=60))


def test_no_call_at_all_is_left(ask: Ask) -> None:
    answer = ask([], budget=Budget(calls=0))
    assert (answer.answer, answer.ended_by, answer.trajectory.calls) == ("", "calls", ())


def test_budget_function_gives_each_completion_its_own(sandbox: Sandbox) -> None:
    client = Scripted(lambda _: "FINAL(1)")
    rlm = RLM(client, sandbox=sandbox, budget=lambda: Budget(calls=2))
    assert [rlm.completion(SHORT, QUERY).ended_by for _ in range(3)] == ["final"] * 3


def test_budget_itself_is_shared_by_completions(sandbox: Sandbox) -> None:
    rlm = RLM(Scripted(lambda _: "FINAL(1)"), sandbox=sandbox, budget=Budget(calls=3))
    assert [rlm.completion(SHORT, QUERY).ended_by for _ in range(3)] == ["final", "final", "calls"]


# The sandbox and the face


def test_own_sandbox_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = spy_on_sandboxes(monkeypatch)
    RLM(Scripted(["FINAL(1)"])).completion(SHORT, QUERY)
    assert closed(opened) == [True]


def test_own_sandbox_is_closed_when_the_run_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = spy_on_sandboxes(monkeypatch)
    with pytest.raises(CallTimeout):
        RLM(Scripted(["print(1)", CallTimeout("slow")])).completion(SHORT, QUERY)
    assert closed(opened) == [True]


def test_given_sandbox_stays_open(ask: Ask, sandbox: Sandbox) -> None:
    ask(["FINAL(1)"])
    assert sandbox.run("print(context_len)").stdout == "90\n"


def spy_on_sandboxes(monkeypatch: pytest.MonkeyPatch) -> list[Sandbox]:
    opened: list[Sandbox] = []

    def spy(backend: str) -> Sandbox:
        opened.append(open_sandbox(backend))
        return opened[-1]

    monkeypatch.setattr("rlm.loop.open_sandbox", spy)
    return opened


def closed(sandboxes: list[Sandbox]) -> list[bool]:
    def is_closed(sandbox: Sandbox) -> bool:
        try:
            sandbox.run("1")
        except SandboxError:
            return True
        return False

    return [is_closed(sandbox) for sandbox in sandboxes]


@pytest.mark.parametrize("error", [CallTimeout("slow"), ServerUnreachable("gone")])
def test_failed_root_call_is_an_error(ask: Ask, error: RLMError) -> None:
    with pytest.raises(type(error)) as raised:
        ask(["print(1)", error])
    trajectory = raised.value.trajectory
    assert [turn.reply for turn in trajectory.turns] == ["print(1)"]
    assert [call.error for call in trajectory.calls] == ["", f"{type(error).__name__}: {error}"]


def test_lost_server_of_sub_calls_leaves_the_turn_in_the_error(ask: Ask) -> None:
    with pytest.raises(ServerUnreachable) as raised:
        ask(["print(llm_query('q'))"], sub=Scripted([ServerUnreachable("gone")]))
    trajectory = raised.value.trajectory
    assert [cell.result.calls for cell in trajectory.turns[0].cells] == [1]
    assert [call.error for call in trajectory.calls] == ["", "ServerUnreachable: gone"]


def test_sandbox_that_does_not_start_leaves_an_empty_trajectory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(SandboxError) as raised:
        RLM(Scripted([]), sandbox="process").completion(SHORT, QUERY)
    assert raised.value.trajectory == Trajectory(prompts.VERSION)


def test_each_turn_is_announced(ask: Ask) -> None:
    seen: list[Event] = []
    answer = ask(["print(1)", "FINAL(1)"], watch=seen.append)
    turns = [event.turn for event in seen if isinstance(event, TurnEnded)]
    assert tuple(turns) == answer.trajectory.turns


def test_what_happens_is_told_in_order(ask: Ask) -> None:
    seen: list[Event] = []
    ask(["print(llm_query('q'))", "a", "FINAL(1)"], watch=seen.append)
    told = [type(event).__name__ for event in seen]
    call = ["CallBegun", "CallEnded"]
    first = [*call, "CellBegun", *call, "CellEnded", "TurnEnded"]
    last = [*call, "CellBegun", "CellEnded", "TurnEnded"]
    assert told == ["LoopOpened", *first, *last, "LoopClosed"]
    kinds = [event.call.kind for event in seen if isinstance(event, CallEnded)]
    assert kinds == ["root", "sub", "root"]


def test_ctrl_c_keeps_what_had_happened() -> None:
    client = Scripted([code("print('found')", "llm_query('one?')\nllm_query('two?')"), "1", STOP])
    with pytest.raises(Interrupted) as raised:
        RLM(client).completion(SHORT, QUERY)
    went = raised.value.trajectory
    assert [cell.result.stdout for turn in went.turns for cell in turn.cells] == ["found\n"]
    assert [call.completion.text for call in went.calls if call.kind == "sub"] == ["1"]


def test_ctrl_c_while_an_answer_is_shown_keeps_that_answer() -> None:
    def watch(event: Event) -> None:
        if isinstance(event, CallEnded) and event.call.kind == "sub":
            raise KeyboardInterrupt

    client = Scripted([code("llm_query('one?')\nllm_query('two?')"), "1", "2"])
    with pytest.raises(Interrupted) as raised:
        RLM(client, watch=watch).completion(SHORT, QUERY)
    went = raised.value.trajectory
    assert [call.completion.text for call in went.calls if call.kind == "sub"] == ["1"]


def test_ctrl_c_while_vanilla_reads_is_the_same_error() -> None:
    with pytest.raises(Interrupted) as raised:
        Vanilla(Scripted([STOP])).completion(SHORT, QUERY)
    assert raised.value.trajectory == Trajectory(prompts.VERSION)


def test_times_and_usage_are_the_sums(ask: Ask) -> None:
    started = time.monotonic()
    answer = ask(["print(llm_query('q'))", "a" * 8, "FINAL(1)"])
    done = [call.completion for call in answer.trajectory.calls]
    assert answer.usage.calls == 3
    assert answer.usage.prompt_tokens == sum(d.usage.prompt_tokens for d in done)
    assert answer.usage.completion_tokens == sum(d.usage.completion_tokens for d in done)
    assert (answer.times.wall, answer.times.decode) == (1.5, 0.75)
    assert 0 < answer.sandbox_seconds < answer.wall <= time.monotonic() - started


@pytest.mark.parametrize("who", ["root", "sub"])
def test_prompt_cut_silently_is_said(ask: Ask, who: str) -> None:
    main = Scripted(["FINAL(llm_query('q'))"], truncated=who == "root")
    assert ask(main, sub=Scripted(["a"], truncated=who == "sub")).truncated


@pytest.mark.parametrize(
    ("most", "truncated"), [(20, True), (2, False)], ids=["by the window", "by max_tokens"]
)
@pytest.mark.parametrize("script", [["FINAL('x')"], ["print(1)", "48213 is"]])
def test_reply_cut_off_by_the_window_is_said(
    ask: Ask, script: list[str], most: int, truncated: bool
) -> None:
    """Guards against scoring half an answer as a wrong one."""
    client = Scripted(script, finish_reason="length")
    answer = ask(client, root_options=Options(max_tokens=most), max_iterations=1)
    assert answer.truncated is truncated


def test_nothing_is_truncated_otherwise(ask: Ask) -> None:
    assert not ask(["FINAL(1)"]).truncated


@pytest.mark.parametrize(
    "given",
    [
        {"max_depth": 0},
        {"max_depth": 9},
        {"max_depth": 2, "recursive": False},
        {"max_iterations": 0},
        {"concurrency": 0},
        {"prompt": "long"},
    ],
)
def test_unusable_value_is_named(given: dict) -> None:
    with pytest.raises(UsageError, match=str(next(iter(given.values())))):
        RLM(Scripted([]), **given)
