"""RULER (Hsieh et al. 2024, arXiv:2404.06654; https://github.com/NVIDIA/RULER).

Its generator writes ``niah_single_1/validation.jsonl`` and so on: ``input`` is a whole prompt, and
``outputs`` are the references. (NeMo-Skills, through which RULER is run today, calls them
``question`` and ``expected_answer``.) Which of its tasks a file holds says the name of the file, or
of its folder where the file is called ``validation`` or ``test``. The document is the prompt up to
the last question, which is recognised by its wording (scripts/data/synthetic/constants.py).

Scored as scripts/eval/synthetic/constants.py and scripts/eval/evaluate.py score: the share of the
references that the answer contains, in upper or lower case; in ``qa`` one of them is enough. The
official harness lets a model write no more than a fixed number of tokens, without which a copy of
the document would be right. Here what stands behind four characters for each of them is cut off.
The beginning that it hands a model in ``vt``, nearly as long, is taken off before, if it is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rlm.bench.grid import CHARS_PER_TOKEN
from rlm.bench.tasks import given
from rlm.bench.tasks.base import Item, Scores, Span
from rlm.bench.tasks.given import Format, Row
from rlm.errors import UsageError

_SUBSETS: Final = ("validation", "test")
_ANSWER_CUE: Final = re.compile(r"\s*(?:Answer:|The special magic ).*\Z", re.DOTALL)
"""The beginning of the answer, which some versions write behind the question."""
_COLUMNS: Final = (("input", "outputs"), ("question", "expected_answer"))
_CONTROL: Final = re.compile(r"[\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class Kind:
    """What tasks of one kind have in common.

    Attributes:
        names: how the names of such tasks begin.
        question: with what the last question begins.
        tokens: how many the official harness lets a model write.
        lead: the beginning of an answer that does not count as written.
        is_any: one of the references is enough.
        is_found: the references stand in the document where the evidence is, and nowhere else.
    """

    names: tuple[str, ...]
    question: re.Pattern[str]
    tokens: int
    lead: re.Pattern[str] = re.compile("")
    is_any: bool = False
    is_found: bool = False


KINDS: Final[Mapping[str, Kind]] = {
    "niah": Kind(
        ("niah",), re.compile(r"What (?:is|are all) the special magic "), 128, is_found=True
    ),
    "vt": Kind(
        ("vt", "variable_tracking"),
        re.compile(r"Question: Find all variables "),
        30,
        re.compile(
            r"(?:Answer:\s*)?According to the chain\(?s?\)? of variable assignment[^:]{0,120}"
            r"they are:",
            re.IGNORECASE,
        ),
        is_found=True,
    ),
    "cwe": Kind(
        ("cwe", "common_words_extraction"),
        re.compile(r"Question: What are the \d+ most common words "),
        120,
    ),
    "fwe": Kind(
        ("fwe", "freq_words_extraction"),
        re.compile(r"Question: Do not provide any explanation"),
        50,
    ),
    "qa": Kind(("qa",), re.compile(r"Question: "), 32, is_any=True),
}


def _part(file: Path) -> str:
    """The name of the task in a file."""
    return file.parent.name if file.stem in _SUBSETS else file.stem


def _kind(part: str) -> str:
    for name, kind in KINDS.items():
        if any(re.match(rf"{each}(?:_|-|\Z)", part) for each in kind.names):
            return name
    raise UsageError(
        f"{part!r} is none of RULER's tasks, whose names begin with {', '.join(KINDS)}: name the "
        "file so, such as niah_single_1.jsonl, or its folder, as niah_single_1/validation.jsonl"
    )


def _row(raw: bytes, file: Path) -> Row:
    fields = given.fields_of(raw)
    prompt, outputs = next((c for c in _COLUMNS if all(n in fields for n in c)), _COLUMNS[0])
    given.require(fields, (prompt, outputs))
    if "pred" in fields:
        raise UsageError("a row with a model's answer ('pred'): give the folder of the data alone")
    part = _part(file)
    kind = _kind(part)
    document, question = _split(given.text_of(prompt, fields[prompt]), KINDS[kind])
    listed = fields[outputs]
    if not isinstance(listed, list) or not listed:
        raise UsageError(f"field {outputs!r} must be a list of texts, not {given.shown(listed)}")
    answers = tuple(given.text_of(outputs, given.number_or(each)) for each in listed)
    return Row(document, question, answers, f"ruler/{kind}", part=part)


def _split(prompt: str, kind: Kind) -> tuple[str, str]:
    """Document and question of a prompt."""
    found = list(kind.question.finditer(prompt))
    if not found or not prompt[: found[-1].start()].strip():
        raise UsageError(
            f"the prompt does not end with RULER's question ({kind.question.pattern!r})"
        )
    at = found[-1].start()
    return prompt[:at].rstrip(), _ANSWER_CUE.sub("", prompt[at:]).strip()


def _evidence(row: Row) -> tuple[Span, ...]:
    kind = KINDS[row.scorer.partition("/")[2]]
    return given.evidence(row.document, row.answers) if kind.is_found else ()


def score(item: Item, text: str) -> Scores:
    """The share of the references in an answer; exact where it is all, or one in ``qa``."""
    kind = KINDS[item.scorer.partition("/")[2]]
    said = _CONTROL.sub("\n", text.strip()).strip()
    lead = kind.lead.match(said)
    said = said[lead.end() if lead else 0 :].lstrip()[: CHARS_PER_TOKEN * kind.tokens].lower()
    found = [answer.lower() in said for answer in item.answers]
    graded = float(any(found)) if kind.is_any else sum(found) / len(found)
    return Scores(exact=graded == 1.0, graded=graded)


FORMAT: Final = Format(
    parse=_row,
    evidence=_evidence,
    score=score,
    remedy="make RULER's rows with: git clone https://github.com/NVIDIA/RULER && cd "
    "RULER/scripts/data && python prepare.py --save_dir DIR --task niah_single_1 --max_seq_length "
    "4096 --tokenizer_path MODEL --tokenizer_type hf, and give the folder DIR",
    run_of=_part,
)
