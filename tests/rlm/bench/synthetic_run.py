"""A run folder as large as one likes, in a minute: real documents, invented answers.

Each cell has a trajectory as the loop writes them. One way of failing stands for each cause that a
report tells, so that all of it can be looked at. Nothing in it was said by a model.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

from rlm.bench import records, runner
from rlm.bench.grid import LENGTHS, Cell
from rlm.bench.records import Record, Seconds, Tokens
from rlm.bench.runner import Settings
from rlm.bench.tasks.base import Item, Scores
from rlm.clients.base import ModelInfo
from rlm.messages import Completion, Message, Times, Usage
from rlm.prompts import say, system
from rlm.sandbox.base import CellResult, Final
from rlm.trajectory import Call, Trajectory, Turn
from rlm.trajectory import Cell as Ran

WINDOW = 16_384
INFO = ModelInfo("openai/invented@http://127.0.0.1:9/v1", "sha256:0", WINDOW, "none", {})
STORIES = ("right", "blind", "misread", "sub", "final", "dump", "sandbox", "turns", "rejected")
HOSTILE = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    "</script></pre>\x1b[31mred\x1b[0m \x00\x07\u202egnp.exe\u2028 {{ 7 * 7 }} \ud800"
)


def write(
    folder: Path,
    cells: int,
    *,
    lengths=LENGTHS,
    depths=(10, 50, 90),
    failing: float = 0.1,
    hostile: bool = False,
) -> None:
    """Write a run of `cells` cells, one half vanilla.

    `failing` is the share of stories other than the plain one, with more in long documents;
    `hostile` puts `HOSTILE` into every text that a model could have written.
    """
    random = Random(8)
    settings = Settings(folder, environment={"versions": {"python": "3.11"}, "git": ""})
    places = [(t, n, d) for t in ("niah", "long_doc_qa") for n in lengths for d in depths]
    rows = [json.dumps({"row": "run", "schema": records.SCHEMA, "run": folder.name})]
    for number in range(cells // 2):
        sample, place = divmod(number, len(places))
        task, length, depth = places[place]
        item = runner.make_item(Cell(task, length, depth, sample, ""), 0, "eval")
        for name in ("vanilla", "rlm"):
            cell = Cell(task, length, depth, sample, name)
            record = runner.prepare(runner.blank(cell, settings), settings, INFO, item)
            made = (
                _vanilla(item, random)
                if name == "vanilla"
                else _rlm(item, random, failing, hostile)
            )
            rows.append(records.encode(_written(folder, record, *made)))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / records.RESULTS).write_text("\n".join(rows) + "\n")


def _written(folder: Path, record: Record, answer: str, ended: str, told: Trajectory) -> Record:
    usage, scores = told.usage, None
    verdict = "truncated"
    if not any(call.error for call in told.calls):
        exact = answer == record.gold
        scores, verdict = Scores(exact, float(exact)), "correct" if exact else "wrong"
    return replace(
        record,
        verdict=verdict,
        scores=scores,
        prediction=answer,
        prediction_chars=len(answer),
        usage=Tokens(usage.prompt_tokens, usage.completion_tokens, usage.calls, told.sub_calls),
        iterations=len(told.turns),
        ended_by=ended,
        time=Seconds(wall=told.times.wall + 0.02, model=told.times.wall),
        trace=records.write_trace(folder, record.key, told.to_dict()),
    )


def _completion(text: str, prompt: int) -> Completion:
    tokens = Usage(prompt, max(1, len(text) // 4), 1)
    return Completion(text, tokens, "stop", WINDOW, times=Times(wall=prompt / 5000 + 0.1))


def _vanilla(item: Item, random: Random) -> tuple[str, str, Trajectory]:
    user = say("vanilla", "user", document=item.document, question=item.question)
    sent = (Message("system", system("vanilla")), Message("user", user))
    tokens = len(user) // 4
    if tokens > WINDOW:
        error = f"PromptTooLong: the prompt of {tokens} tokens leaves no room"
        return "", "answered", Trajectory("v1", (Call("vanilla", 0, sent, None, error),))
    answer = item.gold if random.random() > tokens / WINDOW * 0.8 else "12345"
    return (
        answer,
        "answered",
        Trajectory("v1", (Call("vanilla", 0, sent, _completion(answer, tokens)),)),
    )


class _Story:
    """A loop that goes as it is told."""

    def __init__(self, item: Item) -> None:
        opening = say(
            "root",
            "opening",
            length=len(item.document),
            preview=item.document[:300],
            query=item.question,
        )
        self.sent = [Message("system", system("compact")), Message("user", opening)]
        self.calls: list[Call] = []
        self.turns: list[Turn] = []

    def sub(self, prompt: str, answer: str) -> None:
        sent = (Message("user", prompt),)
        self.calls.append(
            Call("sub", len(self.turns) + 1, sent, _completion(answer, len(prompt) // 4))
        )

    def turn(self, code: str, *, rejected: str = "", status="ok", final=None, **result) -> None:
        reply = f"```python\n{code}\n```"
        number = len(self.turns) + 1
        subs = sum(call.kind == "sub" and call.turn == number for call in self.calls)
        told = CellResult(status, final=final and Final(final, "FINAL"), calls=subs, **result)
        prompt = sum(len(m.content) for m in self.sent) // 4
        call = Call("root", number, tuple(self.sent), _completion(reply, prompt))
        at = next((i for i, c in enumerate(self.calls) if c.turn == number), len(self.calls))
        self.calls.insert(at, call)
        notes = [say("rejected", rejected)] if rejected else []
        shown = say("feedback", "output", length=told.stdout_chars, output=told.stdout)
        feedback = "" if final and not rejected else "\n".join([shown, told.error, *notes])
        self.turns.append(Turn(number, reply, (Ran(code, told),), feedback, rejected))
        self.sent += [Message("assistant", reply), Message("user", feedback)]


def _rlm(item: Item, random: Random, failing: float, hostile: bool) -> tuple[str, str, Trajectory]:
    share = len(item.document) / 600_000
    kind = random.choice(STORIES[1:]) if random.random() < failing + share else "right"
    story = _Story(item)
    span, nasty = item.spans[0], HOSTILE if hostile else ""
    start = 40 if kind == "blind" else max(0, span.start - 90)
    passage = item.document[start : 400 if kind == "blind" else span.end + 90]
    if kind in ("final", "rejected"):
        story.turn('FINAL("?")', rejected="first_turn", status="final", final="?")
    story.turn(
        f'hits = keyword_windows("{item.question.split()[-2]}", window=90)\nprint(hits[0])',
        stdout=passage + nasty,
        stdout_chars=len(passage + nasty),
    )
    if kind == "sandbox":
        story.turn("while True: pass", status="timeout", error="stopped after 10 seconds")
    if kind != "misread":
        told = "54321" if kind in ("sub", "sandbox", "blind") else item.gold
        story.sub(f"Text: {passage}{nasty}\nQuestion: {item.question}", told + nasty)
        story.turn("a = llm_query(hits[0] + query)\nprint(a)", stdout=told, stdout_chars=5)
    answer = {"right": item.gold, "rejected": item.gold, "dump": f"{passage} {item.gold}"}.get(
        kind, "54321" + nasty
    )
    if kind == "turns":
        for _ in range(4):
            story.turn("print(len(context))", stdout="4096", stdout_chars=4)
    else:
        story.turn("FINAL(a)  # done", status="final", final=answer)
    told = Trajectory("v1", tuple(story.calls), tuple(story.turns))
    return answer, "turns" if kind == "turns" else "final", told
