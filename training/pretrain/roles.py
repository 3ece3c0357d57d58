"""``python -m training.pretrain.roles``: how well an embedded model plays each of its roles.

Reader, sub-model and root model on the eval split, greedy, as tables for its card. Seeds begin at
`FIRST_SEED`, far from those of a benchmark run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rlm import RLM, Vanilla, connect, open_sandbox
from rlm.bench.scoring import is_correct
from rlm.bench.statistics import wilson
from rlm.bench.tasks import Item, Task, get
from rlm.clients.base import Client
from rlm.messages import Message, Options
from training.pretrain.pages import ABSENT
from training.pretrain.teacher import SUB_PROMPTS

FIRST_SEED = 500_000
TASKS = ("niah", "long_doc_qa")
READER_CHARS = (250, 650, 1_000, 2_000, 4_096, 11_500)
ROOT_CHARS = (16_384, 131_072, 524_288)
PASSAGE_CHARS = (100, 150, 400)


@dataclass(frozen=True)
class Line:
    """One line of a table: what was asked, how often it was right, and of how many."""

    role: str
    task: str
    what: str
    right: int
    n: int

    def __str__(self) -> str:
        low, high = wilson(self.right, self.n)
        right = f"{self.right}/{self.n} [{low:.2f}, {high:.2f}]"
        return f"| {self.role} | {self.task} | {self.what} | {right} |"


def main() -> None:
    """Read the arguments and print the table, line by line."""
    parser = argparse.ArgumentParser(prog="python -m training.pretrain.roles", description=__doc__)
    parser.add_argument("--model", default="embedded", help="as for rlm ask (default: embedded)")
    parser.add_argument("--documents", type=int, default=30, help="of each line (default: 30)")
    parser.add_argument("--roles", nargs="+", choices=ROLES, default=list(ROLES), help="which")
    args = parser.parse_args()
    client = connect(args.model)
    try:
        print("| role | task | what | right [95 %] |\n|---|---|---|---|")
        for role in args.roles:
            for line in ROLES[role](client, args.documents):
                print(line, flush=True)
    finally:
        client.close()


def items(task: Task, chars: int, count: int) -> Iterator[Item]:
    """Unseen documents, the task's depths in turn."""
    for number in range(count):
        depth = task.depths[number % len(task.depths)]
        yield task.generate(chars, depth, FIRST_SEED + number)


def counted(
    role: str, task: str, what: str, made: Sequence[Item], answer: Callable[[Item], bool]
) -> Line:
    """Ask about each of `made`."""
    return Line(role, task, what, sum(answer(item) for item in made), len(made))


def readers(client: Client, count: int) -> Iterator[Line]:
    """The whole document in the prompt, by length."""
    vanilla = Vanilla(client)

    def right(item: Item) -> bool:
        return is_correct(item.gold, vanilla.completion(item.document, item.question).answer)

    for name in TASKS:
        for chars in READER_CHARS:
            if name == "long_doc_qa" and chars < 600:
                continue
            made = list(items(get(name), chars, count))
            usage = vanilla.completion(made[0].document, made[0].question).usage
            what = f"{chars} characters, {usage.prompt_tokens} tokens"
            yield counted("reader", name, what, made, right)


def absents(client: Client, count: int) -> Iterator[Line]:
    """The question of another document: the answer is `ABSENT`."""
    vanilla = Vanilla(client)
    for name in TASKS:
        for chars in (1_000, 4_096):
            made = list(items(get(name), chars, count))
            others = [_other_question(name, item, number) for number, item in enumerate(made)]
            right = sum(
                is_correct(ABSENT, vanilla.completion(item.document, question).answer)
                for item, question in zip(made, others, strict=True)
            )
            yield Line("reader", name, f"not in the text, {chars} characters", right, count)


def _other_question(name: str, item: Item, number: int) -> str:
    for seed in range(number + 1, number + 1000):
        other = get(name).generate(1_000, 50, FIRST_SEED * 2 + seed)
        if other.question != item.question:
            return other.question
    raise ValueError(f"all questions of {name} are the same")


def sub_models(client: Client, count: int) -> Iterator[Line]:
    """Windows around the fact, as a search cuts them out, in the wordings of sub-calls."""
    options = Options(max_tokens=64)

    def ask(passage: str, question: str, number: int) -> str:
        prompt = SUB_PROMPTS[number % len(SUB_PROMPTS)].format(passage=passage, question=question)
        return client.chat([Message("user", prompt)], options=options).text

    for name in TASKS:
        made = list(items(get(name), 16_384, count))
        for half in PASSAGE_CHARS:
            right = wrong = 0
            for number, item in enumerate(made):
                begin = max(item.spans[0].start - half, 0)
                near = item.document[begin : item.spans[0].end + half]
                far = made[number - 1].document[: 2 * half]
                right += is_correct(item.gold, ask(near, item.question, number))
                wrong += is_correct(ABSENT, ask(far, item.question, number))
            yield Line("sub-model", name, f"fact and {half} characters around it", right, count)
            yield Line("sub-model", name, f"not in a passage of {2 * half}", wrong, count)


def roots(client: Client, count: int) -> Iterator[Line]:
    """The whole loop, and how often its first turn printed something: a passage or an answer."""
    sandbox = open_sandbox()
    try:
        yield from _loops(RLM(client, client, sandbox=sandbox), count)
    finally:
        sandbox.close()


def _loops(rlm: RLM, count: int) -> Iterator[Line]:
    for name in TASKS:
        for chars in ROOT_CHARS:
            right = first = 0
            for item in items(get(name), chars, count):
                answer = rlm.completion(item.document, item.question)
                right += is_correct(item.gold, answer.answer)
                cells = answer.trajectory.turns[0].cells if answer.trajectory.turns else ()
                first += any(cell.result.stdout for cell in cells)
            yield Line("root", name, f"{chars} characters", right, count)
            yield Line("root", name, f"{chars} characters: first turn prints", first, count)


ROLES = {"reader": readers, "absent": absents, "sub-model": sub_models, "root": roots}


if __name__ == "__main__":
    main()
