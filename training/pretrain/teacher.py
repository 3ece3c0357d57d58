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

WINDOW_SIZES = (100, 100, 100, 150)
LOOP_NAMES = ("hit", "hit", "w")
LIST_NAMES = ("hits", "hits", "found")


@dataclass(frozen=True)
class Names:
    """Variable names of one demonstration."""

    hits: str
    hit: str
    answer: str = "a"


@dataclass(frozen=True)
class Errors:
    """How often a teacher goes wrong, as shares from 0 to 1; all zero for a good one.

    Attributes:
        give_up: says `ABSENT` when a search found nothing, instead of casting a wider net.
        literal: asked "How many …", gives the name of the variable as the answer, not its value.
    """

    give_up: float = 0.0
    literal: float = 0.0


CLEAN = Errors()
NOISY = Errors(give_up=0.9, literal=0.75)
"""The teacher of ``embedded/base``. Both errors are more frequent than not where they can happen:
greedy decoding makes them too, while draws at a temperature find the way around them."""


@dataclass(frozen=True)
class Assignment:
    """What a strategy works on."""

    stream: Stream
    names: Names
    page: Page
    asked: Asked
    errors: Errors

    def errs(self, share: float) -> bool:
        """Whether an error that happens in `share` of the cases happens now."""
        return share > 0 and self.stream.random() < share

    @property
    def counts(self) -> bool:
        """Whether it is asked how many."""
        return self.asked.question.startswith("How many")


class ScriptedClient:
    """A `Client` whose replies come from a function of the messages."""

    def __init__(self, reply: Callable[[Sequence[Message]], str], window: int = WINDOW) -> None:
        self.reply, self.window = reply, window

    def info(self) -> ModelInfo:
        """The window is the embedded model's, or the one given."""
        return ModelInfo("teacher", "teacher", self.window, "training.pretrain.teacher")

    def chat(self, messages: Sequence[Message], *, options: Options) -> Completion:
        """Answer by the script; tokens are estimated at three characters each."""
        text = self.reply(messages)[: options.max_tokens * 3]
        asked = sum(len(m.content) for m in messages) // 3
        return Completion(text, Usage(asked, len(text) // 3, 1), "stop", self.window)

    def close(self) -> None:
        """Nothing to release."""


def root_client(plan: Plan, window: int = WINDOW) -> ScriptedClient:
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

    return ScriptedClient(reply, window)


def sub_client(asked: Asked, *, blind: bool = False) -> ScriptedClient:
    """Answers sub-calls truthfully: the value if it was passed with its name, else `ABSENT`.

    A `blind` one says `ABSENT` to the first, whatever it holds, so that the root model sees what
    that looks like.
    """
    unseeing = [blind]

    def reply(messages: Sequence[Message]) -> str:
        if any(unseeing):
            unseeing.clear()
            return ABSENT
        return asked.value if is_told(asked, messages[-1].content) else ABSENT

    return ScriptedClient(reply)


def is_told(asked: Asked, passage: str) -> bool:
    """Whether `passage` holds so much of the fact that its name and value can be read."""
    begin, end = _core(asked)
    return asked.sentence[begin:end] in passage


def _core(asked: Asked) -> tuple[int, int]:
    """Where name and value stand in the sentence, from the first of them to the end of both."""
    text = asked.sentence.lower()
    key, value = text.index(asked.key.lower()), text.index(asked.value.lower())
    ends = key + len(asked.key), value + len(asked.value)
    return min(key, value), max(ends)


def make_plan(stream: Stream, page: Page, asked: Asked, errors: Errors = CLEAN) -> Plan:
    """A strategy for the question, drawn by `STRATEGIES`."""
    names = Names(stream.choice(LIST_NAMES), stream.choice(LOOP_NAMES))
    task = Assignment(stream, names, page, asked, errors)
    drawn = stream.random()
    for bound, strategy in STRATEGIES:
        if drawn < bound:
            return strategy(task)
    return look_then_ask(task)


def fenced(code: str) -> str:
    """A reply that is one code block."""
    return f"```python\n{code}\n```"


def by_code(code: str) -> Plan:
    """A cell that works `answer` out, and shows it; then FINAL."""
    yield fenced(code)
    while True:
        yield fenced("FINAL(answer)")


def search(task: Assignment, keyword: str) -> str:
    """The call that finds the places of `keyword`."""
    size = task.stream.choice(WINDOW_SIZES)
    if task.stream.random() < 0.08:
        return f'regex_windows("{re.escape(keyword)}", window={size}, flags=re.I)'
    return f'keyword_windows("{keyword}", window={size})'


def look(task: Assignment, keyword: str) -> str:
    """A cell that searches and prints the windows."""
    hits, hit = task.names.hits, task.names.hit
    return f"{hits} = {search(task, keyword)}\nfor {hit} in {hits}:\n    print({hit})"


def ask(stream: Stream, passage: str) -> str:
    """Code of one sub-call about the passage held by the expression `passage`."""
    template = (
        stream.choice(SUB_PROMPTS[:2]) if stream.random() < 0.8 else stream.choice(SUB_PROMPTS)
    )
    text = template.replace("{passage}", f"{{{passage}}}").replace("{question}", "{query}")
    return f'llm_query(f"{_escape(text)}")'


def ask_each(task: Assignment) -> str:
    """A cell that asks about each of the windows found."""
    hit = task.names.hit
    return f"for {hit} in {task.names.hits}:\n    print({ask(task.stream, hit)})"


RAREST = (
    "low = context.lower()\n"
    'words = [w for w in re.findall(r"\\w+", query.lower()) if w in low]\n'
    "words.sort(key=low.count)\n"
    "for word in words[:2]:\n"
    "    for {hit} in keyword_windows(word, window=100, limit=3):\n"
    "        print({asked})"
)
"""The wider net: the rarest words of the question, whatever they are."""


def shown_answer(feedback: str) -> str:
    """The first line of the output that is an answer of the sub-model, not `ABSENT`."""
    lines = feedback.split("\nVariables:", maxsplit=1)[0].splitlines()[1:]
    found = [line for line in lines if line and line != ABSENT]
    return found[0] if found else ABSENT


def hits_shown(feedback: str, keyword: str) -> int:
    """How often the printed windows hold `keyword`."""
    return feedback.split("\nVariables:", maxsplit=1)[0].lower().count(keyword.lower())


def look_then_ask(task: Assignment) -> Plan:
    """Print the windows, ask the sub-model about them, give its answer."""
    feedback = yield fenced(look(task, task.asked.key))
    yield from ask_and_finish(task, feedback)


def ask_and_finish(task: Assignment, feedback: str) -> Plan:
    """What follows on windows that were printed, or on nothing printed."""
    names, count = task.names, hits_shown(feedback, task.asked.key)
    if count == 0:
        yield from widen(task)
    elif count == 1:
        passage = f"{names.hits}[0]"
        feedback = yield fenced(
            f"{names.answer} = {ask(task.stream, passage)}\nprint({names.answer})"
        )
        yield from finish(task, feedback, named=True)
    else:
        feedback = yield fenced(ask_each(task))
        yield from finish(task, feedback)


def widen(task: Assignment) -> Plan:
    """Nothing was found: another keyword where there is one, then the wider net, then the end."""
    if task.errs(task.errors.give_up):
        yield fenced(f'FINAL("{ABSENT}")')
        return
    last = task.asked.key.split()[-1]
    if task.stream.random() < 0.3 and last != task.asked.key:
        feedback = yield fenced(look(task, last))
        if hits_shown(feedback, last):
            feedback = yield fenced(ask_each(task))
            if shown_answer(feedback) != ABSENT:
                yield from finish(task, feedback)
    asked = ask(task.stream, task.names.hit)
    feedback = yield fenced(RAREST.format(hit=task.names.hit, asked=asked))
    yield fenced(f'FINAL("{shown_answer(feedback)}")')


def finish(task: Assignment, feedback: str, *, named: bool = False) -> Plan:
    """FINAL with the answer that the last output shows; the wider net where it shows none."""
    value = shown_answer(feedback)
    if value == ABSENT:
        yield from widen(task)
    elif named and task.counts and task.errs(task.errors.literal):
        yield fenced(f'FINAL("{task.names.answer}")')
    elif named and task.stream.random() < 0.7:
        yield fenced(f"FINAL({task.names.answer})")
    else:
        yield fenced(f'FINAL("{value}")')


def search_and_ask_at_once(task: Assignment) -> Plan:
    """Search and sub-calls in one cell, then FINAL."""
    names = task.names
    feedback = yield fenced(f"{names.hits} = {search(task, task.asked.key)}\n{ask_each(task)}")
    yield from finish(task, feedback)


def wrong_keyword_first(task: Assignment) -> Plan:
    """The first keyword is not in the text, or is only a part of the name."""
    key, question = task.asked.key, task.asked.question.rstrip("?.")
    first = task.stream.choice((question, f"{key} number", f"{key} is", key.split()[0]))
    feedback = yield fenced(look(task, first))
    yield from ask_and_finish(task, feedback)


def answer_too_early(task: Assignment) -> Plan:
    """FINAL right after the windows; on a long text it is rejected and llm_query is asked."""
    feedback = yield fenced(look(task, task.asked.key))
    yield fenced(f'FINAL("{task.asked.value}")')
    yield from ask_and_finish(task, feedback)


def recover(task: Assignment) -> Plan:
    """A cell fails, and the next one is right."""
    hits, key = task.names.hits, task.asked.key
    broken = task.stream.choice(
        (
            f'{hits} = keyword_window("{key}")',
            f'{hits} = keyword_windows("{key}", window=0 - 1)',
            f"print({hits}[0])",
            f'print(find("{key}"))',
        )
    )
    yield fenced(broken)
    yield from look_then_ask(task)


def look_around(task: Assignment) -> Plan:
    """Read here and there before searching; the window drops what was printed first."""
    middle = len(task.page.text) // 2
    for part in ("head(2000)", f"context_slice({middle}, {middle + 2000})", "tail(2000)")[
        : task.stream.between(1, 3)
    ]:
        yield fenced(f"print({part})")
    yield from look_then_ask(task)


def ask_every_chunk(task: Assignment) -> Plan:
    """No keyword: the sub-model reads all chunks of a short text."""
    if len(task.page.text) > 6000:
        yield from look_then_ask(task)
        return
    size = task.stream.choice((1000, 1500, 2000))
    hits, hit = task.names.hits, task.names.hit
    feedback = yield fenced(
        f'{hits} = query_chunks(chunk_text({size}), "{{chunk}}\\n\\nQuestion: {{query}}")\n'
        f"for {hit} in {hits}:\n    print({hit})"
    )
    yield from finish(task, feedback)


def _escape(text: str) -> str:
    return text.replace("\n", "\\n")


STRATEGIES: tuple[tuple[float, Callable[[Assignment], Plan]], ...] = (
    (0.22, search_and_ask_at_once),
    (0.38, wrong_keyword_first),
    (0.44, answer_too_early),
    (0.51, recover),
    (0.53, look_around),
    (0.57, ask_every_chunk),
)
"""Upper bounds of a number drawn from 0 to 1; beyond the last one: `look_then_ask`."""
