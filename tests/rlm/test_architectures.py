"""A name for each way of answering an item."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.resources import files

import pytest

from rlm import architectures, open_sandbox, prompts
from rlm.architectures import Architecture, Setup
from rlm.bench import grid, runner
from rlm.bench.grid import Cell
from rlm.bench.report.plan import plan
from rlm.bench.tasks import get
from rlm.clients import connect
from rlm.clients.base import Client, ModelInfo
from rlm.errors import UsageError
from rlm.events import TurnEnded
from rlm.limits import Budget
from rlm.messages import Message, Options, Usage
from rlm.sandbox import Sandbox
from tests.rlm.scripted import Scripted, code

NAMES = ("vanilla", "rlm", "repl", "rag", "grep", "oracle", "closedbook")
READ_ONCE = ("vanilla", "rag", "oracle", "closedbook")


@dataclass(frozen=True)
class Span:
    start: int
    end: int


@dataclass(frozen=True)
class Item:
    document: str = "Rain fell. The code is 48213. The key is 7."
    question: str = "Which code?"
    spans: tuple[Span, ...] = (Span(30, 43), Span(11, 29))
    absent: bool = False


LONG = Item(f"{'It rained. ' * 2_000}The code is 48213.{' It rained.' * 2_000}", spans=())


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with closing(open_sandbox()) as opened:
        yield opened


@pytest.fixture(scope="module")
def embedded() -> Iterator[Client]:
    with closing(connect("embedded")) as opened:
        yield opened


@pytest.fixture
def own(monkeypatch) -> Architecture:
    """One that a person registered."""
    monkeypatch.setattr(architectures, "_ALL", dict(architectures._ALL))
    vanilla = architectures.get("vanilla")
    made = Architecture("own", "mine", vanilla.answer, vanilla.calls, vanilla.prompt)
    architectures.register(made)
    return made


def test_names() -> None:
    assert architectures.names() == NAMES
    assert all(architectures.get(name).name == name for name in NAMES)


def test_unknown_name_lists_those_that_are() -> None:
    with pytest.raises(UsageError, match="'rml'; there are: vanilla, rlm, repl, rag, grep"):
        architectures.get("rml")


def test_the_pair_is_what_runs_unless_asked() -> None:
    assert grid.ARCHITECTURES == ("vanilla", "rlm")
    smoke = [name for name in NAMES if Cell("niah", 1024, 50, 0, name).is_smoke]
    assert smoke == ["vanilla", "rlm"]


def test_a_registered_one_is_like_the_others(own: Architecture) -> None:
    assert architectures.names() == (*NAMES, "own")
    assert grid.parse_architectures("rlm,own") == ("rlm", "own")
    assert architectures.get("own").answer(Item(), Setup(Scripted(["7"]))).answer == "7"


@pytest.mark.parametrize("name", ["", "My RAG", "a,b", "a-b"])
def test_a_name_that_cannot_stand_in_an_id(own: Architecture, name: str) -> None:
    with pytest.raises(UsageError, match="use lower-case letters, digits and _"):
        architectures.register(Architecture(name, "", own.answer, {}, own.prompt))


def test_vanilla_reads_the_document() -> None:
    client = Scripted(["48213"])
    answer = architectures.get("vanilla").answer(Item(), Setup(client))
    assert (answer.answer, answer.ended_by) == ("48213", "answered")
    assert Item().document in client.sent[0][1].content


def test_rlm_runs_the_loop_in_the_given_sandbox() -> None:
    sandbox = open_sandbox()
    try:
        client = Scripted(["FINAL(context[-20:-15])"])
        answer = architectures.get("rlm").answer(Item(), Setup(client, sandbox=sandbox))
        assert (answer.answer, answer.ended_by) == ("48213", "final")
        assert sandbox.run("print(query)").stdout == "Which code?\n"
    finally:
        sandbox.close()


@pytest.mark.parametrize("name", ["rlm", "repl"])
def test_setup_reaches_the_loop(name: str) -> None:
    seen: list = []
    setup = Setup(
        Scripted(["print(1)", "48213"]),
        prompt="compact",
        budget=Budget(calls=2),
        watch=seen.append,
    )
    answer = architectures.get(name).answer(Item(), setup)
    assert (answer.ended_by, sum(isinstance(e, TurnEnded) for e in seen)) == ("calls", 1)
    assert answer.trajectory.calls[0].messages[0].content.startswith("Answer a question about")


GIVEN = Options(64, 0.7, 3)


@pytest.mark.parametrize(
    ("name", "given", "sent"),
    [
        *((name, None, [Options(128)]) for name in READ_ONCE),
        *((name, GIVEN, [GIVEN]) for name in READ_ONCE),
        ("rlm", None, [Options(512), Options(256)]),
        ("rlm", GIVEN, [GIVEN, Options(256, 0.7, 3)]),
        ("repl", None, [Options(512)] * 2),
        ("repl", GIVEN, [GIVEN] * 2),
        ("grep", GIVEN, []),
    ],
)
def test_options_reach_every_call(name: str, given: Options | None, sent: list[Options]) -> None:
    client = Scripted(["FINAL(llm_query('q'))", "FINAL(48213)"])
    architectures.get(name).answer(Item(), Setup(client, options=given))
    assert client.options == sent


@pytest.mark.parametrize("name", NAMES)
def test_calls_are_those_that_are_made(name: str, sandbox: Sandbox) -> None:
    """Guards records, whose sampling and key are made of them."""

    def reply(messages: Sequence[Message]) -> str:
        first, *rest = messages
        if first.role == "user" or first.content == prompts.system("vanilla"):
            return "4"
        return code("FINAL(1)" if len(rest) > 1 else "llm_query('a')")

    client, way = Scripted(reply), architectures.get(name)
    answer = way.answer(Item(), Setup(client, sandbox=sandbox))
    kinds = [call.kind for call in answer.trajectory.calls]
    assert dict(zip(kinds, client.options, strict=True)) == way.calls
    assert bool(answer.trajectory.turns) == way.runs_code


@pytest.mark.parametrize(
    "ask",
    ["llm_query('a')", "llm_query_batched(['a'])", "rlm_query('a', 'b')", "query_chunks('a', 'b')"],
)
def test_repl_refuses_what_asks_a_model(ask: str, sandbox: Sandbox) -> None:
    client = Scripted([code(f"print({ask})"), code("FINAL(48213)")])
    answer = architectures.get("repl").answer(Item(), Setup(client, sandbox=sandbox))
    told = client.sent[1][-1].content
    assert "RuntimeError: no language model can be asked in this run; print the passages" in told
    assert (answer.answer, answer.sub_calls, answer.fault) == ("48213", 0, "")
    assert len(client.sent) == 2


@pytest.mark.parametrize(("name", "accepted"), [("repl", 1), ("rlm", 3)])
def test_repl_may_answer_at_once(name: str, accepted: int, sandbox: Sandbox) -> None:
    found = code("FINAL(re.search(r'\\d{5}', context)[0])")
    answer = architectures.get(name).answer(LONG, Setup(Scripted([found] * 3), sandbox=sandbox))
    assert (answer.answer, answer.iterations) == ("48213", accepted)


@pytest.mark.parametrize("prompt", ["full", "compact"])
def test_repl_is_told_nothing_of_sub_calls(prompt: str, sandbox: Sandbox) -> None:
    """Also not when its cells fail, or its turns are over."""
    client = Scripted([code("1 / 0", "x"), code("y"), "no code?", "FINAL(1)"])
    setup = Setup(client, sandbox=sandbox, prompt=prompt, max_iterations=3)
    answer = architectures.get("repl").answer(LONG, setup)
    assert answer.ended_by == "turns"
    told = "\n".join(m.content for m in client.sent[-1] if m.role != "assistant")
    assert "Several cells failed. Use this plan:" in told
    assert "query_chunks" not in told
    assert "llm" not in told
    assert "rlm" not in told


def test_repl_prompts_are_those_of_rlm_without_the_sub_calls() -> None:
    for name in ("full", "compact"):
        with_calls, without = prompts.system(name), prompts.system(f"repl_{name}")
        new = [line for line in without.splitlines() if line not in with_calls.splitlines()]
        left_out = [line for line in with_calls.splitlines() if line not in without.splitlines()]
        assert len(new) == 1
        assert all("llm_query" in line or "model" in line or "ask" in line for line in left_out)
        assert not any(word in without for word in ("llm", "query_chunks", "model", " ask "))


def test_rag_shows_passages_in_the_order_of_the_text() -> None:
    client = Scripted(["48213"])
    document = f"The first code is 1. {LONG.document} The last code is 9."
    answer = architectures.get("rag").answer(Item(document), Setup(client))
    user = client.sent[0][1].content
    shown, _, question = user.rpartition("\n\n")
    assert question == "Question: Which code?"
    assert len(shown) < 8_000 < len(document)
    places = [shown.index(f"code is {value}") for value in ("1.", "48213.", "9.")]
    assert places == sorted(places)
    assert all(piece in document for piece in shown.split("\n[...]\n"))
    assert (answer.answer, answer.ended_by) == ("48213", "answered")
    assert answer.wall > 0


def test_rag_shows_a_short_text_as_it_is() -> None:
    client = Scripted(["", ""])
    for name in ("rag", "vanilla"):
        architectures.get(name).answer(Item(), Setup(client))
    assert client.sent[0] == client.sent[1]


def test_grep_asks_no_model() -> None:
    answer = architectures.get("grep").answer(LONG, Setup(Scripted([])))
    assert (answer.answer, answer.ended_by, answer.usage) == ("48213", "answered", Usage())
    assert (answer.trajectory.calls, answer.iterations, answer.sub_calls) == ((), 0, 0)


def test_a_grep_cell_is_measured_with_a_model_that_was_never_asked(tmp_path, sandbox) -> None:
    client = Scripted([])
    outcome = runner.measure(
        Cell("niah", 1024, 50, 0, "grep"),
        runner.Settings(run=tmp_path / "a"),
        client=lambda: client,
        sandbox=lambda: sandbox,
    )
    assert outcome.verdict == "correct"
    assert (outcome.record.usage.calls, outcome.record.model.prompt) == (0, "")
    assert (client.sent, outcome.record.isolation) == ([], {})


def test_oracle_shows_the_evidence_alone_in_the_order_of_the_text() -> None:
    client = Scripted(["48213"])
    architectures.get("oracle").answer(Item(), Setup(client))
    shown = "The code is 48213.\nThe key is 7.\n\nQuestion: Which code?"
    assert client.sent[0][1].content == shown


def test_oracle_shows_nothing_where_the_document_does_not_say_it() -> None:
    client = Scripted(["not in the text"])
    item = get("long_doc_hops").generate(1_000, 50, 0)
    assert item.absent
    assert architectures.get("oracle").answer(item, Setup(client)).answer == "not in the text"
    assert client.sent[0][1].content == f"\n\nQuestion: {item.question}"


def test_oracle_says_so_where_nobody_knows_the_evidence() -> None:
    with pytest.raises(UsageError, match="leave oracle out"):
        architectures.get("oracle").answer(LONG, Setup(Scripted([])))


def test_closedbook_shows_nothing_of_the_document() -> None:
    client = Scripted(["?", "?"])
    for item in (Item(), LONG):
        architectures.get("closedbook").answer(item, Setup(client))
    assert client.sent[0] == client.sent[1]
    assert client.sent[0][1].content.endswith("\n\nQuestion: Which code?")
    assert "not shown" in client.sent[0][1].content


@pytest.mark.parametrize("name", NAMES)
def test_each_runs_with_the_embedded_model(name: str, embedded: Client, sandbox: Sandbox) -> None:
    item = get("niah").generate(4 * 4096, 50, 3)
    setup = Setup(embedded, sandbox=sandbox, max_iterations=3)
    answer = architectures.get(name).answer(item, setup)
    kinds = {call.kind for call in answer.trajectory.calls} - {"last"}
    assert kinds <= set(architectures.get(name).calls)
    refused = [call.error for call in answer.trajectory.calls if call.completion is None]
    assert all(error.startswith("PromptTooLong") for error in refused)
    if name in ("oracle", "rag"):
        user = answer.trajectory.calls[0].messages[1].content
        assert all(item.document[span.start : span.end] in user for span in item.spans)


@pytest.mark.parametrize(
    ("name", "asked", "spec", "said"),
    [
        ("vanilla", "full", "embedded", "vanilla"),
        ("rlm", "auto", "embedded/base", "compact"),
        ("rlm", "auto", "ollama/x", "full"),
        ("rlm", "full", "embedded", "full"),
        ("repl", "auto", "embedded", "repl_compact@controls1"),
        ("repl", "full", "embedded", "repl_full@controls1"),
        ("repl", "auto", "ollama/x", "repl_full@controls1"),
        ("rag", "auto", "embedded", "vanilla@controls1"),
        ("oracle", "auto", "embedded", "vanilla@controls1"),
        ("closedbook", "auto", "embedded", "vanilla@controls1"),
        ("grep", "auto", "embedded", ""),
    ],
)
def test_the_prompt_has_a_name_for_the_key(name, asked, spec, said) -> None:
    info = ModelInfo(spec, digest="", window=None, server="")
    assert architectures.get(name).prompt(asked, info) == said


def test_the_passages_of_rag_are_in_its_limits(tmp_path) -> None:
    settings = runner.Settings(run=tmp_path)
    limits = {
        name: runner.blank(Cell("niah", 1024, 50, 0, name), settings).limits for name in NAMES
    }
    shared = limits["vanilla"]
    assert limits["rag"] == shared | {"passages": 6, "passage_chars": 1000, "overlap_chars": 200}
    assert limits["repl"] == limits["rlm"] == shared | {"backend": settings.sandbox}
    assert limits["grep"] == limits["oracle"] == limits["closedbook"] == shared


def test_the_texts_of_the_controls_are_frozen_by_their_version() -> None:
    """A new wording is a new folder beside this one, so that keys of cells change."""
    digest = "29574d58b312f03c8b363f68fe5434d66a63981f4eaaad52f1635eb40469ce9f"
    assert (prompts.CONTROLS, prompts.version_sha256("controls1")) == ("controls1", digest)


def test_no_table_of_texts_stands_in_two_versions() -> None:
    """Guards the texts of a model from those of an option that is off."""
    names = [
        name
        for version in (prompts.VERSION, prompts.CONTROLS, prompts.DEEP)
        for name in tomllib.loads((files(prompts) / version / "messages.toml").read_text())
    ]
    assert len(names) == len(set(names))


def test_the_plan_knows_what_each_costs() -> None:
    cells = [Cell("niah", 131_072, 50, 0, name) for name in NAMES]
    lines = plan(cells, spec="embedded", window=None, width=100, color=False).splitlines()
    told = {line.split()[2]: line.split()[4] for line in lines[1 : 1 + len(NAMES)]}
    assert told == {
        "vanilla": "0",
        "rlm": "4,000",
        "repl": "4,000",
        "rag": "1,600",
        "grep": "0",
        "oracle": "150",
        "closedbook": "100",
    }
