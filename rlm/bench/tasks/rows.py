"""Rows of a file, each as the bytes of one JSON object: JSON lines, a JSON array, or Parquet.

A row can be read again by where it starts, without what stands before it. (In Parquet, without
the row groups before its own.)
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from rlm.errors import UsageError

PARQUET: Final = ".parquet"
SUFFIXES: Final = (".jsonl", ".json", PARQUET)
"""Of files that are looked for in a folder."""

_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[{}]', re.DOTALL)
"""A text, which the end of the file may cut off, or what begins or ends an object."""
_BETWEEN: Final = b" \t\r\n,[]"
"""All that may stand between the objects of an array."""
_MARK: Final = b"\xef\xbb\xbf"
"""What some programs write before UTF-8."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it stands in its file.

    Attributes:
        at: its number, from 1; of JSON lines that of the line, blank ones counted.
        start: of its first byte; in Parquet the number of rows before it.
        size: in bytes; 0 in Parquet.
        content: JSON, in UTF-8 if it is in order.
    """

    at: int
    start: int
    size: int
    content: bytes


def read_rows(path: Path) -> Iterator[RawRow]:
    """All rows of a file, one at a time; blank lines are left out.

    A ``.parquet`` file is Parquet, and a ``.json`` file whose first character is ``[`` an array of
    objects. All else is JSON lines.

    Raises:
        OSError: it cannot be read.
        UsageError: it is Parquet, and pyarrow is missing or cannot read it.
    """
    if path.suffix == PARQUET:
        return _parquet_rows(path)
    return _array_rows(path) if _is_array(path) else _lines(path)


def read_row(path: Path, start: int, size: int) -> bytes:
    """The content of one row (see `RawRow`).

    Raises:
        OSError: the file cannot be read.
        UsageError: it is Parquet, and pyarrow is missing or cannot read it.
    """
    if path.suffix == PARQUET:
        return next((row.content for row in _parquet_rows(path, start)), b"")
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _lines(path: Path) -> Iterator[RawRow]:
    start = 0
    with path.open("rb") as file:
        for at, line in enumerate(file, 1):
            if line.strip():
                yield RawRow(at, start, len(line), line)
            start += len(line)


def _is_array(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix == ".json" and file.read(64).removeprefix(_MARK).lstrip()[:1] == b"["


def _array_rows(path: Path) -> Iterator[RawRow]:
    """The objects of an array, and what else stands in it, which is no row that can be used."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for at, (start, end) in enumerate(_members(content), 1):
            yield RawRow(at, start, end - start, content[start:end])


def _members(content: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Where the objects begin and end, and what is no object between, before and behind them.

    What is left of an object that does not end is the last.
    """
    depth = start = 0
    end = len(_MARK) if content[: len(_MARK)] == _MARK else 0  # of the object before
    for token in _TOKEN.finditer(content):
        mark = content[token.start()]
        if mark == ord("{"):
            if depth == 0:
                start = token.start()
                yield from _odd(content, end, start)
            depth += 1
        elif mark == ord("}") and depth:
            depth -= 1
            if depth == 0:
                end = token.end()
                yield start, end
    if depth:
        yield start, len(content)
    else:
        yield from _odd(content, end, len(content))


def _odd(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int]]:
    """What stands in ``[start, end)`` beside what may stand between objects; nothing in order."""
    between = content[start:end]
    size = len(between.strip(_BETWEEN))
    if size:
        start += len(between) - len(between.lstrip(_BETWEEN))
        yield start, start + size


def _parquet_rows(path: Path, first: int = 0) -> Iterator[RawRow]:
    """The rows from `first` on; decoded one by one, since a single one may have megabytes."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UsageError(
            f"{path.name} is Parquet, which pyarrow reads: pip install 'rlm-bench[bench]', "
            "or write the rows as JSON lines"
        ) from error
    try:
        with ParquetFile(path) as file:
            groups, skipped = _groups_from(file.metadata, first)
            batches = file.iter_batches(batch_size=1, row_groups=groups)
            for number, batch in enumerate(islice(batches, first - skipped, None), first):
                yield RawRow(number + 1, number, 0, _as_json(batch.to_pylist()[0]))
    except ArrowException as error:
        raise UsageError(f"{path.name} is no Parquet that can be read: {error}") from error


def _groups_from(metadata: Any, first: int) -> tuple[list[int], int]:
    """The row groups from that of row `first` on, and how many rows stand before them."""
    skipped = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if first < skipped + rows:
            return list(range(group, metadata.num_row_groups)), skipped
        skipped += rows
    return [], first


def _as_json(row: dict[str, Any]) -> bytes:
    return json.dumps(row, default=str, sort_keys=True).encode()


def files_of(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """A file itself, or the files of rows in a folder and below it, by name.

    Folders whose name begins with a dot are left out: `hf download` keeps notes in one.
    """
    top = Path(path)
    if not top.is_dir():
        return (top,)
    found = (each for each in top.rglob("*") if each.suffix in SUFFIXES and each.is_file())
    shown = (f for f in found if not any(p.startswith(".") for p in f.relative_to(top).parts))
    return tuple(sorted(shown))
