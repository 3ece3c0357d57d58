"""From a real run to samples: what is kept, what is masked, and what must never be trained on."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from rlm.bench import records
from rlm.bench.records import Record, Trace
from rlm.errors import RecordError
from rlm.sandbox.base import CellResult
from rlm.trajectory import Cell, ChildRun, Trajectory
from tests.training.collected import MODEL, collect, edited, trajectory
from training import samples
from training.render import load_chat, seen_turns
from training.samples import SamplesError, Settings, build

Both = tuple[Record, Trajectory]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "collected"
    collect(folder)
    assert any(r.verdict == "correct" for r in records.load(folder))
    return folder


def same(record: Record, told: Trajectory) -> Both:
    return record, told


def wrong(record: Record, told: Trajectory) -> Both:
    return replace(record, verdict="wrong"), told


def unfinished(record: Record, told: Trajectory) -> Both:
    return replace(record, ended_by="turns"), told


def vanilla(record: Record, told: Trajectory) -> Both:
    return replace(record, architecture="vanilla"), told


def failing(record: Record, told: Trajectory) -> Both:
    """Its first turn ends with an error."""
    first, *others = told.turns
    cell = Cell("1/0", CellResult("error", error="ZeroDivisionError"))
    return record, replace(told, turns=(replace(first, cells=(cell,)), *others))


def premature(record: Record, told: Trajectory) -> Both:
    """Its first turn gave a FINAL that was rejected."""
    first, *others = told.turns
    return record, replace(told, turns=(replace(first, rejected="no_sub_call"), *others))


def cut(record: Record, told: Trajectory) -> Both:
    """Its first answer ran into the limit."""
    index = next(i for i, call in enumerate(told.calls) if call.kind == "root")
    call = told.calls[index]
    assert call.completion is not None
    call = replace(call, completion=replace(call.completion, finish_reason="length"))
    return record, replace(told, calls=(*told.calls[:index], call, *told.calls[index + 1 :]))


def without_ids(record: Record, told: Trajectory) -> Both:
    """As a server leaves it that gives text alone."""
    bare = (
        replace(c, completion=replace(c.completion, prompt_ids=None, completion_ids=None))
        for c in told.calls
        if c.completion
    )
    return record, replace(told, calls=tuple(bare))


def evaluated(record: Record, told: Trajectory) -> Both:
    return replace(record, split="eval"), told


def test_rendered_ids_are_those_that_the_engine_used(run: Path) -> None:
    """Every prompt of the run; replies too, but where sampling cut a text in an unusual way."""
    chat, same_replies, turns = load_chat(MODEL), 0, 0
    for record in records.load(run):
        told = trajectory(run, record)
        used, rendered = seen_turns(told), seen_turns(told, chat)
        assert used
        assert rendered
        assert [turn.prompt for turn in used] == [turn.prompt for turn in rendered]
        turns += len(used)
        same_replies += sum(a.reply == b.reply for a, b in zip(used, rendered, strict=True))
    assert same_replies > turns / 2


def test_a_row_is_what_the_model_saw_and_wrote(run: Path) -> None:
    kept, tally, built = build([run], Settings(per_document=9))
    correct = {r.key: r for r in built if r.verdict == "correct" and r.ended_by == "final"}
    assert tally.kept.total() + tally.rejected.total() == tally.cells == len(built) == 6
    assert {sample.cell for sample in kept} <= set(correct)
    assert kept
    chat = load_chat(MODEL)
    for sample in kept:
        told = trajectory(run, correct[sample.cell])
        replies = [told.turns[number - 1].reply for number in sample.turns]
        written = [list(sample.ids[begin:end]) for begin, end in sample.targets]
        assert [chat.tokenizer.decode(ids) for ids in written] == replies
        assert all(ids[-1] == chat.end for ids in written)


def test_one_answer_of_a_document_is_kept(run: Path, tmp_path: Path) -> None:
    twice = edited(run, tmp_path / "twice", same, same, same)
    kept, tally, _ = build([twice], Settings())
    assert len(kept) == 1
    assert tally.rejected == {"another answer to the same document": 2}
    assert len(build([twice], Settings(per_document=2))[0]) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (wrong, "verdict wrong"),
        (unfinished, "no FINAL accepted: ended by turns"),
        (vanilla, "architecture vanilla"),
        (failing, "a code cell failed (--recovered keeps these)"),
        (without_ids, "no token ids from this server: give --tokenizer"),
    ],
)
def test_what_is_no_example_is_rejected(
    change: object, reason: str, run: Path, tmp_path: Path
) -> None:
    kept, tally, _ = build([edited(run, tmp_path / "one", change)], Settings())  # type: ignore[arg-type]
    assert (kept, tally.rejected) == ([], {reason: 1})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (premature, "its FINAL was rejected: no_sub_call"),
        (failing, "its code failed: error"),
        (cut, "it was cut off"),
    ],
)
def test_a_bad_turn_is_seen_but_never_learned(
    change: object, reason: str, run: Path, tmp_path: Path
) -> None:
    whole, _, _ = build([edited(run, tmp_path / "whole", same)], Settings())
    changed = edited(run, tmp_path / "changed", change)  # type: ignore[arg-type]
    kept, tally, _ = build([changed], Settings(recovered=True))
    assert tally.masked == {reason: 1}
    assert [s.ids for s in kept] == [s.ids for s in whole if 1 not in s.turns or len(s.turns) > 1]
    assert [n for s in kept for n in s.turns] == [n for s in whole for n in s.turns if n != 1]
    assert sum(s.supervised for s in kept) < sum(s.supervised for s in whole)


def test_the_tokenizer_renders_what_a_server_gave_as_text(run: Path, tmp_path: Path) -> None:
    """Token for token what the engine used; the ids that are there are not looked at."""
    bare = edited(run, tmp_path / "bare", without_ids)
    with_ids = edited(run, tmp_path / "ids", same)
    kept, _, _ = build([bare], Settings(), load_chat(MODEL))
    assert [s.ids for s in kept] == [s.ids for s in build([with_ids], Settings())[0]]


def test_a_long_trajectory_goes_turn_by_turn(run: Path, tmp_path: Path) -> None:
    one = edited(run, tmp_path / "one", same)
    (whole,), _, _ = build([one], Settings())
    kept, tally, _ = build([one], Settings(max_seq=len(whole.ids) - 1))
    assert tally.kept == {"turn by turn: longer than --max-seq in one piece": 1}
    assert tally.masked == {"longer than --max-seq": 1}
    assert [s.turns for s in kept] == [(n,) for n in whole.turns[:-1]]
    assert all(whole.ids[: len(s.ids)] == s.ids for s in kept)


def test_an_eval_row_is_refused(run: Path, tmp_path: Path) -> None:
    """Guards against leakage: one row is enough to refuse the whole."""
    mixed = edited(run, tmp_path / "mixed", same, evaluated)
    with pytest.raises(SamplesError, match="mixed holds 1 rows of the split 'eval'"):
        build([mixed], Settings())
    assert build([mixed], Settings(allow_eval=True))[0]


def test_a_document_or_question_of_an_evaluation_is_refused(run: Path, tmp_path: Path) -> None:
    """Guards against leakage by hash, whatever a row says of its split."""

    def other_document(record: Record, told: Trajectory) -> Both:
        assert record.doc is not None
        return replace(record, doc=replace(record.doc, sha256="0" * 64)), told

    def other(record: Record, told: Trajectory) -> Both:
        return replace(other_document(record, told)[0], question="Another?"), told

    kept, _, built = build([edited(run, tmp_path / "mine", same)], Settings())
    for number, change in enumerate((same, other_document)):
        held = edited(run, tmp_path / f"held{number}", change)
        with pytest.raises(SamplesError, match="1 samples share a document or a question"):
            samples.refuse_overlap(kept, built, held)
    samples.refuse_overlap(kept, built, edited(run, tmp_path / "free", other))


def test_runs_of_different_models_or_prompts_do_not_mix(run: Path, tmp_path: Path) -> None:
    def retrained(record: Record, told: Trajectory) -> Both:
        return replace(record, model=replace(record.model, digest="sha256:1")), told

    def reworded(record: Record, told: Trajectory) -> Both:
        return replace(record, model=replace(record.model, prompt_sha256="2")), told

    mine = edited(run, tmp_path / "mine", same)
    other = edited(run, tmp_path / "other", retrained)
    with pytest.raises(SamplesError, match=r"different models.*give --tokenizer"):
        build([mine, other], Settings())
    assert build([mine, other], Settings(), load_chat(MODEL))[0]
    with pytest.raises(SamplesError, match="different prompts"):
        build([mine, edited(run, tmp_path / "third", reworded)], Settings())


def recursive(record: Record, told: Trajectory) -> Both:
    """Of a run with --rlm-max-depth 2, whose first cell opened a loop."""
    model = replace(record.model, prompt="deep_compact@deep1")
    below = ChildRun(1, 1, 1, 40, "Who?", told, answer="Ann", ended_by="final")
    return replace(record, model=model), replace(told, children=(below,))


def test_runs_whose_prompts_an_option_lengthens_do_not_mix_with_others(
    run: Path, tmp_path: Path
) -> None:
    """Guards one file from two system prompts: the frozen texts have one hash in both."""
    mine = edited(run, tmp_path / "mine", same)
    deep = edited(run, tmp_path / "deep", recursive)
    with pytest.raises(SamplesError, match=r"different prompts.*\+deep1.*build one file for each"):
        build([mine, deep], Settings())
    kept, tally, built = build([deep], Settings())
    assert samples.header_of(kept, built, Settings()).prompts == (
        f"{built[0].model.prompt_sha256}+deep1",
    )
    assert tally.masked["it is of a loop below"] == len(trajectory(deep, built[0]).turns)


def test_rows_that_are_not_learned_may_have_other_prompts(run: Path, tmp_path: Path) -> None:
    """A run with --rlm-max-depth 2 holds vanilla's answers too, which have the frozen prompt."""
    both = edited(run, tmp_path / "both", recursive, vanilla)
    kept, _, built = build([both], Settings())
    assert len(kept) == 1
    assert len(samples.header_of(kept, built, Settings()).prompts) == 1


def test_a_trajectory_that_was_changed_is_refused(run: Path, tmp_path: Path) -> None:
    one = edited(run, tmp_path / "one", same)
    (record,) = records.load(one)
    assert isinstance(record.trace, Trace)
    path = one / record.trace.path
    path.write_text(path.read_text().replace("print", "PRINT"))
    with pytest.raises(RecordError, match=r"cell 0+ of .*: sha256 of .*: see rlm verify .*one"):
        build([one], Settings())


@pytest.mark.parametrize("content", [{"turns": []}, [], {"prompt_version": "1", "calls": [1]}])
def test_a_file_that_holds_no_trajectory_is_refused(
    run: Path, tmp_path: Path, content: object
) -> None:
    one = edited(run, tmp_path / "one", same)
    (record,) = records.load(one)
    trace = records.write_trace(one, record.key, content)  # type: ignore[arg-type]
    lines = (one / "results.jsonl").read_text()
    assert record.trace is not None
    (one / "results.jsonl").write_text(lines.replace(record.trace.sha256, trace.sha256))
    with pytest.raises(RecordError, match=r"json is none: .*: see rlm verify .*one"):
        build([one], Settings())


def test_a_row_without_a_trajectory_is_rejected(run: Path, tmp_path: Path) -> None:
    one = edited(run, tmp_path / "one", same)
    (record,) = records.load(one)
    store = records.Store(tmp_path / "bare")
    store.append(replace(record, trace=None, scores=None))
    store.close()
    assert build([tmp_path / "bare"], Settings())[1].rejected == {"no trajectory": 1}


def test_the_command_writes_what_it_tells(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "samples.jsonl.gz"
    samples.main([str(run), "-o", str(out)])
    told = capsys.readouterr()
    header, rows = samples.read(out)
    kept, _, built = build([run], Settings())
    assert rows == kept
    assert header.models == (built[0].model.digest,)
    assert header.prompts == (built[0].model.prompt_sha256,)
    assert f"of 6 trajectories kept, of {len(kept)} documents: {len(kept)} rows" in told.out
    assert "are few, 500 to 1,000 are asked for" in told.err
    first = out.read_bytes()
    samples.main([str(run), "-o", str(out)])
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["absent"], "there is no run 'absent'"),
        (["RUN", "--max-seq", "0"], "--max-seq must be 1 or more, not 0"),
        (["RUN", "--max-seq", "20"], "nothing is left to train on"),
        (["RUN", "--tokenizer", "absent"], "there is no absent: give a Hugging Face folder"),
        (["RUN", "--against", "RUN"], "share a document or a question"),
    ],
)
def test_what_cannot_be_built_says_why(
    args: list[str], message: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "samples.jsonl.gz"
    with pytest.raises(SystemExit):
        samples.main([str(run) if a == "RUN" else a for a in args] + ["-o", str(out)])
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_damaged_file_is_refused(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples.jsonl.gz"
    samples.main([str(run), "-o", str(out)])
    lines = gzip.decompress(out.read_bytes()).decode().splitlines()
    row = json.loads(lines[1])
    row["ids"][5] += 1
    for content in ([lines[0], json.dumps(row), *lines[2:]], lines[:-1]):
        out.write_bytes(gzip.compress("\n".join(content).encode()))
        with pytest.raises(SamplesError, match="damaged: its rows are not those of its header"):
            samples.read(out)
    header = {**json.loads(lines[0]), "schema": samples.SCHEMA + 1}
    out.write_bytes(gzip.compress(json.dumps(header).encode()))
    with pytest.raises(SamplesError, match="has a schema that is not known here"):
        samples.read(out)
    good = gzip.compress("\n".join(lines).encode())
    odd = (b"", b"no json", b"[]", b'"text"', b"\xff", lines[0].encode() + b"\n[]")
    torn = (good[:-9], good[:40] + bytes(8) + good[48:], b"no gzip", b"")
    for content in (*map(gzip.compress, odd), *torn):
        out.write_bytes(content)
        with pytest.raises(SamplesError, match="holds no samples"):
            samples.read(out)
    with pytest.raises(SamplesError, match="there is no file"):
        samples.read(tmp_path / "absent.gz")
