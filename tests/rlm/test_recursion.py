"""Loops that code opens: scripted models, real sandboxes. One property a test."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm import prompts
from rlm.errors import (
    CallTimeout,
    Interrupted,
    ProtocolError,
    RLMError,
    SandboxError,
    ServerUnreachable,
)
from rlm.events import Event, LoopClosed, LoopOpened, TurnEnded
from rlm.limits import Budget, SandboxLimits
from rlm.loop import LAST_SECONDS, RLM
from rlm.messages import Completion, Message, Options, Usage
from rlm.prompts import say
from rlm.sandbox import Sandbox, open_sandbox
from rlm.trajectory import Answer, Call, ChildRun, Trajectory, Turn
from tests.rlm.sandbox.attacks.host import descendants
from tests.rlm.scripted import STOP, Reply, Scripted, code

DOCUMENT = "A harbour. " * 20
OPEN = "a = rlm_query('the part', 'Who?')\nprint(a)"
Ask = Callable[..., Answer]


@pytest.fixture
def ask() -> Ask:
    """Run a script for the first loop and one for all below it, which sub-calls share."""

    def run(main: Sequence[Reply], below: object, **rlm: object) -> Answer:
        sub = below if isinstance(below, Scripted) else Scripted(below)
        given = {"max_depth": 2} | rlm
        return RLM(Scripted(main), sub, **given).completion(DOCUMENT, "Which?")

    return run


@pytest.fixture(params=["process", "no-open", "bwrap", "monty", "unconfined"])
def backend(request: pytest.FixtureRequest) -> str:
    name, required = str(request.param), os.environ.get("RLM_REQUIRE", "").split(",")
    if name == "bwrap" and not shutil.which("bwrap") and name not in required:
        pytest.skip("there is no bwrap; install bubblewrap")
    if name == "monty" and name not in required:
        pytest.importorskip("pydantic_monty")
    return name


def told(answer: Answer, turn: int = 1) -> str:
    return answer.trajectory.turns[turn - 1].feedback


# What a loop below another one is


def test_a_child_answers_its_own_query_on_its_own_context(ask: Ask, backend: str) -> None:
    main = ["x = 'mine'", f"{OPEN}\nprint(x, len(context))", "FINAL(a)"]
    child = ["x = 'its own'", "FINAL(context + ', ' + query + ' ' + x + ' ' + llm_query('Hm?'))"]
    answer = ask(main, [*child, "Ann"], sandbox=backend)
    assert answer.answer == "the part, Who? its own Ann"
    assert f"{answer.answer}\nmine {len(DOCUMENT)}" in told(answer, 2)


def test_a_child_sees_its_opening_and_the_frozen_system_prompt(ask: Ask) -> None:
    below = Scripted(["FINAL(1)"], spec="embedded")
    ask([OPEN, "FINAL(a)"], below)
    opening = "Text: 8 characters. It begins:\nthe part\nQuestion: Who?"
    assert below.sent == [
        (Message("system", prompts.system("compact")), Message("user", opening)),
    ]


@pytest.mark.parametrize("name", ["full", "compact"])
def test_only_where_code_may_open_loops_the_prompt_says_so(name: prompts.System) -> None:
    systems = {}
    for depth in (1, 2, 3):
        client = Scripted([f"FINAL({OPEN!r})", "FINAL(1)"])
        RLM(client, prompt=name, max_depth=depth).completion(DOCUMENT, "Which?")
        systems[depth] = client.sent[0][0].content
    assert systems[1] == prompts.system(name)
    assert systems[2] == systems[3] == prompts.system(f"deep_{name}")


@pytest.mark.parametrize("name", ["full", "compact"])
def test_the_prompt_that_offers_it_is_the_frozen_one_with_more_lines(name: prompts.System) -> None:
    deep, rest = prompts.system(f"deep_{name}"), iter(prompts.system(name).split())
    word = next(rest)
    for found in deep.split():
        if found == word:
            word = next(rest, "")
    assert word == ""
    assert "rlm_query(" in deep
    assert "rlm_query" not in prompts.system(name)


def test_the_texts_that_offer_it_are_frozen_by_their_version() -> None:
    """A new wording is a new folder beside this one, so that keys of cells change."""
    digest = "3e26f0d0d068060825b4027e5d9c1c04b8ef4089c6db24d2b19c3e735454abf7"
    assert (prompts.DEEP, prompts.version_sha256("deep1")) == ("deep1", digest)


def test_three_levels(ask: Ask, backend: str) -> None:
    below = [
        "b = rlm_query(context[:3], 'And?')\nprint(b)",
        "FINAL(str(context_len) + query)",
        "FINAL(b + '!')",
    ]
    answer = ask([OPEN, "FINAL(a)"], below, max_depth=3, sandbox=backend)
    assert answer.answer == "3And?!"
    assert [(level.runs, level.turns) for level in answer.trajectory.levels] == [
        (1, 2),
        (1, 2),
        (1, 1),
    ]
    assert (answer.iterations, answer.sub_calls, answer.usage.calls) == (5, 0, 5)


def test_a_child_that_was_asked_counts_as_asking_before_a_final(ask: Ask) -> None:
    client = Scripted([code(OPEN), "FINAL('child')", code("FINAL(a)")])
    answer = RLM(client, max_depth=2).completion("The harbour is quiet. " * 800, "Which?")
    assert [turn.rejected for turn in answer.trajectory.turns] == ["", ""]


def test_a_long_answer_is_cut_as_that_of_a_sub_call_is(ask: Ask) -> None:
    answer = ask([OPEN, "FINAL(a)"], ["FINAL('x' * 1201)"])
    assert answer.answer == "x" * 1_200 + " [cut at 1200 characters]"


def test_turns_of_all_loops_are_announced_with_their_levels(ask: Ask) -> None:
    seen: list[Event] = []
    answer = ask([OPEN, "FINAL(a)"], ["FINAL(1)"], watch=seen.append)
    turns = [(event.level, event.turn) for event in seen if isinstance(event, TurnEnded)]
    first, last = answer.trajectory.turns
    (inner,) = answer.trajectory.children[0].trajectory.turns
    assert turns == [(2, inner), (1, first), (1, last)]
    loops = [event for event in seen if isinstance(event, LoopOpened | LoopClosed)]
    assert [(type(event), event.level) for event in loops] == [
        (LoopOpened, 1),
        (LoopOpened, 2),
        (LoopClosed, 2),
        (LoopClosed, 1),
    ]


def test_ctrl_c_in_a_loop_below_keeps_what_both_had_done(ask: Ask) -> None:
    client = Scripted([code(OPEN), code("print(llm_query('first?'))", "print(2)"), "one", STOP])
    with pytest.raises(Interrupted) as raised:
        RLM(client, max_depth=2).completion("text", "Which?")
    above = raised.value.trajectory
    (child,) = above.children
    assert (above.turns[0].reply, above.turns[0].cells) == (code(OPEN), ())
    assert [cell.result.stdout for cell in child.trajectory.turns[0].cells] == ["one\n", "2\n"]
    assert [call.kind for call in child.trajectory.calls] == ["root", "sub"]
    assert child.error == "Interrupted: stopped by Ctrl-C"


# Depth, which the host enforces

FORGED = """
import os
def is_open(n):
    try:
        os.get_inheritable(n)
    except OSError:
        return False
    return True
def ask(fd):
    body = b'{"type":"call","id":77,"kind":"rlm_query","count":2,"chars":9,"texts":["c","q"]}'
    os.write(fd, len(body).to_bytes(4, "big") + body)
    size = int.from_bytes(os.read(fd, 4), "big")
    return os.read(fd, size).decode()
fd = max(int(n) for n in range(3, 200) if is_open(n))
print(ask(fd))
"""


@pytest.mark.parametrize("confined", ["process", "no-open", "unconfined"])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_forged_request_on_the_deepest_level_is_refused(
    ask: Ask, confined: str, depth: int
) -> None:
    """The cell writes the message itself, past every function of the worker."""
    forge = [code(FORGED), "FINAL(1)"]
    main = [code(OPEN), "FINAL(a)"] if depth == 2 else forge
    answer = ask(main, forge, max_depth=depth, sandbox=confined)
    runs = list(answer.trajectory.runs())
    assert len(runs) == depth
    deepest = runs[-1][1]
    assert json.dumps({"id": 77, "error": say("calls", "no_recursion")}) in (
        deepest.turns[0].feedback
    )


def test_the_same_forged_request_is_served_where_depth_allows_it(ask: Ask) -> None:
    """Guards the test above: its message is one that the host understands."""
    answer = ask([code(FORGED), "FINAL(1)"], ["FINAL('served')"])
    assert json.dumps({"id": 77, "answers": ["served"]}) in told(answer)


def test_a_request_past_the_functions_of_monty_is_refused(ask: Ask) -> None:
    pytest.importorskip("pydantic_monty")
    cell = "_rlm['ask']('rlm_query', ['c', 'q'])"
    answer = ask([cell, "FINAL(1)"], [], max_depth=1, sandbox="monty")
    assert say("calls", "no_recursion") in told(answer)
    assert ask([cell, "FINAL(1)"], ["FINAL(1)"], sandbox="monty").trajectory.levels[1].runs == 1


def test_the_budget_may_allow_fewer_levels(ask: Ask) -> None:
    main = Scripted([OPEN, "FINAL(1)"])
    answer = RLM(main, max_depth=3, budget=Budget(depth=1)).completion(DOCUMENT, "Which?")
    assert say("calls", "no_recursion") in told(answer)
    assert main.sent[0][0].content == prompts.system("full")
    two = ask([OPEN, "FINAL(a)"], [OPEN, "FINAL(2)"], max_depth=3, budget=Budget(depth=2))
    assert say("calls", "no_recursion") in two.trajectory.children[0].trajectory.turns[0].feedback


# One budget for the tree


def always(reply: str) -> Scripted:
    """Never ends by itself."""
    return Scripted(lambda messages: "what was found" if is_last(messages) else reply)


def is_last(messages: Sequence[Message]) -> bool:
    return messages[-1].content.endswith(say("root", "last_call"))


@pytest.mark.parametrize("calls", range(1, 12))
@pytest.mark.parametrize("depth", [2, 3])
def test_calls_of_the_tree_are_bounded_and_each_open_loop_has_its_last(
    calls: int, depth: int
) -> None:
    client, budgets = always(code("print(rlm_query(context, query))")), []

    def budget() -> Budget:
        budgets.append(Budget(calls=calls))
        return budgets[-1]

    rlm = RLM(client, max_depth=depth, budget=budget, sandbox="unconfined")
    answer = rlm.completion("The text.", "Which?")
    assert [each.spent.calls for each in budgets] == [len(client.sent)] == [calls]
    assert (answer.answer, answer.ended_by) == ("what was found", "calls")
    for _, run in answer.trajectory.runs():
        assert [call.kind for call in run.calls].count("last") == 1
        assert run.calls[-1].kind == "last"


def test_sub_calls_of_a_child_leave_each_open_loop_its_last_call(ask: Ask) -> None:
    main = Scripted([OPEN, "the answer"])
    below = Scripted([code("print(llm_query_batched(list('abcdef')))"), "A", "B", "found"])
    budget = Budget(calls=6)
    answer = RLM(main, below, max_depth=2, budget=budget).completion(DOCUMENT, "Which?")
    child = answer.trajectory.children[0]
    assert (child.answer, child.ended_by, child.trajectory.sub_calls) == ("found", "calls", 2)
    assert (answer.answer, answer.ended_by, budget.spent.calls) == ("the answer", "calls", 6)
    assert told(answer).startswith("Output (6 characters):\nfound\n")


def test_a_child_for_which_no_call_is_left_is_not_opened(ask: Ask) -> None:
    answer = ask([OPEN, "print(2)", "the answer"], [], budget=Budget(calls=3))
    assert say("calls", "spent", reason="all 3 model calls are used") in told(answer)
    assert (answer.answer, answer.trajectory.children) == ("the answer", ())


def test_tokens_that_a_child_spends_end_the_whole_tree(ask: Ask) -> None:
    budget = Budget(tokens=10_000)
    filler = "x" * 40_000
    answer = ask([OPEN, "the answer"], [f"print(1) # {filler}", "found"], budget=budget)
    child = answer.trajectory.children[0]
    assert (child.answer, child.ended_by) == ("found", "tokens")
    assert (answer.answer, answer.ended_by, answer.iterations) == ("the answer", "tokens", 2)
    assert "found" in told(answer)
    assert budget.spent == answer.usage


class Slow(Scripted):
    """Takes `wait` seconds over a call, or fails after the seconds that the call may take."""

    wait = 2.0

    def chat(self, messages: Sequence[Message], *, options: Options) -> Completion:
        if options.seconds is not None and options.seconds < self.wait:
            time.sleep(options.seconds)
            self.options.append(options)
            raise CallTimeout(f"no answer in {options.seconds:g} s")
        time.sleep(self.wait)
        return super().chat(messages, options=options)


def test_seconds_that_a_child_spends_end_the_whole_tree(ask: Ask) -> None:
    """Only the first loop may ask for its answer when the time is over."""
    main, below = Scripted([OPEN, "the answer"]), Slow(lambda _: "print(1)")
    rlm = RLM(main, below, max_depth=2, budget=lambda: Budget(seconds=5.0))
    answer = rlm.completion(DOCUMENT, "Which?")
    child = answer.trajectory.children[0]
    assert (child.answer, child.ended_by) == ("", "seconds")
    assert [call.kind for call in child.trajectory.calls] == ["root"] * len(below.options)
    assert child.trajectory.calls[-1].error == "BudgetExceeded: all 5 seconds are used"
    assert say("deep", "no_answer", ended_by="seconds") in told(answer)
    assert (answer.answer, answer.ended_by, answer.fault) == ("the answer", "seconds", "")
    assert main.options[-1].seconds == LAST_SECONDS


def test_the_last_call_of_a_child_takes_no_more_than_is_left(ask: Ask) -> None:
    main, below = Scripted([OPEN, "FINAL(a)"]), Scripted(["print(1)", "found"])
    rlm = RLM(main, below, max_depth=2, max_iterations=2, budget=lambda: Budget(seconds=50.0))
    rlm.max_iterations = 1
    answer = rlm.completion(DOCUMENT, "Which?")
    assert answer.trajectory.children[0].ended_by == "turns"
    assert below.options[-1].seconds < 50.0


def test_a_cell_may_wait_for_a_child_longer_than_it_may_run(ask: Ask, backend: str) -> None:
    limits = SandboxLimits(seconds=1.5)
    answer = ask([OPEN, "FINAL(a)"], Slow(["FINAL('in time')"]), limits=limits, sandbox=backend)
    assert answer.answer == "in time"
    cell = answer.trajectory.turns[0].cells[0].result
    assert (cell.status, cell.calls) == ("ok", 1)
    assert cell.seconds < 1.5


def test_a_child_has_the_limits_of_a_cell_for_itself(ask: Ask, backend: str) -> None:
    limits = SandboxLimits(seconds=1.5)
    below = ["while True: pass", "FINAL(context)"]
    answer = ask([OPEN, "FINAL(a)"], below, limits=limits, sandbox=backend)
    assert answer.answer == "the part"
    (cell,) = answer.trajectory.children[0].trajectory.turns[0].cells
    assert cell.result.status in ("timeout", "died")  # killed, where a busy machine is late


# Failures


@pytest.mark.parametrize("error", [CallTimeout("slow"), ProtocolError("garbled")])
def test_a_child_that_fails_is_an_exception_in_the_cell_and_a_fault(
    ask: Ask, error: RLMError
) -> None:
    answer = ask([OPEN, "FINAL(1)"], ["print(1)", error])
    assert f"RuntimeError: the session of rlm_query failed: {error}" in told(answer)
    (child,) = answer.trajectory.children
    assert child.error == answer.fault == f"{type(error).__name__}: {error}"
    assert (child.answer, child.ended_by, len(child.trajectory.turns)) == ("", None, 1)


def test_a_child_without_an_answer_is_an_exception_in_the_cell(ask: Ask) -> None:
    answer = ask([OPEN, "FINAL(1)"], ["FINAL(' ')"])
    assert "RuntimeError: " + say("deep", "no_answer", ended_by="final") in told(answer)


@pytest.mark.parametrize("depth", [2, 3])
def test_a_lost_server_ends_the_tree_even_if_the_code_hides_it(ask: Ask, depth: int) -> None:
    cell = "try:\n    rlm_query('c', 'q')\nexcept RuntimeError:\n    FINAL('hidden')"
    below = [*[code(cell)] * (depth - 2), ServerUnreachable("gone")]
    with pytest.raises(ServerUnreachable, match="gone") as raised:
        ask([code(cell)], below, max_depth=depth)
    tree = raised.value.trajectory
    assert len(tree.levels) == depth
    assert [child.error for child in tree.children] == ["ServerUnreachable: gone"]


def test_a_sandbox_that_cannot_be_opened_is_no_answer_of_the_models(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = open_sandbox()
    monkeypatch.setattr(type(box), "another", _no_other)
    with pytest.raises(SandboxError, match="the machine is full"):
        ask([OPEN], [], sandbox=box)
    box.close()


def _no_other(_: Sandbox) -> Sandbox:
    raise SandboxError("the machine is full")


def test_a_child_whose_reply_was_cut_off_makes_its_answer_doubtful(ask: Ask) -> None:
    below = Scripted(["FINAL('half')"], finish_reason="length")
    answer = ask([OPEN, "FINAL(a)"], below)
    assert answer.trajectory.children[0].truncated
    assert answer.truncated


def test_a_child_that_could_say_nothing_leaves_the_answer_whole(ask: Ask) -> None:
    """As a sub-call that does not fit: code was told."""
    below = Scripted([], window=10)
    answer = ask([OPEN, "FINAL(1)"], below)
    assert say("deep", "no_answer", ended_by="window") in told(answer)
    assert answer.trajectory.children[0].truncated
    assert not answer.truncated


# Sandboxes


@pytest.fixture
def no_process_left() -> Iterator[None]:
    before = descendants()
    yield
    deadline = time.monotonic() + 5.0
    while (left := descendants() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[list[Sandbox]]:
    """All sandboxes, and then those that were open when each was started."""
    boxes: list[Sandbox] = []
    alive: list[list[Sandbox]] = [boxes]
    first = open_sandbox

    def watch(box: Sandbox) -> Sandbox:
        make, begin = box.another, box.start

        def start(*args: object, **given: object) -> None:
            begin(*args, **given)
            alive.append([each for each in boxes if not is_closed(each)])

        boxes.append(box)
        monkeypatch.setattr(box, "another", lambda: watch(make()))
        monkeypatch.setattr(box, "start", start)
        return box

    monkeypatch.setattr("rlm.loop.open_sandbox", lambda name: watch(first(name)))
    return alive


def is_closed(box: Sandbox) -> bool:
    return box._session is None and getattr(box, "_spare", None) is None


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize(
    ("ends", "error"),
    [
        ("FINAL(1)", None),
        ("import os; os._exit(1)", None),
        (ServerUnreachable("gone"), ServerUnreachable),
        (ZeroDivisionError("bug"), ZeroDivisionError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["answer", "death", "failure", "bug", "interrupt"],
)
def test_every_sandbox_is_closed(
    opened: list[list[Sandbox]], backend: str, ends: object, error: type[BaseException] | None
) -> None:
    class Ending(Scripted):
        def chat(self, messages: Sequence[Message], *, options: Options) -> Completion:
            done = super().chat(messages, options=options)
            if done.text == "end":
                raise ends
            return done

    reply = ends if isinstance(ends, str) else "end"
    deep = [code("b = rlm_query('c', 'q')\nprint(b)"), reply, *["FINAL(1)"] * 2]
    rlm = RLM(Scripted([OPEN, "FINAL(a)"]), Ending(deep), max_depth=3, sandbox=backend)
    if error is None:
        assert rlm.completion(DOCUMENT, "Which?").answer == "1"
    else:
        with pytest.raises(error):
            rlm.completion(DOCUMENT, "Which?")
    assert len(opened[0]) == 3
    assert all(is_closed(box) for box in opened[0])


@pytest.mark.usefixtures("no_process_left")
def test_no_more_sandboxes_than_levels_are_open(opened: list[list[Sandbox]], backend: str) -> None:
    below = ["FINAL(rlm_query('c', 'q') + rlm_query('d', 'q'))", "FINAL(1)", "FINAL(2)"]
    many = "FINAL(''.join([rlm_query(part, query) for part in ['a', 'b', 'c']]))"
    rlm = RLM(Scripted([many]), Scripted(below * 3), max_depth=3, sandbox=backend)
    assert rlm.completion(DOCUMENT, "Which?").answer == "12" * 3
    boxes, *alive = opened
    assert len(boxes) == 1 + 3 + 6
    assert max(map(len, alive)) == 3


def test_one_worker_waits_for_all_levels_and_comes_back(ask: Ask) -> None:
    box = open_sandbox("process")
    box.start("text", RefusingCalls())
    before = descendants()
    waiting = box._spare
    other = box.another()
    other.start("part", RefusingCalls())
    assert (other._child, box._spare) == (waiting, None)
    assert len(descendants() - before) == 1
    spare = other._spare
    other.close()
    assert box._spare is spare
    assert other.isolation == box.isolation
    box.close()
    assert spare.ended


def test_a_worker_lent_by_a_sandbox_that_is_closed_is_ended() -> None:
    box = open_sandbox("process")
    box.start("text", RefusingCalls())
    other = box.another()
    other.start("part", RefusingCalls())
    spare = other._spare
    box.close()
    other.close()
    assert spare.ended


class RefusingCalls:
    def llm_query(self, prompt: str) -> str:
        raise AssertionError(prompt)

    def llm_query_batched(self, prompts: Sequence[str]) -> list[str]:
        raise AssertionError(prompts)

    def rlm_query(self, context: str, query: str) -> str:
        raise AssertionError(query)


# The tree


def test_the_tree_of_a_run_is_saved_and_read_back(ask: Ask) -> None:
    main = ["llm_query('hm')", code("print(1)", f"llm_query('so')\n{OPEN}"), "FINAL(a)"]
    below = ["x", "y", "b = rlm_query('é\\ud800', 'Why?')\nprint(b)", "FINAL('ß')", "FINAL(b)"]
    answer = ask(main, below, max_depth=3)
    tree = answer.trajectory
    (child,) = tree.children
    assert (child.turn, child.cell, child.call) == (2, 2, 4)
    assert (child.chars, child.query, child.answer) == (8, "Who?", "ß")
    (grandchild,) = child.trajectory.children
    assert (grandchild.turn, grandchild.cell, grandchild.chars) == (1, 1, 2)
    assert Trajectory.from_dict(json.loads(json.dumps(tree.to_dict()))) == tree
    assert json.loads(json.dumps(answer.to_dict()))["trajectory"]["children"][0]["query"] == "Who?"


def test_a_trajectory_from_before_there_were_children() -> None:
    row = Trajectory("v1", turns=(Turn(1, "reply", ()),)).to_dict()
    del row["children"]
    assert Trajectory.from_dict(row).children == ()


@pytest.mark.parametrize("concurrency", [1, 4])
def test_usage_of_the_answer_is_the_sum_over_the_tree(ask: Ask, concurrency: int) -> None:
    cell = "b = llm_query_batched(list('abcde'))\nFINAL(rlm_query('c', 'q') + b[0])"
    replies = {"Text: 8": code(cell), "Text: 1": "FINAL(1)"}
    below = Scripted(lambda m: replies.get(m[-1].content[:7], "x" * len(m[-1].content)))
    budget = Budget()
    answer = ask(
        [OPEN, code(OPEN), "FINAL(a)"],
        below,
        max_depth=3,
        budget=budget,
        concurrency=concurrency,
    )
    calls = [call for _, run in answer.trajectory.runs() for call in run.calls]
    assert len(calls) == 3 + 2 * (1 + 5) + 2
    assert answer.usage == budget.spent == sum((c.completion.usage for c in calls), Usage())
    assert answer.usage == sum((level.usage for level in answer.trajectory.levels), Usage())
    assert (answer.sub_calls, answer.iterations) == (10, 7)
    assert answer.sandbox_seconds == sum(
        cell.result.seconds
        for _, run in answer.trajectory.runs()
        for turn in run.turns
        for cell in turn.cells
    )


usages = st.builds(Usage, st.integers(0, 9), st.integers(0, 9), st.just(1))
calls = st.builds(
    Call,
    st.sampled_from(["root", "sub", "last"]),
    st.integers(1, 3),
    st.tuples(st.builds(Message, st.just("user"), st.sampled_from("abc"))),
    st.none() | usages.map(lambda usage: Completion("", usage, "stop", None)),
)
turns = st.lists(st.builds(Turn, st.integers(1, 3), st.just("reply"), st.just(())), max_size=2)


def trajectories(below: st.SearchStrategy[Trajectory]) -> st.SearchStrategy[Trajectory]:
    number = st.integers(1, 3)
    child = st.builds(ChildRun, number, number, number, number, st.text(max_size=3), below)
    return st.builds(
        Trajectory,
        st.just("v1"),
        st.lists(calls, max_size=3).map(tuple),
        turns.map(tuple),
        st.lists(child, max_size=3).map(tuple),
    )


trees = st.recursive(trajectories(st.nothing()), trajectories, max_leaves=8)


@given(trees)
def test_sums_are_those_of_all_levels(tree: Trajectory) -> None:
    below = [child.trajectory for child in tree.children]
    alone = replace(tree, children=())
    for name in ("sub_calls", "iterations", "retries", "sandbox_seconds"):
        assert getattr(tree, name) == sum((getattr(t, name) for t in [alone, *below]), 0)
    assert tree.usage == sum((t.usage for t in [alone, *below]), Usage())
    assert tree.usage == sum((level.usage for level in tree.levels), Usage())
    assert tree.iterations == sum(level.turns for level in tree.levels)
    assert tree.sub_calls == sum(level.sub_calls for level in tree.levels)
    assert sum(level.runs for level in tree.levels) == len(list(tree.runs()))


@given(trees)
def test_any_tree_survives_json(tree: Trajectory) -> None:
    assert Trajectory.from_dict(json.loads(json.dumps(tree.to_dict()))) == tree
