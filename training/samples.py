"""``python -m training.samples RUN… -o FILE``: from run folders to supervised samples.

The root model's turns are what is learned; sub-calls are not: they answer short texts, which is
another skill, and they are as many as the root's code makes them. Nor are the turns of loops that
its code opened (`rlm_query`), which are counted as not learned. A trajectory is kept when its
verdict is correct, a FINAL was accepted and no code cell failed. What was kept and what was not is
printed as a table. The file is gzipped JSON lines: a header, then one line a sample.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from rlm.bench import records
from rlm.bench.records import Record
from rlm.bench.verify import read_trajectory
from rlm.errors import RecordError
from rlm.trajectory import Trajectory, Turn
from training.pretrain.tokenizer import Chat
from training.render import Row, load_chat, render, seen_turns

SCHEMA: Final = 1
FEW: Final = 500
"""Below it the build warns: the study asks for 500 to 1,000."""
MAX_SEQ: Final = 2048
_DAMAGED: Final = (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError)
"""What gzip, zlib, json and missing or odd fields raise in a file that is none of ours."""


class SamplesError(ValueError):
    """Runs that must not be trained on, or a file that holds no samples."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One row to train on, and where it comes from.

    Attributes:
        cell: key of the cell's record.
        document: sha256 of the document.
        task: name of the task.
        ids: tokens, as inference rendered them.
        targets: spans ``[begin, end)`` of `ids` that are learned.
        turns: which turns of the root model these are.
    """

    cell: str
    document: str
    task: str
    ids: tuple[int, ...]
    targets: tuple[tuple[int, int], ...]
    turns: tuple[int, ...]

    @property
    def supervised(self) -> int:
        """Tokens that are learned."""
        return sum(end - begin for begin, end in self.targets)


@dataclass(frozen=True, slots=True)
class Header:
    """What a file of samples was made from.

    Attributes:
        models: digest of each model that wrote trajectories.
        prompts: sha256 of all texts that it saw, as in the records, with ``+deep1`` where those
            stood beside them that `--rlm-max-depth` adds.
        tokenizer: sha256 of the tokenizer's file; empty if ids are those of the server.
        settings: options of the build.
        rows: how many samples follow.
        sha256: of their lines.
        schema: of this file.
    """

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    tokenizer: str
    settings: dict[str, Any]
    rows: int
    sha256: str
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class Settings:
    """What is kept.

    Attributes:
        max_seq: most tokens of a row.
        recovered: keep trajectories with failed cells; the failing turns are not learned.
        per_document: most trajectories of one document.
        allow_eval: take rows of the eval split.
    """

    max_seq: int = MAX_SEQ
    recovered: bool = False
    per_document: int = 1
    allow_eval: bool = False


@dataclass(slots=True)
class Tally:
    """What became of all cells: trajectories kept and rejected, turns masked; by reason."""

    cells: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A trajectory that may be kept."""

    record: Record
    rows: tuple[Row, ...]
    by_turn: str
    masked: Counter[str]

    @property
    def cost(self) -> tuple[int, int, str]:
        """Of several answers to one document the shortest is kept; the key breaks ties."""
        return self.record.iterations, self.record.usage.total, self.record.key


def build(
    runs: Sequence[str | Path], settings: Settings, chat: Chat | None = None
) -> tuple[list[Sample], Tally, list[Record]]:
    """The samples of some runs.

    Args:
        runs: names under ``runs/``, or folders.
        settings: what is kept.
        chat: renders messages with another tokenizer than the server's.

    Returns:
        Samples in the order of the runs, what became of all cells, and all records.

    Raises:
        RecordError: a run or one of its trajectories cannot be read, or is not what it was.
        SamplesError: a run holds rows of the eval split, or the runs were made with different
            models or prompts.
    """
    found = [(records.folder(run), record) for run in runs for record in records.load(run)]
    everything = [record for _, record in found]
    if not settings.allow_eval:
        _refuse_eval(found)
    _refuse_mixture(everything, may_mix_models=chat is not None)
    tally, candidates = Tally(cells=len(found)), defaultdict[str, list[_Candidate]](list)
    for folder, record in found:
        candidate = _candidate(folder, record, settings, chat)
        if isinstance(candidate, str):
            tally.rejected[candidate] += 1
        elif candidate.record.doc is not None:
            candidates[candidate.record.doc.sha256].append(candidate)
    return list(_chosen(candidates, settings, tally)), tally, everything


def refuse_overlap(samples: Sequence[Sample], built: Sequence[Record], run: str | Path) -> None:
    """Refuse samples whose document or question is one of `run`, which is kept for evaluation.

    Raises:
        SamplesError: says how many there are, and one of them.
        RecordError: `run` cannot be read.
    """
    trained = {sample.cell for sample in samples}
    mine = [r for r in built if r.key in trained and r.doc]
    theirs = [r for r in records.load(run) if r.doc]
    documents = {r.doc.sha256 for r in theirs if r.doc}
    questions = {r.question for r in theirs}
    shared = [r for r in mine if (r.doc and r.doc.sha256 in documents) or r.question in questions]
    if shared:
        raise SamplesError(
            f"{len(shared)} samples share a document or a question with {run}, such as cell "
            f"{shared[0].key[:12]} ({shared[0].question!r}): train on runs of --rlm-split train "
            "that it does not hold"
        )


def write(path: Path, samples: Sequence[Sample], header: Header) -> None:
    """Write a file of samples by way of a temporary name; equal samples give equal bytes."""
    lines = [json.dumps({"row": "header", **asdict(header)}), *map(_line, samples)]
    content = "".join(f"{line}\n" for line in lines).encode("ascii")
    partial = path.with_name(f"{path.name}.part")
    partial.write_bytes(gzip.compress(content, mtime=0))
    partial.replace(path)


def read(path: Path) -> tuple[Header, list[Sample]]:
    """The inverse of `write`.

    Raises:
        SamplesError: there is no such file, or it is damaged, or of another schema.
    """
    try:
        header, samples = _parsed(path)
    except SamplesError:
        raise
    except FileNotFoundError as error:
        raise SamplesError(
            f"there is no file {path}: python -m training.samples RUN -o {path} makes it"
        ) from error
    except _DAMAGED as error:
        raise SamplesError(f"{path} holds no samples: {error!r}") from error
    if (len(samples), _sha256(samples)) != (header.rows, header.sha256):
        raise SamplesError(f"{path} is damaged: its rows are not those of its header")
    return header, samples


def header_of(
    samples: Sequence[Sample], built: Sequence[Record], settings: Settings, tokenizer: str = ""
) -> Header:
    """The header of samples that `build` made."""
    return Header(
        models=tuple(sorted({r.model.digest for r in built} - {""})),
        prompts=tuple(sorted({_prompts(r) for r in built if _shows(r)})),
        tokenizer=tokenizer,
        settings=asdict(settings),
        rows=len(samples),
        sha256=_sha256(samples),
    )


def part_of(header: Header, rows: Sequence[Sample]) -> Header:
    """The header of some of the samples that `header` is of."""
    return replace(header, rows=len(rows), sha256=_sha256(rows))


def table(samples: Sequence[Sample], tally: Tally) -> str:
    """What was kept and what was not, in lines."""
    kept, tokens = tally.kept.total(), sum(len(s.ids) for s in samples)
    learned = sum(s.supervised for s in samples)
    documents = len({s.document for s in samples})
    lines = [
        f"{kept} of {tally.cells} trajectories kept, of {documents} documents: {len(samples)} "
        f"rows, {tokens:,} tokens, {learned:,} of them learned"
    ]
    for title, counter in (
        ("kept", tally.kept),
        ("rejected", tally.rejected),
        ("turns not learned", tally.masked),
    ):
        rows = counter.most_common()
        lines += [f"{title if i == 0 else '':18}{n:6}  {r}" for i, (r, n) in enumerate(rows)]
    return "\n".join(lines)


def _refuse_eval(found: Sequence[tuple[Path, Record]]) -> None:
    for folder, record in found:
        if record.split != "train":
            count = sum(r.split != "train" for f, r in found if f == folder)
            raise SamplesError(
                f"{folder} holds {count} rows of the split {record.split!r}: what is evaluated is "
                "not trained on; collect with --rlm-split train (--allow-eval takes them)"
            )


def _refuse_mixture(built: Sequence[Record], *, may_mix_models: bool) -> None:
    asked = [r.model for r in built if r.model.digest]
    prompts = {(r.model.prompt_version, _prompts(r)) for r in built if _shows(r)}
    if len(prompts) > 1:
        raise SamplesError(
            f"the runs were made with different prompts, {sorted(prompts)}: build one file for each"
        )
    digests = {m.digest: m.spec for m in asked}
    if len(digests) > 1 and not may_mix_models:
        named = ", ".join(f"{spec} ({digest[:19]})" for digest, spec in sorted(digests.items()))
        raise SamplesError(
            f"the runs were made with different models, {named}: build one file for each, or give "
            "--tokenizer, which renders all of them for one model"
        )


def _shows(record: Record) -> bool:
    """Whether a model was asked in the way that is learned."""
    return record.architecture == "rlm" and bool(record.model.digest)


def _prompts(record: Record) -> str:
    """All texts that the model of a record saw; see `Header`."""
    added = record.model.prompt.partition("@")[2]
    return record.model.prompt_sha256 + (f"+{added}" if added else "")


def _candidate(
    folder: Path, record: Record, settings: Settings, chat: Chat | None
) -> _Candidate | str:
    """The trajectory of a cell in rows, or why it is rejected."""
    if reason := _unfit(record):
        return reason
    trajectory = _trajectory(folder, record)
    if trajectory is None or trajectory.fault:
        return "a sub-call failed for a reason of the server's" if trajectory else "no trajectory"
    if not settings.recovered and any(_failure(turn) for turn in trajectory.turns):
        return "a code cell failed (--recovered keeps these)"
    seen = seen_turns(trajectory, chat)
    if seen is None:
        return "no token ids from this server: give --tokenizer"
    reasons = {turn.number: _masking(turn, trajectory) for turn in trajectory.turns}
    learned = [number for number, reason in reasons.items() if not reason]
    if not learned:
        return "no turn to learn"
    rendered = render(seen, learned, settings.max_seq)
    masked = Counter(reason for reason in reasons.values() if reason)
    masked["longer than --max-seq"] = rendered.too_long
    masked["it is of a loop below"] = trajectory.iterations - len(trajectory.turns)
    kept = _Candidate(record, rendered.rows, rendered.by_turn, +masked)
    return kept if kept.rows else "no turn fits --max-seq"


def _unfit(record: Record) -> str:
    """Why a record's trajectory is not looked at; empty if it is."""
    if record.architecture != "rlm":
        return f"architecture {record.architecture}"
    if record.verdict != "correct":
        return f"verdict {record.verdict}"
    if record.ended_by not in ("final", "text"):
        return f"no FINAL accepted: ended by {record.ended_by}"
    return ""


def _chosen(
    candidates: dict[str, list[_Candidate]], settings: Settings, tally: Tally
) -> Iterator[Sample]:
    for document, group in candidates.items():
        ranked = sorted(group, key=lambda candidate: candidate.cost)
        kept, others = ranked[: settings.per_document], ranked[settings.per_document :]
        tally.rejected["another answer to the same document"] += len(others)
        for candidate in kept:
            by_turn = candidate.by_turn
            tally.kept[f"turn by turn: {by_turn}" if by_turn else "as one row"] += 1
            tally.masked += candidate.masked
            record = candidate.record
            for row in candidate.rows:
                yield Sample(record.key, document, record.task, row.ids, row.targets, row.turns)
    tally.rejected = +tally.rejected


def _masking(turn: Turn, trajectory: Trajectory) -> str:
    """Why a turn is no target; empty if it is one."""
    if turn.rejected:
        return f"its FINAL was rejected: {turn.rejected}"
    if failure := _failure(turn):
        return f"its code failed: {failure}"
    if not turn.cells and turn is not trajectory.turns[-1]:
        return "it had no code"
    calls = (c for c in trajectory.calls if c.kind == "root" and c.turn == turn.number)
    if any(c.completion and c.completion.finish_reason == "length" for c in calls):
        return "it was cut off"
    return ""


def _failure(turn: Turn) -> str:
    """Status of the first cell that failed; empty if none did."""
    statuses = (cell.result.status for cell in turn.cells)
    return next((status for status in statuses if status not in ("ok", "final")), "")


def _trajectory(folder: Path, record: Record) -> Trajectory | None:
    """The trajectory of a record, its bytes being those that the record speaks of.

    Raises:
        RecordError: it is not there, or another, or none.
    """
    try:
        return read_trajectory(folder, record)
    except RecordError as error:
        cell = f"cell {record.key[:12]} of {folder}"
        raise RecordError(f"{cell}: {error}: see rlm verify {folder}") from error


def _line(sample: Sample) -> str:
    return json.dumps({"row": "sample", **asdict(sample)}, separators=(",", ":"))


def _parsed(path: Path) -> tuple[Header, list[Sample]]:
    first, *lines = gzip.decompress(path.read_bytes()).decode("ascii").splitlines()
    fields = json.loads(first)
    if fields.pop("row") != "header" or fields["schema"] != SCHEMA:
        raise SamplesError(f"{path} has a schema that is not known here: build it anew")
    for name in ("models", "prompts"):
        fields[name] = tuple(fields[name])
    return Header(**fields), [_sample(json.loads(line)) for line in lines]


def _sample(row: dict[str, Any]) -> Sample:
    if row.pop("row") != "sample":
        raise KeyError("row")
    row["ids"], row["turns"] = tuple(row["ids"]), tuple(row["turns"])
    row["targets"] = tuple((begin, end) for begin, end in row["targets"])
    return Sample(**row)


def _sha256(samples: Sequence[Sample]) -> str:
    return hashlib.sha256("\n".join(map(_line, samples)).encode("ascii")).hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.samples", description=__doc__)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="a name under runs/, or a folder")
    add("-o", "--out", type=Path, required=True, metavar="FILE", help="such as samples.jsonl.gz")
    add("--max-seq", type=int, default=MAX_SEQ, metavar="N", help="most tokens of a row")
    add("--recovered", action="store_true", help="keep trajectories in which a code cell failed")
    add("--per-document", type=int, default=1, metavar="N", help="answers kept of one document")
    add(
        "--tokenizer",
        type=Path,
        metavar="PATH",
        help="render the text anew, with the tokenizer of this Hugging Face folder or GGUF: for "
        "servers that give no token ids, or to train another model",
    )
    add(
        "--against",
        action="append",
        default=[],
        metavar="RUN",
        help="refuse if a document or question is one of this run; may be given several times",
    )
    add("--allow-eval", action="store_true", help="take rows of the eval split too")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments, build, print the table, write."""
    parser = _parser()
    args = parser.parse_args(argv)
    for name in ("max_seq", "per_document"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(args, name)}")
    settings = Settings(args.max_seq, args.recovered, args.per_document, args.allow_eval)
    try:
        chat = load_chat(args.tokenizer) if args.tokenizer else None
        samples, tally, built = build(args.runs, settings, chat)
        for run in args.against:
            refuse_overlap(samples, built, run)
    except (RecordError, ValueError) as error:
        parser.error(str(error))
    print(table(samples, tally))
    if not samples:
        parser.error("nothing is left to train on")
    tokenizer = hashlib.sha256(chat.tokenizer.to_str().encode()).hexdigest() if chat else ""
    header = header_of(samples, built, settings, tokenizer)
    write(args.out, samples, header)
    print(f"{args.out}: {args.out.stat().st_size:,} bytes, rows sha256 {header.sha256[:12]}")
    kept = tally.kept.total()
    if kept < FEW:
        print(
            f"warning: {kept} trajectories are few, {FEW} to 1,000 are asked for: collect more "
            "with pytest benchmarks --rlm-split train --rlm-samples N",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
