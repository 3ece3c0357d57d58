"""``python -m training.sft``: supervised fine-tuning of a root model on its own good trajectories.

LoRA on a base in NF4 (QLoRA), by AdamW or by Muon. One seed gives one run, bit for bit on a CPU:
the adapter's first weights, the order of the samples, dropout. A run that was killed goes on where
its last checkpoint is, and ends as if nothing had happened; start it again with the same line.
``torchrun --nproc-per-node N -m training.sft`` shares each step among N processes, each with a card
of its own or a thread of the CPU: the same steps, but for the order in which numbers are added.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

import torch

from training import memory, samples
from training.lora import Quantization, require_folder
from training.optim import Backend, Scale
from training.samples import Sample, SamplesError
from training.trainer import (
    ADAPTER,
    LEARNING_RATES,
    Diverged,
    Optimizer,
    Settings,
    SftError,
    Trainer,
)
from training.workers import Workers, started_by_torchrun

DIVERGED: Final = 3
"""Exit code of a run that diverged, which is a result; 2 is one that could not begin or go on."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.sft",
        description=__doc__,
        epilog="Both arms of a comparison: the same line with --optimizer adamw and muon, and one "
        "seed, begin with the same adapter and see the same samples in the same order; result.json "
        "holds the hashes that show it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    own = Settings("")
    _add_files(parser.add_argument_group("what is read and written"))
    _add_arm(parser.add_argument_group("how it learns"), own)
    _add_machine(parser.add_argument_group("what it takes"), own)
    return parser


def _add_files(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--model",
        required=True,
        default=argparse.SUPPRESS,
        metavar="FOLDER",
        help="Hugging Face folder of the base",
    )
    add(
        "--samples",
        type=Path,
        required=True,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="of training.samples",
    )
    add(
        "--out",
        type=Path,
        required=True,
        default=argparse.SUPPRESS,
        metavar="FOLDER",
        help="of this run; goes on if there",
    )


def _add_arm(group: argparse._ArgumentGroup, own: Settings) -> None:
    add = group.add_argument
    add("--optimizer", choices=get_args(Optimizer), default=own.optimizer, help="the arm")
    add(
        "--lr",
        type=float,
        default=argparse.SUPPRESS,
        help="peak learning rate (default: 2e-4 of adamw, 5e-3 of muon)",
    )
    add("--rank", type=int, default=own.rank, help="of the adapter; the study used 8 and 16")
    add("--alpha", type=float, default=own.alpha, help="scale of the adapter is alpha / rank")
    add("--dropout", type=float, default=own.dropout, help="before the adapter")
    add("--seed", type=int, default=own.seed, help="of the adapter, the order and dropout")
    add("--epochs", type=float, default=own.epochs, help="times that each sample is seen")
    add("--accumulation", type=int, default=own.accumulation, help="samples of one step")
    add("--warmup", type=float, default=own.warmup, help="share of the steps; then a cosine")
    add("--clip", type=float, default=own.clip, help="largest norm of the gradient")
    add("--weight-decay", type=float, default=own.weight_decay, help="decoupled, of both arms")
    add("--scale", choices=get_args(Scale), default=own.scale, help="of Muon's steps, by shape")
    add(
        "--backend",
        choices=get_args(Backend),
        default=own.backend,
        help="of Muon: five "
        "Newton-Schulz steps, or the exact polar factor, which treats all ranks alike",
    )
    add("--validation", type=float, default=own.validation, help="share of the documents held out")


def _add_machine(group: argparse._ArgumentGroup, own: Settings) -> None:
    add = group.add_argument
    add(
        "--quantization",
        choices=get_args(Quantization),
        default=own.quantization,
        help="of the base; nf4 is QLoRA",
    )
    add(
        "--checkpointing",
        choices=("auto", "on", "off"),
        default="auto",
        help="make activations again in the backward pass; auto: on a card",
    )
    add("--device", default="cuda:0" if torch.cuda.is_available() else "cpu", help="where to train")
    add(
        "--memory",
        type=float,
        default=argparse.SUPPRESS,
        metavar="GIB",
        help="refuse a run that takes more (default: what is free)",
    )
    add("--threads", type=int, default=1, help="of the CPU; two are slower on busy machines")
    add("--save-every", type=int, default=own.save_every, help="steps between checkpoints")
    add(
        "--validate-every",
        type=int,
        default=own.validate_every,
        help="steps between validations; 0: one after each epoch",
    )


def _settings(args: argparse.Namespace) -> Settings:
    """The settings that the arguments ask for.

    Raises:
        SftError: a number makes no sense.
    """
    given = {"lr": LEARNING_RATES[args.optimizer], **vars(args)}
    values = {name: given[name] for name in Settings.__slots__}
    values["checkpointing"] = {"on": True, "off": False, "auto": args.device != "cpu"}[
        args.checkpointing
    ]
    for name in ("lr", "rank", "alpha", "epochs", "accumulation", "clip", "save_every"):
        if not 0 < values[name] < math.inf:
            raise SftError(f"--{name.replace('_', '-')} must be above 0, not {values[name]}")
    if values["validate_every"] < 0:
        raise SftError(f"--validate-every must be 0 or above, not {values['validate_every']}")
    if not 0 <= values["weight_decay"] < math.inf:
        raise SftError(f"--weight-decay must be 0 or above, not {values['weight_decay']}")
    if args.threads < 1:
        raise SftError(f"--threads must be 1 or above, not {args.threads}")
    for name in ("dropout", "warmup", "validation"):
        if not 0 <= values[name] < 1:
            raise SftError(f"--{name} must be from 0 to below 1, not {values[name]}")
    return Settings(**values)


def settings_of(argv: Sequence[str]) -> Settings:
    """The settings of a command line of this module.

    Raises:
        SftError: a number makes no sense.
    """
    return _settings(_parser().parse_args(argv))


def require_out(out: Path) -> None:
    """Raise `SftError` where `out` cannot be a folder, because a file is in its place."""
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise SftError(f"--out {out}: {path} is a file; name a folder, which is made")


def _require_device(name: str) -> None:
    """Raise `SftError` where `name` is no device of this machine, as this torch sees it."""
    if name == "cpu":
        return
    kind, _, number = name.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise SftError(f"--device {name} is no device to train on: give cpu, or a card as cuda:0")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or "0") >= count:
        cards = f"{count} card{'s' if count > 1 else ''}, from cuda:0 on" if count else "no card"
        raise SftError(
            f"--device {name}: this torch sees {cards}; use --device cpu, or a torch with CUDA on "
            "a machine that has the card"
        )


def _needed(settings: Settings, rows: Sequence[Sample]) -> memory.Memory:
    return memory.estimate(
        Path(settings.model),
        settings.adapter,
        settings.quantization,
        tokens=max(len(sample.ids) for sample in rows),
        learned=max(sample.supervised for sample in rows),
        moments=2 if settings.optimizer == "adamw" else 1,
        checkpointing=settings.checkpointing,
        device=settings.device,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments and train."""
    parser = _parser()
    args = parser.parse_args(argv)
    who = parser.prog
    try:
        require_out(args.out)
        _require_device(args.device)
        with started_by_torchrun(args.device) as workers:
            if workers.count > 1:
                who += f" (process {workers.rank} of {workers.count})"
            _train(args, workers)
    except Diverged as error:
        parser.exit(DIVERGED, f"{who}: {error}\n")
    except (SftError, SamplesError, FileNotFoundError, MemoryError) as error:
        parser.exit(2, f"{who}: error: {error}\n")


def _train(args: argparse.Namespace, workers: Workers) -> None:
    settings = _settings(args)
    torch.set_num_threads(args.threads)
    require_folder(Path(settings.model))
    _, rows = samples.read(args.samples)
    needed, told = _needed(settings, rows), vars(args).get("memory")
    free = _free(workers.device(settings.device), workers) if told is None else round(told * 2**30)
    if workers.is_first:
        print(f"memory: {needed}", flush=True)
    memory.require(needed, free, settings.device)
    trainer = Trainer(args.out, settings, rows, workers)
    if workers.is_first:
        shared = f", {workers.count} processes" if workers.count > 1 else ""
        print(
            f"{len(trainer.train)} samples, {len(trainer.held)} held out, {trainer.steps} steps, "
            f"at {trainer.progress.step}{shared}",
            flush=True,
        )
    result = trainer.run()
    if workers.is_first:
        print(_told(result, args.out))


def _free(device: str, workers: Workers) -> int | None:
    """Free bytes for one process; those of one machine share its memory, but not a card's."""
    free = memory.available(device)
    return free // workers.neighbours if free is not None and device == "cpu" else free


def _told(result: dict[str, Any], out: Path) -> str:
    """The end of a run in lines."""
    rate = result["tokens"] / max(result["seconds"], 1e-9)
    lines = [
        f"validation at step {row['step']:.0f}: loss {row['loss']:.4f}, "
        f"{100 * row['right']:.0f}% of the replies right"
        for row in result["evaluations"]
    ]
    momentum = "" if result["momentum"] is None else f", momentum {result['momentum']:.3f}"
    lines.append(
        f"{result['steps']} steps, {result['tokens']:,} tokens in {result['seconds']:.0f} s "
        f"({rate:.0f}/s), |dW| {result['delta']:.3f}{momentum}"
    )
    return "\n".join([*lines, f"adapter: {out / ADAPTER}"])


if __name__ == "__main__":
    main()
