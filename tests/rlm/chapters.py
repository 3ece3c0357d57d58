"""A document whose chapters each need a search of their own, and a root that says so in code."""

from __future__ import annotations

from rlm.bench.tasks import Item, get
from tests.rlm.scripted import Scripted, code

CHARS = 24_000
"""Of a chapter: more than the embedded model's window holds, so that no single call can read it."""
QUERY = (
    "Each chapter begins with a question about its own text. Give the answers in order, separated "
    "by commas."
)
SPLIT = """\
parts = re.split(r"(?m)^Chapter \\d+\\n", context)[1:]
print([len(part) for part in parts])"""
DESCEND = """\
answers = []
for part in parts:
    question, _, text = part.partition("\\n")
    answers.append(rlm_query(text, question))
print(answers)"""


def chapters(seed: int, number: int = 4) -> list[Item]:
    """So many items, needles and questions on prose in turn, the evidence at 20 to 80 %."""
    depths = [20 + 60 * n // max(number - 1, 1) for n in range(number)]
    tasks = [get(("niah", "long_doc_qa")[n % 2]) for n in range(number)]
    seeds = range(100 * seed, 100 * seed + number)
    return [t.generate(CHARS, d, s) for t, d, s in zip(tasks, depths, seeds, strict=True)]


def book(items: list[Item]) -> str:
    """The document."""
    return "\n".join(
        f"Chapter {number}\n{item.question}\n{item.document}"
        for number, item in enumerate(items, 1)
    )


def root() -> Scripted:
    """What a model that knows `rlm_query` would write."""
    return Scripted([code(SPLIT), code(DESCEND), code('FINAL(", ".join(answers))')])
