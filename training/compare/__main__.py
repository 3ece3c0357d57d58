"""``python -m training.compare``: AdamW against Muon, with the answer in intervals.

First each arm's learning rate is searched for, on documents and with seeds that are not reported.
Then both arms are trained with fresh matched seeds, and asked the benchmark's questions. Killed at
any moment, the same line goes on; report.md, report.json and two plots are at its end in --out.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from rlm.errors import RecordError
from training import samples
from training.compare import bench, lots, plan, plots, report, words
from training.compare.arms import ARMS, Design, repeat, search
from training.compare.bench import Adapters, Exam
from training.compare.lots import CompareError
from training.compare.place import Place, Progress
from training.lora import require_folder
from training.samples import SamplesError
from training.sft import require_out, settings_of
from training.trainer import IGNORED, Settings, SftError, hash_of_files

FACTS = "compare.json"
OURS = (
    *("model", "samples", "out", "optimizer", "lr", "seed", "rank", "epochs"),
    *("validation", "validate-every"),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments and compare."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        _check(args)
        args.out = args.out.resolve()
        compare(args)
    except (CompareError, SftError, SamplesError, RecordError, FileNotFoundError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: interrupted; the same line goes on\n")


def compare(args: argparse.Namespace) -> None:
    """The whole of it, or its plan."""
    options = _options(args)
    settings = settings_of([*options, "--samples", "-", "--out", "-"])
    header, rows = samples.read(args.samples)
    exam = Exam(
        bench.exam_options(args.eval),
        args.eval_adapters,
        args.base,
        Path(settings.model),
        settings.quantization == "nf4",
    )
    train, _, _ = lots.divide(rows, args.select, args.report)
    every = plan.validate_every(len(train), settings, args.validations)
    options = (*options, "--validate-every", str(every))
    rates = {arm: getattr(args, f"{arm}_lrs") for arm in ARMS}
    design = Design(rates, args.grid_seeds, args.seeds, args.extensions, options)
    if args.plan:
        print(plan.told(design, exam, rows, args))
        return
    facts = _facts(args, settings, header.sha256)
    _require_same(args.out, facts)
    place = Place(args.out, args.jobs)
    try:
        _write(args.out / FACTS, facts)
        _work(design, exam, lots.write(args.out, header, rows, (args.select, args.report)), place)
    finally:
        place.close()


def _work(design: Design, exam: Exam, both: tuple[lots.Lot, lots.Lot], place: Place) -> None:
    """Train, ask, and tell."""
    selected, reported = both
    progress = Progress(place.jobs, lambda line: print(line, flush=True))
    grids = search(design, selected, place, progress)
    arms = repeat(design, grids, reported, place, progress)
    asked = bench.examine(exam, arms, place, progress) if exam.options else []
    bench.require_unseen(asked, selected.train)
    facts = json.loads((place.out / FACTS).read_text(encoding="utf-8"))
    told = {"options": shlex.join(exam.all_options), "adapters": exam.adapters}
    data = report.collect(facts, both, arms, asked, told)
    _write(place.out / "report.json", data)
    (place.out / "report.md").write_text(words.markdown(data), encoding="utf-8")
    plots.draw(data, place.out)
    print("\n".join(words.findings(data)))
    print(f"report: {place.out / 'report.md'}")


def _options(args: argparse.Namespace) -> tuple[str, ...]:
    """The options of `training.sft` that all runs have.

    Raises:
        CompareError: one of them is given here, or a quote does not end.
    """
    more = bench.split_options("--sft", args.sft)
    for option in more:
        if option.partition("=")[0] in {f"--{name}" for name in OURS}:
            raise CompareError(f"--sft cannot have {option}: the comparison sets that")
    model = str(require_folder(args.model).resolve())
    own = ["--model", model, "--rank", str(args.rank), "--epochs", repr(args.epochs)]
    return (*own, *more)


def _facts(args: argparse.Namespace, settings: Settings, rows: str) -> dict[str, Any]:
    """What decides the trained arms; the benchmark's options do not, nor does ``--jobs``."""
    varied = (*IGNORED, "optimizer", "lr", "seed", "validation")
    return {
        **{name: value for name, value in asdict(settings).items() if name not in varied},
        "base": hash_of_files(Path(settings.model)),
        "samples": rows,
        **{f"{arm}_lrs": list(getattr(args, f"{arm}_lrs")) for arm in ARMS},
        **{
            name: getattr(args, name)
            for name in ("grid_seeds", "seeds", "extensions", "select", "report", "validations")
        },
    }


def _require_same(out: Path, facts: dict[str, Any]) -> None:
    if not (out / FACTS).exists():
        return
    theirs = json.loads((out / FACTS).read_text(encoding="utf-8"))
    for name, value in facts.items():
        if theirs.get(name) != value:
            raise CompareError(
                f"{out} holds another comparison, with {name} {theirs.get(name)} instead of "
                f"{value}: choose another --out, or delete it"
            )


def _write(path: Path, data: dict[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.part")
    text = json.dumps(data, indent=2, allow_nan=False)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def _check(args: argparse.Namespace) -> None:
    """Refuse numbers that make no sense, and a folder that cannot be one.

    Raises:
        CompareError: says which number.
        SftError: a file is in the folder's place.
    """
    require_out(args.out)
    for name in ("seeds", "grid_seeds", "jobs", "validations"):
        if (value := getattr(args, name)) < 1:
            option = name.replace("_", "-")
            raise CompareError(f"--{option} must be 1 or above, not {value}")
    if args.extensions < 0:
        raise CompareError(f"--extensions must be 0 or above, not {args.extensions}")
    for name in ("select", "report"):
        if not 0 < getattr(args, name) < 1:
            raise CompareError(f"--{name} must be between 0 and 1, not {getattr(args, name)}")
    counts = [len(getattr(args, f"{arm}_lrs")) for arm in ARMS]
    if counts[0] != counts[1]:
        raise CompareError(
            f"{counts[0]} learning rates for adamw and {counts[1]} for muon: give equally many, "
            "or one arm is searched for longer than the other"
        )


def _learning_rates(text: str) -> tuple[float, ...]:
    try:
        rates = tuple(sorted({float(each) for each in text.split(",")}))
    except ValueError:
        rates = ()
    if not rates or not all(0 < rate < float("inf") for rate in rates):
        raise argparse.ArgumentTypeError(f"{text!r} are no learning rates: write 0.002,0.005,0.01")
    return rates


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.compare",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    files, arms, asked, work = map(
        parser.add_argument_group,
        ("what is read and written", "the arms", "the benchmark", "how it is done"),
    )
    need: dict[str, Any] = {"type": Path, "required": True, "default": argparse.SUPPRESS}
    add = files.add_argument
    add("--model", metavar="FOLDER", help="Hugging Face folder of the base", **need)
    add("--samples", metavar="FILE", help="of training.samples", **need)
    add("--out", metavar="FOLDER", help="of this comparison; goes on if there", **need)
    _add_arms(arms)
    _add_exam(asked)
    add = work.add_argument
    add("--jobs", type=int, default=1, help="processes at once, of one thread each")
    add("--plan", action="store_true", help="tell runs, tokens and time, and run nothing")
    return parser


def _add_arms(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--seeds", type=int, default=5, help="fresh seeds of each arm")
    add("--rank", type=int, default=8, help="of the adapters")
    add("--epochs", type=float, default=1.0, help="times that each sample is seen")
    grid: dict[str, Any] = {"type": _learning_rates, "metavar": "A,B"}
    add("--muon-lrs", default="0.002,0.005,0.01,0.02", help="learning rates of Muon", **grid)
    add("--adamw-lrs", default="2e-4,5e-4,1e-3,2e-3", help="as many of AdamW", **grid)
    add("--grid-seeds", type=int, default=1, help="seeds of each point of the grids")
    add("--extensions", type=int, default=4, help="most points by which a grid grows")
    add("--select", type=float, default=0.1, help="share of the documents to choose a rate on")
    add("--report", type=float, default=0.1, help="share of the documents to report on")
    add("--validations", type=int, default=6, help="about how often each run is validated")
    add("--sft", default="", metavar="OPTIONS", help='more of training.sft, as "--alpha 32"')


def _add_exam(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--eval",
        default=bench.OPTIONS,
        metavar="OPTIONS",
        help="of pytest benchmarks; empty asks nothing",
    )
    add(
        "--eval-adapters",
        choices=get_args(Adapters),
        default="all",
        help="all, or of each arm the one of the lowest validation loss",
    )
    add(
        "--base",
        default="",
        metavar="SPEC",
        help="the base as it is shipped, such as embedded/base, whose prompt and window all get; "
        "empty: a GGUF made of --model",
    )


if __name__ == "__main__":
    main()
