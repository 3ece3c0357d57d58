"""The items behind the records of a run, made anew from their seeds."""

from __future__ import annotations

import os
from typing import Any

from rlm.bench import datasets, records, runner
from rlm.bench.grid import Cell
from rlm.bench.records import Record
from rlm.bench.tasks.base import Item, Split
from rlm.bench.tasks.given import Given
from rlm.errors import UsageError


class Sources:
    """Makes the items of one run, given data included where their file is as it was.

    Args:
        run: a name under ``runs/``, or a folder.

    Attributes:
        missing: why items could not be made, each reason with how many records it has left alone.

    Raises:
        RecordError: there is no such run, or it cannot be read.
    """

    def __init__(self, run: str | os.PathLike[str]) -> None:
        self.missing: dict[str, int] = {}
        self._given: dict[str, Given] = {}
        for header in records.headers(run):
            self._add(header.get("file"))

    def item(self, record: Record) -> Item | None:
        """The document and question of a record; ``None`` if they cannot be made as they were."""
        if record.doc is None:
            return None
        cell = Cell(record.task, record.length, record.depth, record.sample, "", record.unit)
        split: Split = "train" if record.split == "train" else "eval"
        data = self._given.get(record.task)
        try:
            item = data.item(cell.sample) if data else runner.make_item(cell, record.seed, split)
        except Exception as error:  # anybody's task, and numbers that no grid has
            self._lacking(str(error))
            return None
        if runner.doc_of(item).sha256 != record.doc.sha256:
            self._lacking(f"{record.task} makes other documents by now")
            return None
        return item

    def _add(self, file: Any) -> None:
        """Load the data that a session was run on, if they are still there and the same."""
        if not isinstance(file, dict):
            return
        try:
            found = datasets.reopen(file)
        except UsageError as error:
            self._lacking(str(error))
            return
        self._given |= {data.name: data for data in found}

    def _lacking(self, reason: str) -> None:
        self.missing[reason] = self.missing.get(reason, 0) + 1
