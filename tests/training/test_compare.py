"""The comparison for real: the embedded base in NF4, both arms, both ways to end, real cells."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_rel

from rlm.bench import records
from tests.training.tiny import tiny_file, tiny_folder, tiny_samples
from training import samples, sft
from training.compare import __main__ as compare
from training.compare import arms, bench, grid, lots, runs, words
from training.compare import report as collected
from training.compare.lots import CompareError
from training.compare.paired import Pair, over_items, over_seeds
from training.compare.place import Place, Progress
from training.restore import hf_folder
from training.samples import Header
from training.trainer import RESULT, Settings, Trainer, split

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ROOT / "rlm" / "models" / "nano" / "embedded-base.gguf"
SHORT = ("--epochs=0.5", "--seeds=2", "--extensions=0", "--select=0.2", "--report=0.2")
RATES = ("--muon-lrs=0.002,0.01", "--adamw-lrs=0.001,1e30")
CELLS = "--rlm-tasks niah --rlm-arch rlm --rlm-lengths 1k --rlm-depths 50 --rlm-samples 2"
ASKED = ("--eval", CELLS, "--eval-adapters", "best")

pytestmark = pytest.mark.filterwarnings(  # PEFT asks transformers 5 for it
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
)


@pytest.fixture(scope="module")
def given_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folder of the base, and a file of two dozen samples."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("given")
    return hf_folder(SHIPPED, out / "base"), tiny_file(out / "samples.jsonl.gz")


def line(files: tuple[Path, Path], out: Path, *more: str) -> list[str]:
    told = ["--model", str(files[0]), "--samples", str(files[1]), "--out", str(out)]
    return [*told, *SHORT, *RATES, "--jobs=2", "--base=embedded/base", *more]


@pytest.fixture(scope="module")
def done(given_files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole comparison, one rate of which diverges."""
    out = tmp_path_factory.mktemp("compared") / "out"
    compare.main(line(given_files, out, *ASKED))
    return out


def report(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "report.json").read_text(encoding="utf-8")))


def without_clock(data: Any) -> Any:
    """The same without seconds, which differ from one time to the next."""
    if isinstance(data, dict):
        kept = {k: v for k, v in data.items() if k not in ("seconds", "rate", "spec")}
        return {
            k: [[s, t, loss] for s, t, _, loss in v] if k == "curve" else without_clock(v)
            for k, v in kept.items()
        }
    return [without_clock(each) for each in data] if isinstance(data, list) else data


# -- the grid

losses = st.one_of(st.floats(0.01, 10), st.just(math.inf))
rates = st.lists(st.floats(1e-5, 1), min_size=1, max_size=8, unique=True)


@st.composite
def points(draw: st.DrawFn) -> dict[float, float]:
    return {rate: draw(losses) for rate in draw(rates)}


@given(found=points())
def test_a_grid_grows_by_a_new_rate_outside(found: dict[float, float]) -> None:
    more = grid.beyond(found)
    assert more in (min(found) / 2, max(found) * 2)
    if all(map(math.isinf, found.values())):
        assert more < min(found)


@given(found=points())
def test_on_an_edge_it_grows_beyond_that_edge(found: dict[float, float]) -> None:
    best = grid.best(found)
    if len(found) > 1 and math.isfinite(found[best]):
        if best == min(found):
            assert grid.beyond(found) < best
        if best == max(found):
            assert grid.beyond(found) > best


@given(
    count=st.integers(1, 6),
    wells=st.tuples(st.floats(-12, 2), st.floats(-12, 2)),
    limit=st.integers(0, 30),
)
def test_arms_grow_alike_until_both_are_interior(
    count: int, wells: tuple[float, float], limit: int
) -> None:
    """Each loss has one lowest point somewhere; the grids begin beside it."""

    def loss(rate: float, well: float) -> float:
        return abs(math.log2(rate) - well)

    both = {
        arm: {2.0**-n: loss(2.0**-n, well) for n in range(3, 3 + count)}
        for arm, well in zip(("adamw", "muon"), wells, strict=True)
    }
    left = limit
    while more := grid.extended(both, left):
        for (arm, rate), well in zip(more.items(), wells, strict=True):
            assert rate not in both[arm]
            both[arm][rate] = loss(rate, well)
        left -= 1
    assert len({len(found) for found in both.values()}) == 1
    assert len(both["muon"]) == count + limit - left
    if left:
        assert all(grid.is_interior(found) for found in both.values())
    if limit == 30:  # far enough from anywhere
        assert left


def test_a_rate_that_diverged_is_a_worse_one() -> None:
    assert grid.is_interior({0.1: 2.0, 0.2: 1.0, 0.4: math.inf})
    assert not grid.is_interior({0.1: math.inf, 0.2: math.inf, 0.4: math.inf})
    assert grid.best({0.1: 1.0, 0.2: 1.0}) == 0.1


# -- the lots


@property_settings(max_examples=30)
@given(count=st.integers(1, 60), select=st.floats(0.05, 0.4), share=st.floats(0.05, 0.4))
def test_no_document_is_in_two_lots(count: int, select: float, share: float) -> None:
    made = tiny_samples(count)
    try:
        parts = lots.divide(made, select, share)
    except CompareError:
        assert len({s.document for s in made}) < 16
        return
    documents = [{sample.document for sample in part} for part in parts]
    assert sum(map(len, documents)) == len(set.union(*documents))
    assert sorted(s.cell for part in parts for s in part) == sorted(s.cell for s in made)
    assert [set(d) for d in documents] == [
        {s.document for s in part} for part in lots.divide(made[::-1], select, share)
    ]


@property_settings(max_examples=20)
@given(count=st.integers(12, 60), select=st.floats(0.1, 0.4), share=st.floats(0.1, 0.4))
def test_the_loop_holds_out_what_the_lot_says(
    count: int, select: float, share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = tiny_samples(count)
    header = samples.part_of(Header((), (), "", {}, 0, ""), made)
    out = tmp_path_factory.mktemp("lots")
    both = lots.write(out, header, made, (select, share))
    train, *validation = lots.divide(made, select, share)
    for lot, held in zip(both, validation, strict=True):
        assert split(samples.read(lot.file)[1], float(repr(lot.share))) == (train, held)


# -- the statistics


@given(
    left=st.lists(st.integers(1, 999).map(lambda n: n / 256), min_size=3, max_size=9),
    noise=st.lists(st.integers(-256, 256).map(lambda n: n / 256), min_size=9, max_size=9),
)
def test_the_interval_over_seeds_is_that_of_the_paired_t_test(
    left: list[float], noise: list[float]
) -> None:
    right = [a + b for a, b in zip(left, noise, strict=False)]
    found = over_seeds(left, right)
    if len(set(found.differences)) == 1:
        return
    ends = ttest_rel(right, left).confidence_interval(0.95)
    assert found.estimate.value == pytest.approx(fmean(right) - fmean(left), abs=1e-9)
    assert (found.estimate.low, found.estimate.high) == pytest.approx(tuple(ends), rel=1e-6)
    if tosses := found.wins + found.losses:
        assert found.sign == pytest.approx(binomtest(found.wins, tosses).pvalue)


def test_five_seeds_cannot_give_a_sign_test_below_one_sixteenth() -> None:
    found = over_seeds([1.0] * 5, [0.5, 0.6, 0.7, 0.8, 0.9])
    assert (found.wins, found.losses, found.sign, found.least) == (5, 0, 0.0625, 0.0625)
    assert over_seeds([1.0], [0.5]).estimate.high == math.inf


def test_over_items_several_seeds_of_an_item_are_one_vote() -> None:
    """Item 0: two of three seeds won. Item 1: one won, one lost. Item 2: lost once."""
    table = {0: ("01", "01", "00"), 1: ("01", "10", "11"), 2: ("11", "10", "11")}
    found = over_items(
        [
            Pair(item, seed, int(a), int(b))
            for item, row in table.items()
            for seed, (a, b) in enumerate(row)
        ]
    )
    assert (found.items, found.seeds, found.wins, found.losses, found.p) == (3, 3, 1, 1, 1.0)
    assert found.estimate.value == pytest.approx(1 / 9)
    assert found.estimate.low < 0 < found.estimate.high


def test_the_bootstrap_has_the_width_of_theory_and_sees_seeds() -> None:
    """300 items, one seed: that of a mean. If the seeds disagree it is far wider."""
    one = [Pair(i, 0, i % 2, i % 3 == 0) for i in range(300)]
    found = over_items(one).estimate
    spread = [p.right - p.left for p in one]
    error = math.sqrt(sum((d - fmean(spread)) ** 2 for d in spread)) / len(spread)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.06)
    alike = over_items([Pair(i, s, i % 2, i % 3 == 0) for i in range(300) for s in range(4)])
    apart = over_items([Pair(i, s, 0, s % 2) for i in range(300) for s in range(4)])
    assert alike.estimate.high - alike.estimate.low == pytest.approx(
        found.high - found.low, rel=0.1
    )
    assert apart.estimate.high - apart.estimate.low > 0.8


def test_items_that_all_agree_prove_little() -> None:
    found = over_items([Pair(i, 0, 0, 1) for i in range(9)])
    assert (found.wins, found.p) == (9, pytest.approx(2 / 2**9))
    assert found.estimate.low < 0.75


# -- the whole


def test_the_report_says_what_the_runs_say(done: Path) -> None:
    """Numbers taken from the runs' own files, by other means."""
    data = report(done)
    ends = {}
    for arm, rate in (("adamw", 0.001), ("muon", data["grid"]["muon"]["best"])):
        for seed in (1, 2):
            file = done / "seeds" / f"{arm}-{rate:g}-s{seed}" / RESULT
            ends[arm, seed] = json.loads(file.read_text())
    told = [
        [ends[arm, seed]["evaluations"][-1]["loss"] for seed in (1, 2)] for arm in ("adamw", "muon")
    ]
    paired = data["paired"]
    interval = ttest_rel(told[1], told[0]).confidence_interval(0.95)
    assert paired["difference"][1:] == pytest.approx(list(interval))
    assert paired["differences"] == pytest.approx([b - a for a, b in zip(*told, strict=True)])
    assert paired["wins"] == sum(b < a for a, b in zip(*told, strict=True))
    for arm in ("adamw", "muon"):
        for run in data["seeds"][arm]:
            result = ends[arm, run["seed"]]
            assert (run["delta"], run["tokens"]) == (result["delta"], result["tokens"])
            assert run["curve"][-1][1] == result["tokens"]
            assert len(run["curve"]) == len(result["evaluations"]) > 2


def test_the_arms_match_and_the_lots_are_apart(done: Path) -> None:
    data = report(done)
    for one, other in zip(data["seeds"]["adamw"], data["seeds"]["muon"], strict=True):
        assert one["hashes"] == other["hashes"]
        assert len(one["hashes"]) == len(runs.MATCHED)
    seeds = [run["hashes"] for run in data["seeds"]["muon"]]
    assert seeds[0]["order"] != seeds[1]["order"]
    assert seeds[0]["initial_adapter"] != seeds[1]["initial_adapter"]
    chosen = data["grid"]["muon"]["points"][0]["runs"][0]["hashes"]
    assert chosen["validation"] != seeds[0]["validation"]
    assert chosen["samples"] == seeds[0]["samples"]


def test_a_rate_that_diverges_is_a_row(done: Path) -> None:
    told = report(done)["grid"]["adamw"]
    lost = next(point for point in told["points"] if point["lr"] == 1e30)
    assert lost["loss"] is None
    assert re.match(r"diverged at step \d+: loss", lost["runs"][0]["diverged"])
    assert told["best"] == 0.001
    assert "AdamW diverged in 1 of 2 runs of its grid." in (done / "report.md").read_text()


def test_the_models_were_asked_the_same_real_questions(done: Path) -> None:
    """The bases, and of each arm the seed of the lowest loss."""
    data = report(done)
    best = [min(data["seeds"][arm], key=lambda run: run["loss"]) for arm in ("adamw", "muon")]
    names = [model["name"] for model in data["models"]]
    assert names == ["base", "base-nf4", *(run["name"] for run in best)]
    folder = next(path for path in (done / "eval").iterdir())
    for model in data["models"]:
        cells = records.load(folder / model["name"])
        assert [cell.verdict in ("error", "crashed") for cell in cells] == [False, False]
        assert model["correct"] == sum(cell.verdict == "correct" for cell in cells)
        assert model["iterations"] == fmean(cell.iterations for cell in cells)
        assert {cell.model.prompt for cell in cells} == {"compact"}
        assert {cell.model.window for cell in cells} == {4096}
    right = {model["arm"]: model["correct"] for model in data["models"]}
    bases = ("base", "base-nf4")
    assert {(row["left"], row["right"]) for row in data["items"]} == {
        bases,
        *((base, arm) for base in bases for arm in ("adamw", "muon")),
        ("adamw", "muon"),
    }
    for row in data["items"]:
        won = right[row["right"]] - right[row["left"]]
        assert row["difference"][0] == pytest.approx(won / 2)
        assert (row["items"], row["seeds"]) == (2, 1)
        assert row["p"] <= row["p_holm"] <= 1


def test_several_seeds_of_an_arm_are_paired_with_those_of_the_other(done: Path) -> None:
    """Real cells, their verdicts set: AdamW right once, Muon in all but once; the base never."""
    folder = next(path for path in (done / "eval").iterdir()) / "base"
    real = records.load(folder)

    def asked(arm: str, seed: int | None, *verdicts: str) -> bench.Asked:
        cells = (replace(c, verdict=v) for c, v in zip(real, verdicts, strict=True))
        return bench.Asked(bench.Subject(f"{arm}{seed}", arm, seed, ""), tuple(cells), folder)

    rows = collected._items(
        [
            asked("base", None, "wrong", "wrong"),
            asked("adamw", 1, "wrong", "correct"),
            asked("adamw", 2, "wrong", "wrong"),
            asked("muon", 1, "correct", "correct"),
            asked("muon", 2, "timeout", "correct"),
        ],
        "rlm",
    )
    found = {(row["left"], row["right"]): row for row in rows}
    assert set(found) == {("base", "adamw"), ("base", "muon"), ("adamw", "muon")}
    assert [found["base", arm]["difference"][0] for arm in ("adamw", "muon")] == [0.25, 0.75]
    both = found["adamw", "muon"]
    assert (both["items"], both["seeds"], both["wins"], both["losses"]) == (2, 2, 2, 0)
    assert both["difference"][0] == 0.5


def test_the_base_in_nf4_is_what_the_adapters_were_trained_on(done: Path) -> None:
    """And neither is the base as shipped."""
    facts = json.loads((done / "merged" / "base-nf4" / "merge.json").read_text())
    assert (facts["onto"], facts["effect"]) == ("dequantised", 0.0)
    digests = [model["digest"] for model in report(done)["models"]]
    assert len(set(digests)) == len(digests)


def test_its_pages_are_there(done: Path) -> None:
    text = (done / "report.md").read_text(encoding="utf-8")
    for name in re.findall(r"\]\((\w+\.png)\)", text):
        assert (done / name).read_bytes().startswith(b"\x89PNG")
    assert text.count("|") > 50
    assert "None" not in text


def test_a_finished_comparison_is_told_again(
    given_files: tuple[Path, Path], done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("report.json", "report.md", "loss.png", "rates.png")
    before = [(done / name).read_bytes() for name in files]
    compare.main(line(given_files, done, *ASKED))
    assert [(done / name).read_bytes() for name in files] == before
    assert "[seeds 4/4]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("--seeds=3", "seeds 2 instead of 3"),
        ("--rank=4", "rank 8 instead of 4"),
        ("--muon-lrs=0.002,0.02", r"muon_lrs \[0.002, 0.01\] instead of \[0.002, 0.02\]"),
        ("--sft=--clip 2", "clip 1.0 instead of 2.0"),
    ],
)
def test_another_comparison_in_the_folder_is_refused(
    change: str,
    told: str,
    given_files: tuple[Path, Path],
    done: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        compare.main(line(given_files, done, change))
    assert ended.value.code == 2
    assert re.search(rf"holds another comparison, with {told}: choose", capsys.readouterr().err)


def test_killed_in_the_middle_it_ends_the_same(
    given_files: tuple[Path, Path], done: Path, tmp_path: Path
) -> None:
    """SIGKILL of the comparison alone, in its last training; the next one waits for what is left.

    What was done before is a copy, but for that training.
    """
    out = tmp_path / "killed"
    last = report(done)["seeds"]["muon"][-1]["name"]
    left_out = shutil.ignore_patterns(last, "eval", "merged", "report.*", "*.png")
    shutil.copytree(done, out, ignore=left_out)
    shutil.copy(done / "report.jsonl.gz", out)
    command = [sys.executable, "-m", "training.compare", *line(given_files, out, "--eval", "")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet) as child:
        deadline = time.monotonic() + 600
        while not (out / "seeds" / last / "log.jsonl").exists():
            assert child.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
    assert not (out / "seeds" / last / RESULT).exists()
    compare.main(line(given_files, out, "--eval", ""))
    again, straight = (without_clock(report(folder)) for folder in (out, done))
    for part in ("settings", "lots", "grid", "seeds", "paired"):
        assert again[part] == straight[part], part


def test_a_merged_model_is_that_of_its_adapter(
    given_files: tuple[Path, Path], tmp_path: Path
) -> None:
    """Guards adapters that were trained anew under the name of a run that was merged."""
    out = tmp_path / "merged" / "x"
    adapter = tmp_path / "adapter"
    bench._write_zero(given_files[0], adapter)
    exam = bench.Exam((), "best", "", given_files[0], True)
    place = Place(tmp_path, 1)
    spec, first = bench._merged("x", adapter, "original", exam, place)
    (out / "mark").touch()
    assert bench._merged("x", adapter, "original", exam, place) == (spec, first)
    assert (out / "mark").exists()
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text() + "\n")
    spec, other = bench._merged("x", adapter, "original", exam, place)
    place.close()
    assert first != other
    assert not (out / "mark").exists()


def test_cells_are_asked_again_of_another_adapter(tmp_path: Path) -> None:
    run, marker = tmp_path / "x", tmp_path / "x.done.json"
    subject = bench.Subject("x", "muon", 1, "gguf/x", "a")
    assert not bench._was_asked(run, marker, subject)
    marker.write_text(json.dumps({"spec": "gguf/x", "adapter": "a", "code": 0}))
    assert not bench._was_asked(run, marker, subject)  # the run was deleted
    run.mkdir()
    assert bench._was_asked(run, marker, subject)
    assert not bench._was_asked(run, marker, replace(subject, adapter="b"))
    assert not run.exists()
    assert not marker.exists()


def test_a_run_that_diverged_has_the_hashes_of_its_checkpoint(tmp_path: Path) -> None:
    made, out = tiny_samples(), tmp_path / "out"
    options = Settings(str(tiny_folder(tmp_path / "tiny")), epochs=1, quantization="none")
    trainer = Trainer(out, options, made)
    run, stopped = runs.Run("adamw", 1.0, 0), {"why": "diverged at step 30: loss nan"}
    assert runs._stopped(run, out, stopped).hashes == {}
    trainer.save()
    found = runs._stopped(run, out, stopped)
    assert found.hashes == {name: trainer.facts[name] for name in runs.MATCHED}
    assert found.diverged == stopped["why"]


# -- what is refused


def outcomes(done: Path) -> arms.Arms:
    """Those of the finished comparison, read from its folders."""
    found: dict[Any, tuple[runs.Outcome, ...]] = {"adamw": (), "muon": ()}
    for arm in found:
        for folder in sorted((done / "seeds").glob(f"{arm}-*")):
            result = json.loads((folder / RESULT).read_text())
            own = result["settings"]
            run = runs.Run(arm, own["lr"], own["seed"])
            found[arm] += (runs._finished(run, folder, result),)
    return arms.Arms({}, found)


def test_a_grid_that_diverged_altogether_is_refused(done: Path) -> None:
    lost = replace(outcomes(done).seeds["adamw"][0], diverged="diverged at step 3")
    design = arms.Design({"adamw": (0.1,), "muon": (0.1,)}, 2, 2, 0, ())
    lot = lots.Lot(done / "report.jsonl.gz", 0.1, (), ())
    place, progress = Place(done.parent / "other", 1), Progress(1, print)
    with pytest.raises(CompareError, match=r"adamw diverged at each of its learning rates, 0\.001"):
        arms.repeat(design, {"adamw": (lost,), "muon": (lost,)}, lot, place, progress)
    place.close()


@pytest.mark.parametrize("name", runs.MATCHED)
def test_arms_that_do_not_match_are_refused(name: str, done: Path) -> None:
    real = outcomes(done)
    arms.require_match(real)
    odd = replace(real.seeds["muon"][1], hashes={**real.seeds["muon"][1].hashes, name: "f" * 64})
    with pytest.raises(CompareError, match=rf"do not match: {name} \w+ and f{{12}}; delete"):
        arms.require_match(arms.Arms({}, {**real.seeds, "muon": (real.seeds["muon"][0], odd)}))


def test_a_run_of_other_settings_is_refused(
    given_files: tuple[Path, Path], done: Path, tmp_path: Path
) -> None:
    folder = next((done / "seeds").glob("muon-*"))
    own = json.loads((folder / RESULT).read_text())["settings"]
    lot = lots.Lot(done / "report.jsonl.gz", own["validation"], (), ())
    run = runs.Run("muon", own["lr"], own["seed"])
    options = ("--model", own["model"], "--rank", "8", "--epochs", "0.5")
    assert runs.outcome(run, folder, runs.line(run, lot, folder, options)) is not None
    with pytest.raises(CompareError, match=r"a run with dropout 0\.05 instead of 0\.1"):
        runs.outcome(run, folder, runs.line(run, lot, folder, (*options, "--dropout", "0.1")))


@pytest.mark.parametrize(
    ("change", "other"),
    [
        (lambda cells: cells[:1], "cells"),
        (lambda cells: [replace(c, model=replace(c.model, window=2048)) for c in cells], "windows"),
        (
            lambda cells: [replace(c, model=replace(c.model, prompt="full")) for c in cells],
            "prompts",
        ),
    ],
)
def test_runs_that_were_asked_otherwise_are_refused(
    change: Callable[[list[records.Record]], list[records.Record]], other: str, done: Path
) -> None:
    folder = next(path for path in (done / "eval").iterdir()) / "base"
    cells = records.load(folder)
    subject = bench.Subject("base", "base", None, "embedded/base")
    same = bench.Asked(subject, tuple(cells), folder)
    bench.require_same_questions([same, same])
    with pytest.raises(CompareError, match=f"have other {other}"):
        bench.require_same_questions([same, bench.Asked(subject, tuple(change(cells)), folder)])


def test_answers_of_two_models_in_one_run_are_refused(done: Path) -> None:
    folder = next(path for path in (done / "eval").iterdir()) / "base"
    first, *rest = records.load(folder)
    mixed = (replace(first, model=replace(first.model, digest="sha256:other")), *rest)
    subject = bench.Subject("base", "base", None, "embedded/base")
    with pytest.raises(CompareError, match="holds the answers of two models: delete it"):
        bench.require_same_questions([bench.Asked(subject, mixed, folder)])


def test_a_document_that_was_trained_on_is_refused(done: Path) -> None:
    folder = next(path for path in (done / "eval").iterdir()) / "base"
    cells = tuple(records.load(folder))
    asked = [bench.Asked(bench.Subject("base", "base", None, ""), cells, folder)]
    bench.require_unseen(asked, tiny_samples())
    assert cells[0].doc is not None
    seen = replace(tiny_samples(1)[0], document=cells[0].doc.sha256)
    with pytest.raises(CompareError, match="was trained on"):
        bench.require_unseen(asked, [seen])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--model", "absent"), "there is no Hugging Face folder absent"),
        (("--samples", "absent.gz"), "there is no file absent.gz"),
        (("--seeds", "0"), "--seeds must be 1 or above, not 0"),
        (("--extensions", "-1"), "--extensions must be 0 or above, not -1"),
        (("--select", "1"), "--select must be between 0 and 1, not 1.0"),
        (("--report", "0.01"), "12 documents leave 10, 2, 0 to train, select and report on"),
        (("--muon-lrs", "0.1"), "2 learning rates for adamw and 1 for muon: give equally many"),
        (("--muon-lrs", "0.1,no"), "'0.1,no' are no learning rates"),
        (("--sft", "--seed 3"), "--sft cannot have --seed: the comparison sets that"),
        (("--sft", "--validate-every 3"), "--sft cannot have --validate-every: the comparison"),
        (("--sft", "--see 3"), "unrecognized arguments: --see 3"),
        (("--sft", "--scale 'none"), "is no list of options: No closing quotation"),
        (("--eval", "--rlm-arch 'rlm"), "is no list of options: No closing quotation"),
        (("--see", "3"), "unrecognized arguments: --see 3"),
        (("--sft", "--clip -1"), "--clip must be above 0, not -1.0"),
        (("--eval", "--rlm-run x"), "--eval cannot have --rlm-run"),
    ],
)
def test_what_cannot_run_says_why(
    change: tuple[str, str],
    message: str,
    given_files: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        compare.main([*line(given_files, tmp_path / "out"), *change])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_its_folder_is_refused(
    given_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "out"
    taken.write_text("mine")
    for out in (taken, taken / "below"):
        for main, asked in ((compare.main, line(given_files, out)), (sft.main, sft_line(out))):
            with pytest.raises(SystemExit) as ended:
                main(asked)
            assert ended.value.code == 2
            told = capsys.readouterr().err
            assert f"error: --out {out}: {taken} is a file; name a folder, which is made" in told
    assert taken.read_text() == "mine"


def sft_line(out: Path) -> list[str]:
    return ["--model", "absent", "--samples", "absent", "--out", str(out)]


def test_the_plan_counts_runs_and_makes_none(
    given_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare.main(line(given_files, tmp_path / "out", "--plan", "--extensions=3"))
    told = capsys.readouterr().out
    assert "grid: 4 runs, up to 10 if" in told
    assert "seeds: 4 runs, 1, 2 of each arm" in told
    assert "all: 8 to 14 runs" in told
    assert "benchmark: 6 models" in told
    assert not (tmp_path / "out").exists()


# -- the sentences


def row(value: float, low: float, high: float, p: float, *sides: str) -> dict[str, Any]:
    told = {"architecture": "rlm", "left": sides[0], "right": sides[1], "items": 200, "seeds": 5}
    return told | {"difference": [value, low, high], "wins": 60, "losses": 10, "p": p, "p_holm": p}


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (row(0.25, 0.2, 0.3, 0.001, "base-nf4", "muon"), "at p < 0.01 is reached."),
        (row(0.1, 0.05, 0.2, 0.001, "base-nf4", "muon"), "at p < 0.01 is not reached."),
        (row(0.3, 0.1, 0.4, 0.02, "base-nf4", "muon"), "at p < 0.01 is not reached."),
        (row(0.1, -0.1, 0.2, 0.3, "base", "adamw"), "no effect is shown: the interval holds 0."),
        (row(-0.3, -0.4, -0.1, 0.001, "base", "adamw"), "not reached, the effect is a loss."),
    ],
)
def test_a_gain_is_told_as_it_is(told: dict[str, Any], says: str) -> None:
    assert words._of_gain(told).endswith(says)


def test_the_arms_are_told_apart_only_where_the_interval_does() -> None:
    assert "Muon answers more" in words._of_arms(row(0.2, 0.1, 0.3, 0.001, "adamw", "muon"))
    assert "AdamW answers more" in words._of_arms(row(-0.2, -0.3, -0.1, 0.001, "adamw", "muon"))
    assert "no difference" in words._of_arms(row(0.2, -0.1, 0.3, 0.2, "adamw", "muon"))
    assert words._meant(-0.1, -0.2, -0.05, 5).startswith("Muon has the lower loss")
    assert words._meant(0.1, 0.05, 0.2, 5).startswith("AdamW has the lower loss")
    assert words._meant(0.1, -0.1, 0.2, 5).startswith("No difference is shown")
    assert "0.1500 for 5 seeds" in words._meant(0.1, -0.1, 0.2, 5)
