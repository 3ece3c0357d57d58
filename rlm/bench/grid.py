"""The grid: which cells a run has, what they are called, and how a person writes its axes.

A cell is one (task, length, depth, sample, draw, architecture). Lengths count tokens (k = 1,024,
M = 1,048,576); every document has exactly four characters for each, whatever the model, so that
all models are asked the same.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

from rlm.errors import ClientError, UsageError
from rlm.limits import MAX_DEPTH

T = TypeVar("T")
Unit = Literal["tokens", "chars"]
UNITS: Final[tuple[Unit, ...]] = get_args(Unit)

CHARS_PER_TOKEN: Final = 4
LENGTHS: Final = tuple(1024 * 2**i for i in range(8))
MAX_LENGTH: Final = 10 * 1024 * 1024
SAMPLES: Final = 3
MAX_CONCURRENCY: Final = 64
ARCHITECTURES: Final = ("vanilla", "rlm")
SMOKE_TASKS: Final = ("niah", "long_doc_qa")
SMOKE_LENGTHS: Final = (1024, 8 * 1024, 32 * 1024)

_LENGTH: Final = re.compile(r"(\d+)([kM]?)", re.IGNORECASE)
_FACTOR: Final = {"": 1, "k": 1024, "m": 1024 * 1024}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        task: the task's name.
        length: of the document, in `unit`.
        depth: where the evidence stands, in percent; ``None`` for a task without depths.
        sample: number of the document, from 0.
        architecture: how it is answered.
        unit: what `length` counts.
        draw: number of the answer to the same document, from 0.
    """

    task: str
    length: int
    depth: int | None
    sample: int
    architecture: str
    unit: Unit = "tokens"
    draw: int = 0

    @property
    def chars(self) -> int:
        """Exact length of the document in characters."""
        return self.length * (CHARS_PER_TOKEN if self.unit == "tokens" else 1)

    @property
    def id(self) -> str:
        """Such as ``L128k-d50-s0-rlm``; ``C128k-…`` where lengths are in characters.

        From the second draw on it says which, ``L128k-d50-s0-g1-rlm``.

        The letter makes ``-k l8k`` exact, where ``-k 8k`` is a substring of ``128k``.
        """
        letter = "L" if self.unit == "tokens" else "C"
        depth = "" if self.depth is None else f"-d{self.depth}"
        draw = f"-g{self.draw}" if self.draw else ""
        return f"{letter}{label(self.length)}{depth}-s{self.sample}{draw}-{self.architecture}"

    @property
    def is_smoke(self) -> bool:
        """Belongs to ``-m smoke``."""
        return (
            self.task in SMOKE_TASKS
            and self.length in SMOKE_LENGTHS
            and self.depth == 50
            and self.sample == self.draw == 0
            and self.architecture in ARCHITECTURES
        )


@dataclass(frozen=True, slots=True)
class Grid:
    """The axes of a run.

    Attributes:
        lengths: in `unit`.
        depths: in percent; ``None`` takes those of each task.
        samples: documents for each (length, depth).
        architectures: names, side by side in this order.
        unit: what the lengths count.
        draws: answers to each document.
    """

    lengths: Sequence[int] = LENGTHS
    depths: Sequence[int] | None = None
    samples: int = SAMPLES
    architectures: Sequence[str] = ARCHITECTURES
    unit: Unit = "tokens"
    draws: int = 1

    def cells(self, task: str, task_depths: Sequence[int]) -> Iterator[Cell]:
        """Cells of one task: by length, depth, sample and draw, then the architectures.

        Args:
            task: its name.
            task_depths: its default depths; empty for a task that has none.
        """
        depths: Sequence[int | None] = (self.depths or task_depths) if task_depths else (None,)
        for place in product(self.lengths, depths, range(self.samples)):
            yield from self.answers(task, *place)

    def answers(self, task: str, length: int, depth: int | None, sample: int) -> Iterator[Cell]:
        """The cells of one document: by draw, then the architectures side by side."""
        for draw, name in product(range(self.draws), self.architectures):
            yield Cell(task, length, depth, sample, name, self.unit, draw)


def label(length: int) -> str:
    """A length as people write it: ``8k``, ``2M``, ``1000``."""
    for letter, factor in (("M", _FACTOR["m"]), ("k", _FACTOR["k"])):
        if length % factor == 0:
            return f"{length // factor}{letter}"
    return str(length)


def parse_lengths(text: str) -> tuple[int, ...]:
    """``"1k,128k,2M"`` → numbers.

    Raises:
        UsageError: an entry is not a length, or one above 10M.
    """
    return _each(text, _length)


def parse_depths(text: str) -> tuple[int, ...]:
    """``"10,50,90"`` → percentages.

    Raises:
        UsageError: an entry is not a whole number from 0 to 100.
    """
    return _each(text, _depth)


def parse_names(text: str) -> tuple[str, ...]:
    """``"niah,long_doc_qa"`` → names, unchecked.

    Raises:
        UsageError: an entry is empty.
    """
    return _each(text, str)


def parse_architectures(text: str) -> tuple[str, ...]:
    """``"vanilla,rlm"`` → names that exist.

    Raises:
        UsageError: an entry is not the name of an architecture.
    """
    from rlm import architectures

    return _each(text, lambda name: known(name, "architecture", architectures.names()))


def parse_count(text: str) -> int:
    """A whole number from 1.

    Raises:
        UsageError: it is not one.
    """
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{text!r} is not a whole number from 1; try 3")
    return int(text)


def parse_concurrency(text: str) -> int:
    """A whole number from 1 to 64, the most connections of a client.

    Raises:
        UsageError: it is not one.
    """
    if not text.isdecimal() or not 1 <= int(text) <= MAX_CONCURRENCY:
        raise UsageError(f"{text!r} is not a whole number from 1 to {MAX_CONCURRENCY}; try 8")
    return int(text)


def parse_max_depth(text: str) -> int:
    """A whole number from 1 to `MAX_DEPTH`.

    Raises:
        UsageError: it is not one.
    """
    if not text.isdecimal() or not 1 <= int(text) <= MAX_DEPTH:
        raise UsageError(f"{text!r} is not a whole number from 1 to {MAX_DEPTH}; try 2")
    return int(text)


def parse_temperature(text: str) -> float:
    """A number from 0 to 2.

    Raises:
        UsageError: it is not one.
    """
    return _number(text, "temperature", least=0.0, most=2.0, usual="0.7")


def parse_minutes(text: str) -> float:
    """A number of minutes above 0.

    Raises:
        UsageError: it is not one.
    """
    return _number(text, "number of minutes", least=0.01, most=100_000, usual="30")


def parse_tokens(text: str) -> int:
    """``"200k"`` → 200,000: a number of tokens used, where k is 1,000.

    Raises:
        UsageError: it is not one.
    """
    match = _LENGTH.fullmatch(text)
    if not match or int(match[1]) == 0:
        raise UsageError(f"{text!r} is no number of tokens: write a whole number, 200k or 5M")
    return int(match[1]) * {"": 1, "k": 1000, "m": 1_000_000}[match[2].lower()]


def parse_file(text: str) -> str:
    """The path of a file that is there.

    Raises:
        UsageError: it is not.
    """
    with contextlib.suppress(OSError, ValueError):  # no name of a file at all
        if Path(text).is_file():
            return text
    raise UsageError(
        f"there is no file {text[:100]!r}: give the path of a file of rows "
        "(.jsonl, .json, .parquet)"
    )


def parse_dataset(text: str) -> str:
    """The name of a published set.

    Raises:
        UsageError: it is not one; the message lists those there are.
    """
    from rlm.bench import datasets

    return known(text, "dataset", datasets.names())


def parse_folder(text: str) -> str:
    """The absolute path of a folder, there or not.

    Raises:
        UsageError: it is empty.
    """
    if not text.strip():
        raise UsageError("a folder needs a name: write one, such as cassettes/monday")
    return str(Path(text).absolute())


def parse_page(text: str) -> str:
    """The absolute path of a file to be written, whose folder is there.

    Raises:
        UsageError: it is not, or the path is a folder's.
    """
    path = Path(text).absolute()
    with contextlib.suppress(OSError, ValueError):  # no name of a file at all
        if text.strip() and path.parent.is_dir() and not path.is_dir():
            return str(path)
    raise UsageError(
        f"cannot write {text[:100]!r}: name a file in a folder that is there, such as report.html"
    )


def parse_seed(text: str) -> int:
    """Any whole number.

    Raises:
        UsageError: it is not one.
    """
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a whole number; try 0") from None


def parse_window(text: str) -> int | None:
    """``auto`` → ``None``, or a number of tokens.

    Raises:
        UsageError: it is neither.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{text!r} is no window: write auto, or a number of tokens such as 4096")
    return int(text)


def parse_rerun(text: str) -> tuple[str, ...]:
    """``"error,crashed"`` → verdicts; ``none`` is the empty list.

    Raises:
        UsageError: an entry is not a verdict.
    """
    from rlm.bench.records import VERDICTS

    if text == "none":
        return ()
    return _each(text, lambda name: known(name, "verdict", (*VERDICTS, "all", "none")))


def parse_run(text: str) -> str:
    """The name or folder of a run.

    Raises:
        UsageError: it is empty, or a folder without a name of its own, such as ``.``.
    """
    if not text.strip() or Path(text).name in ("", ".."):
        raise UsageError(f"a run needs a name, not {text!r}: leave the option out to have one made")
    return text


def parse_model(text: str) -> str:
    """The spec of a model, if it has a form that `rlm.connect` knows.

    Raises:
        UsageError: it has not; the message lists the forms.
    """
    from rlm.clients import needs_engine

    with contextlib.suppress(ClientError):  # whether the model is there, the session will see
        needs_engine(text)
    return text


def known(name: str, what: str, names: Sequence[str]) -> str:
    """`name`, if it is one of `names`.

    Raises:
        UsageError: it is not; the message lists what exists.
    """
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise UsageError(f"unknown {what} {name!r}{hint}; there are: {', '.join(names)}")


def _each(text: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    parts = [part.strip() for part in text.split(",")]
    if "" in parts:
        raise UsageError(f"{text!r} has an empty entry: separate the entries by single commas")
    return tuple(dict.fromkeys(parse(part) for part in parts))


def _number(text: str, what: str, *, least: float, most: float, usual: str) -> float:
    with contextlib.suppress(ValueError):
        if least <= float(text) <= most:
            return float(text)
    raise UsageError(f"{text!r} is no {what}: write a number of {least:g} to {most:g}, as {usual}")


def _length(text: str) -> int:
    match = _LENGTH.fullmatch(text)
    if not match or int(match[1]) == 0:
        raise UsageError(
            f"unknown length {text!r}: write a whole number, with k (1,024) or M (1,048,576) "
            "behind it if you like; usual are 1k 2k 4k 8k 16k 32k 64k 128k, up to 10M"
        )
    length = int(match[1]) * _FACTOR[match[2].lower()]
    if length > MAX_LENGTH:
        raise UsageError(f"length {text!r} is above {label(MAX_LENGTH)}: choose a smaller one")
    return length


def _depth(text: str) -> int:
    if not text.isdecimal() or int(text) > 100:
        raise UsageError(
            f"unknown depth {text!r}: write percent of the document, 0 (start) to 100 (end); "
            "usual are 10,50,90"
        )
    return int(text)
