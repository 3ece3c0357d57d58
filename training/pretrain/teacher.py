"""A teacher that plays the root model and its sub-model in the real loop, on the train split.

Its replies become demonstrations. It knows the page's key and decides by what it was shown, so
that everything it does can be learned from the messages alone. Each strategy is a generator that
yields a reply and receives the loop's feedback.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from rlm.bench.tasks.stream import Stream
from rlm.clients.base import ModelInfo
from rlm.messages import Completion, Message, Options, Usage
from training.pretrain.pages import ABSENT, Asked, Page

Plan = Generator[str, str, None]

WINDOW = 4096
"""Tokens; the embedded model's window, which the loop respects while the teacher plays."""

SUB_PROMPTS = (
    "{passage}\n\nQuestion: {question}",
    "Text: {passage}\nQuestion: {question}",
    "{passage}\n{question}\nReply with the value only.",
    "{question}\n\n{passage}",
    "Read this:\n{passage}\n\nQuestion: {question}\nIf it is not there, say: not found.",
)
"""How sub-calls are worded; code in `ask` builds the same strings from `query`."""

WINDOW_SIZES = (60, 80, 100, 120, 150, 200)
LOOP_NAMES = ("w", "p", "part", "hit")
LIST_NAMES = ("ws", "hits", "found", "parts", "windows")


@dataclass(frozen=True)
class Names:
    """Variable names of one demonstration."""

    hits: str
    hit: str
    answer: str


class ScriptedClient:
    """A `Client` whose replies come from a function of the messages."""

    def __init__(self, reply: Callable[[Sequence[Message]], str]) -> None:
        self.reply = reply

    def info(self) -> ModelInfo:
        """The window is the embedded model's."""
        return ModelInfo("teacher", "teacher", WINDOW, "training.pretrain.teacher")

    def chat(self, messages: Sequence[Message], *, options: Options) -> Completion:
        """Answer by the script; tokens are estimated at three characters each."""
        text = self.reply(messages)[: options.max_tokens * 3]
        asked = sum(len(m.content) for m in messages) // 3
        return Completion(text, Usage(asked, len(text) // 3, 1), "stop", WINDOW)

    def chat_batch(
        self, batch: Sequence[Sequence[Message]], *, options: Options
    ) -> list[Completion | Exception]:
        """One after the other."""
        return [self.chat(messages, options=options) for messages in batch]

    def close(self) -> None:
        """Nothing to release."""


def root_client(plan: Plan) -> ScriptedClient:
    """Plays `plan`; asked beyond its end, it repeats that nothing was found."""
    started: list[bool] = []

    def reply(messages: Sequence[Message]) -> str:
        if not started:
            started.append(True)
            return next(plan)
        try:
            return plan.send(messages[-1].content)
        except StopIteration:
            return fenced(f'FINAL("{ABSENT}")')

    return ScriptedClient(reply)


def sub_client(asked: Asked) -> ScriptedClient:
    """Answers sub-calls truthfully: the value if the whole fact was passed, else `ABSENT`."""

    def reply(messages: Sequence[Message]) -> str:
        return asked.value if asked.sentence in messages[-1].content else ABSENT

    return ScriptedClient(reply)


def make_plan(stream: Stream, page: Page, asked: Asked) -> Plan:
    """A strategy for the question, drawn by `STRATEGIES`."""
    names = Names(
        stream.choice(LIST_NAMES), stream.choice(LOOP_NAMES), stream.choice(("a", "ans", "reply"))
    )
    small = len(page.text) <= 6000
    drawn = stream.random()
    if asked is page.missing:
        return search_in_vain(stream, names, asked)
    if drawn < CHUNKS and small:
        return ask_every_chunk(stream, names)
    for bound, strategy in STRATEGIES:
        if drawn < bound:
            return strategy(stream, names, asked)
    return look_then_ask(stream, names, asked)


def fenced(code: str) -> str:
    """A reply that is one code block."""
    return f"```python\n{code}\n```"


def search(stream: Stream, names: Names, keyword: str, *, show: bool = True) -> str:
    """Code that finds `keyword` and, unless told otherwise, prints the windows."""
    size = stream.choice(WINDOW_SIZES)
    if stream.random() < 0.1:
        call = f'regex_windows("{re.escape(keyword)}", window={size}, flags=re.I)'
    else:
        call = f'keyword_windows("{keyword}", window={size})'
    if not show:
        return f"{names.hits} = {call}"
    shown = f"for {names.hit} in {names.hits}:\n    print({names.hit})"
    if stream.random() < 0.2:
        shown = f"print(len({names.hits}))\n{shown}"
    return f"{names.hits} = {call}\n{shown}"


def ask(stream: Stream, passage: str) -> str:
    """Code of one sub-call about the passage held by the expression `passage`."""
    template = stream.choice(SUB_PROMPTS)
    before, middle, after = re.split(r"\{passage\}|\{question\}", template)
    first, second = (
        (passage, "query") if template.index("{p") < template.index("{q") else ("query", passage)
    )
    if stream.random() < 0.5:
        text = f"{before}{{{first}}}{middle}{{{second}}}{after}"
        return f'llm_query(f"{_escape(text)}")'
    parts = [_quoted(before), first, _quoted(middle), second, _quoted(after)]
    return f"llm_query({' + '.join(part for part in parts if part)})"


def ask_about_hits(stream: Stream, names: Names, count: int) -> str:
    """Code that asks about one hit or about each, and prints the answers."""
    if count == 1 and stream.random() < 0.7:
        return f"{names.answer} = {ask(stream, names.hits + '[0]')}\nprint({names.answer})"
    each = ask(stream, names.hit)
    return f"for {names.hit} in {names.hits}:\n    print({each})"


def finish(stream: Stream, names: Names, feedback: str, *, named: bool = False) -> str:
    """FINAL with the answer that the last output shows."""
    value = shown_answer(feedback)
    if named and stream.random() < 0.5:
        return fenced(stream.choice((f"FINAL({names.answer})", f'FINAL_VAR("{names.answer}")')))
    return fenced(f'FINAL("{value}")')


def shown_answer(feedback: str) -> str:
    """The first line of the output that is an answer of the sub-model, not `ABSENT`."""
    lines = feedback.split("\nVariables:", maxsplit=1)[0].splitlines()[1:]
    found = [line for line in lines if line and line != ABSENT]
    return found[0] if found else ABSENT


def hits_shown(feedback: str, keyword: str) -> int:
    """How often the printed windows hold `keyword`."""
    return feedback.split("\nVariables:", maxsplit=1)[0].lower().count(keyword.lower())


def look_then_ask(stream: Stream, names: Names, asked: Asked) -> Plan:
    """Print the windows, ask the sub-model about them, give its answer."""
    feedback = yield fenced(search(stream, names, asked.key))
    yield from ask_and_finish(stream, names, hits_shown(feedback, asked.key))


def ask_and_finish(stream: Stream, names: Names, count: int) -> Plan:
    """The last two turns of most strategies."""
    code = ask_about_hits(stream, names, count)
    feedback = yield fenced(code)
    yield finish(stream, names, feedback, named=code.startswith(f"{names.answer} ="))


def search_and_ask_at_once(stream: Stream, names: Names, asked: Asked) -> Plan:
    """Search and sub-calls in one cell, then FINAL."""
    code = search(stream, names, asked.key, show=False)
    code += f"\nfor {names.hit} in {names.hits}:\n    print({ask(stream, names.hit)})"
    feedback = yield fenced(code)
    yield finish(stream, names, feedback)


def wrong_keyword_first(stream: Stream, names: Names, asked: Asked) -> Plan:
    """The first keyword is not in the text; the next one is the key."""
    first = stream.choice((asked.question, f"{asked.key} number", f"{asked.key} is"))
    feedback = yield fenced(search(stream, names, first.rstrip("?.")))
    if hits_shown(feedback, asked.key) == 0:
        feedback = yield fenced(search(stream, names, asked.key))
    yield from ask_and_finish(stream, names, hits_shown(feedback, asked.key))


def answer_too_early(stream: Stream, names: Names, asked: Asked) -> Plan:
    """FINAL right after the windows; on a long text it is rejected and llm_query is asked."""
    feedback = yield fenced(search(stream, names, asked.key))
    yield fenced(f'FINAL("{asked.value}")')
    yield from ask_and_finish(stream, names, hits_shown(feedback, asked.key))


def recover(stream: Stream, names: Names, asked: Asked) -> Plan:
    """A cell fails, and the next one is right."""
    broken = stream.choice(
        (
            f'{names.hits} = keyword_window("{asked.key}")',
            f'{names.hits} = keyword_windows("{asked.key}", window=0 - 1)',
            f"print({names.hits}[0])",
            f'print(find("{asked.key}"))',
        )
    )
    yield fenced(broken)
    yield from look_then_ask(stream, names, asked)


def ask_every_chunk(stream: Stream, names: Names) -> Plan:
    """No keyword: the sub-model reads all chunks."""
    size = stream.choice((1000, 1500, 2000))
    template = _quoted(stream.choice(SUB_PROMPTS[:2])).replace("{passage}", "{chunk}")
    template = template.replace("{question}", "{query}")
    feedback = yield fenced(
        f"{names.hits} = query_chunks(chunk_text({size}), {template})\n"
        f"for {names.hit} in {names.hits}:\n    print({names.hit})"
    )
    yield finish(stream, names, feedback)


def search_in_vain(stream: Stream, names: Names, asked: Asked) -> Plan:
    """The key is not in the text, nor is its last word: say so, after one sub-call."""
    yield fenced(search(stream, names, asked.key))
    yield fenced(search(stream, names, asked.key.split()[-1]))
    yield fenced(f"print({ask(stream, 'head(600)')})")
    yield fenced(f'FINAL("{ABSENT}")')


def _escape(text: str) -> str:
    return text.replace("\n", "\\n")


def _quoted(text: str) -> str:
    return f'"{_escape(text)}"' if text else ""


CHUNKS = 0.08
"""Share of short pages whose chunks are all read."""

STRATEGIES: tuple[tuple[float, Callable[[Stream, Names, Asked], Plan]], ...] = (
    (0.20, search_and_ask_at_once),
    (0.32, wrong_keyword_first),
    (0.40, answer_too_early),
    (0.47, recover),
)
"""Upper bounds of a number drawn from 0 to 1; beyond the last one: `look_then_ask`."""
