"""Documents in three lots: to train on, to choose a learning rate on, to report on.

A document's hash decides its lot, so that it is the same whoever asks. `training.sft` holds out the
lowest hashes of what it is given: a lot is named to it by a file of samples and a share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training import samples
from training.samples import Header, Sample
from training.trainer import split


class CompareError(Exception):
    """A comparison that cannot begin or go on."""


@dataclass(frozen=True, slots=True)
class Lot:
    """Samples to train on beside one validation set.

    Attributes:
        file: of both together, as `training.samples` writes them.
        share: of the documents in it, those that are held out.
        train, held: samples.
    """

    file: Path
    share: float
    train: tuple[Sample, ...]
    held: tuple[Sample, ...]


def divide(
    rows: Sequence[Sample], select: float, report: float
) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """Samples to train on, to select on and to report on; no document is in two of them.

    Args:
        rows: all samples.
        select: share of the documents to select on.
        report: share of the documents to report on.

    Raises:
        CompareError: one of the three would be empty.
    """
    documents = sorted({sample.document for sample in rows})
    first = round(report * len(documents))
    second = first + round(select * len(documents))
    lots = (documents[second:], documents[first:second], documents[:first])
    if not all(lots):
        told = ", ".join(str(len(lot)) for lot in lots)
        raise CompareError(
            f"{len(documents)} documents leave {told} to train, select and report on: "
            "build more samples, or choose other shares with --select and --report"
        )
    train, selected, reported = ([s for s in rows if s.document in set(lot)] for lot in lots)
    return train, selected, reported


def write(
    out: Path, header: Header, rows: Sequence[Sample], share: tuple[float, float]
) -> tuple[Lot, Lot]:
    """The files of the grid and of the seeds: one training set, two validation sets.

    Args:
        out: folder to write ``select.jsonl.gz`` and ``report.jsonl.gz`` to.
        header: of the samples.
        rows: all samples.
        share: of the documents, to select and to report on.

    Raises:
        CompareError: a lot would be empty.
    """
    train, *validation = divide(rows, *share)
    out.mkdir(parents=True, exist_ok=True)
    found = []
    for name, held in zip(("select", "report"), validation, strict=True):
        own = {sample.document for sample in held}
        both = [s for s in rows if s.document in own] + train
        count = len({sample.document for sample in both})
        lot = Lot(out / f"{name}.jsonl.gz", len(own) / count, tuple(train), tuple(held))
        if split(both, lot.share) != (train, held):
            raise AssertionError("the loop would hold out other documents")
        samples.write(lot.file, both, samples.part_of(header, both))
        found.append(lot)
    return found[0], found[1]
