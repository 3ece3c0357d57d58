"""A loop within a loop, a document cut on purpose: scripted models, real sandboxes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from rlm.bench import records, runner
from rlm.bench.grid import Cell
from rlm.bench.runner import Settings
from rlm.messages import Message
from rlm.sandbox import open_sandbox
from tests.rlm.scripted import Scripted, code

DEEP = Cell("niah", 8192, 50, 0, "rlm")
CUT = replace(DEEP, architecture="vanilla")
ITEM = runner.make_item(DEEP, 0, "eval")
WRONG = "10001"
ROOT = (
    code("a = rlm_query(context, query)", "b = llm_query('A greeting, please')"),
    code("FINAL(a)"),
)


def write(folder: Path, found: str) -> None:
    """Write a run of `DEEP`, at depth 2, and of `CUT`, with the head of its document.

    The loop below prints the evidence, its sub-call answers `found`, and it ends with `WRONG`.
    """
    start, end = ITEM.spans[0].start - 90, ITEM.spans[0].end + 90
    child = (
        code(f"print(context[{start}:{end}])"),
        code(f"r = llm_query(context[{start}:{end}] + query)"),
        code(f"FINAL('{WRONG}')"),
    )

    def reply(sent: Sequence[Message]) -> str:
        if sent[0].role == "user":
            return "hello" if "greeting" in sent[0].content else found
        turn = sum(message.role == "assistant" for message in sent)
        return (ROOT if "rlm_query(" in sent[0].content else child)[turn]

    settings = Settings(folder, environment=runner.environment(), max_depth=2, overflow="head")
    store = records.Store(folder)
    store.begin({"run": folder.name})
    for cell, client in (
        (DEEP, Scripted(reply, window=100_000)),
        (CUT, Scripted(lambda _: ITEM.gold, window=3000)),
    ):
        with closing(open_sandbox("process")) as sandbox:
            done = runner.measure(
                cell, settings, client=lambda c=client: c, sandbox=lambda s=sandbox: s
            )
        if done.bug:
            raise done.bug
        store.append(done.record)
    store.close()
