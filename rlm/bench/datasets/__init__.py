"""Published sets, read from files that a person has: RULER, LongBench v2, OOLONG, OpenAI's MRCR.

Each has a module with its columns and the rule by which its authors score. A new one is such a
module and an entry of `DATASETS`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rlm.bench.datasets import longbench, mrcr, oolong, ruler
from rlm.bench.grid import parse_dataset
from rlm.bench.tasks import own
from rlm.bench.tasks.given import Format, Given, Line, gather
from rlm.bench.tasks.rows import SUFFIXES, files_of
from rlm.errors import UsageError

__all__ = ["DATASETS", "load", "names", "reopen"]

DATASETS: Final[Mapping[str, Format]] = {
    "ruler": ruler.FORMAT,
    "longbench-v2": longbench.FORMAT,
    "oolong": oolong.FORMAT,
    "mrcr": mrcr.FORMAT,
}
"""By the name that ``--rlm-dataset`` takes."""


def names() -> tuple[str, ...]:
    """What ``--rlm-dataset`` takes."""
    return tuple(DATASETS)


def load(name: str, path: str | os.PathLike[str]) -> tuple[Given, ...]:
    """Read a published set from a file, or from all files of rows in a folder.

    Each part of it (`rlm.bench.tasks.given.Row.part`) is a task, ``NAME-PART``. What is wrong with
    rows stands in the first one.

    Args:
        name: of the set.
        path: of a ``.jsonl``, ``.json`` or ``.parquet`` file, or of a folder with such files.

    Raises:
        UsageError: there is no such set or file, or not a single row is in order.
    """
    form, path = DATASETS[parse_dataset(name)], Path(path).absolute()
    if not path.exists():
        raise UsageError(f"there is no {path}: {form.remedy}")
    files = files_of(path)
    if not files:
        raise UsageError(f"{path} holds no {' or '.join(SUFFIXES)} file: {form.remedy}")
    found = gather(path, files, form)
    parts: dict[str, list[Line]] = {}
    for part, line in found.lines:
        parts.setdefault(_task(name, part), []).append(line)
    return tuple(
        Given(task, path, found.sha256, tuple(lines), () if i else found.problems, form)
        for i, (task, lines) in enumerate(parts.items())
    )


def reopen(file: Mapping[str, Any]) -> tuple[Given, ...]:
    """The data that the header of a run speaks of: a published set, or a person's own.

    Raises:
        UsageError: they cannot be read any more.
    """
    path, name = str(file.get("path")), file.get("dataset")
    return (own.load(path),) if name is None else load(str(name), path)


def _task(name: str, part: str) -> str:
    """The name of a task, which can stand in a list of options and in a cell's id."""
    return re.sub(r"[^\w.-]+", "-", f"{name}-{part}" if part else name)
