"""The command `rlm`."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

try:
    from rlm.bench import commands as commands_on_runs
    from rlm.bench.options import typed
    from rlm.clients import FORMS, can_pull, concurrency, connect, pull
    from rlm.errors import ModelNotFound, RLMError, UsageError
    from rlm.limits import Budget
    from rlm.loop import RLM
    from rlm.sandbox import BACKENDS, default_backend
    from rlm.trajectory import Answer, Turn
    from rlm.tree import count, draw, levels, shown
    from rlm.vanilla import VANILLA_OPTIONS, Vanilla
except ImportError:  # the distribution `rlms` writes files of its own over some of these
    from rlm.doctor import clash

    found = clash()[0]
    if found.status == "ok":
        raise
    sys.exit(f"rlm: {found.text}; {found.remedy}")

if TYPE_CHECKING:
    from rich.console import Console

    from rlm.clients.base import Client
    from rlm.doctor import Finding

_ASK: Final = """\
Ask a question about a text file of any length. The model searches the text by writing code, which
runs in a sandbox, and gives its answer on stdout."""

_EXAMPLES: Final = """\
examples:
  rlm ask book.txt "What is the name of the lighthouse keeper?"
      with the small model that comes with this package; nothing else is needed
  pdftotext paper.pdf - | rlm ask - "Which learning rate was best?" --model ollama/qwen3.5:2b
      a PDF from stdin, with a model of a running Ollama server
"""

_DOCTOR: Final = """\
Show what this machine offers, and the remedy for each thing it lacks: the sandboxes that can run a
model's code (each is started once), the model that comes with this package (a short call is made),
an Ollama server, the extras, processor and memory. Nothing is changed, and nothing leaves this
machine but three questions to the Ollama server, if OLLAMA_HOST names one elsewhere."""

_DOCTOR_MORE: Final = """\
what the words mean:
  ok       it is there and works
  note     good to know
  missing  it can be added; the line with -> says how
  problem  it is there and does not work

exit status: 0 if a confined sandbox and the embedded model work, so that this machine can do the
main job; else 1. All that this job does not need (Ollama, a GPU, the extras) may be missing.

examples:
  rlm doctor
  rlm doctor --json --quick
      for a script or a bug report; does not start the model
"""

_GROUPS: Final = {
    "package": "package",
    "machine": "machine",
    "sandbox": "sandbox for the model's code",
    "embedded": "embedded model",
    "ollama": "Ollama (optional)",
    "extras": "extras (optional)",
}
_STYLES: Final = {"ok": "green", "note": "cyan", "missing": "yellow", "problem": "bold red"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status: 0, 1 for an error or no answer, 2 for a value that cannot be used.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # whatever a model writes can be printed
        sys.stdout.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        return run(args)
    except RLMError as error:
        print(f"rlm: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:  # whoever reads, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("rlm: stopped", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlm",
        description="Recursive Language Models: answers from texts longer than any window.",
        epilog="rlm ask --help shows how to ask; rlm doctor shows what this machine can do; "
        "rlm report --help, rlm compare --help: what to do with runs of the benchmark.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_ask(commands)
    _add_doctor(commands)
    commands_on_runs.add(commands)
    return parser


def _add_ask(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    ask = commands.add_parser(
        "ask",
        help="ask a question about a text file",
        description=_ASK,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ask.set_defaults(run=_ask)
    add = ask.add_argument
    add("file", metavar="FILE", help="UTF-8 text; - is stdin")
    add("question", metavar="QUESTION", help="in quotes")
    add("--model", default="embedded", help="; ".join(FORMS.values()) + " (default: embedded)")
    add(
        "--prompt",
        choices=("auto", "full", "compact"),
        default="auto",
        help="system prompt (default: auto, which is compact for embedded models, else full)",
    )
    add("--max-iterations", type=int, default=20, metavar="N", help="most turns (default: 20)")
    add(
        "--sandbox",
        choices=("auto", *BACKENDS),
        default="auto",
        help=f"what confines the model's code (default: auto, which is {default_backend()} here)",
    )
    add(
        "--concurrency",
        type=typed("parse_concurrency"),
        metavar="N",
        help="sub-calls of one batch that run at once, 1 to 64 (default: 1 for models that answer "
        "one after another, which are embedded, gguf/, hf/ and ollama/; else 8)",
    )
    add(
        "--max-depth",
        type=typed("parse_max_depth"),
        default=1,
        metavar="N",
        help="levels of loops, 1 to 8 (default: 1); from 2 on the model's code may open a loop of "
        "its own on a part of the text",
    )
    for name, parser, text in (
        ("calls", "parse_count", "calls of the model"),
        ("tokens", "parse_tokens", "tokens, prompts and answers together (200k is 200,000)"),
        ("minutes", "parse_minutes", "minutes"),
    ):
        what = f"ask for the answer once all loops together have used so many {text}"
        add(f"--max-{name}", type=typed(parser), metavar="N", help=what)
    add("--pull", action="store_true", help="let Ollama pull a model that it does not have")
    add("--record", metavar="DIR", help="keep every call of the model in this folder")
    add("--replay", metavar="DIR", help="answer from such a folder, without the model")
    add(
        "--vanilla",
        action="store_true",
        help="put the whole text into one prompt instead; of the bounds it takes --max-minutes",
    )
    add(
        "--overflow",
        choices=("refuse", "head", "middle", "tail"),
        default="refuse",
        help="with --vanilla, a text that does not fit: refuse it (default), or cut it on purpose; "
        "head keeps the head, tail the tail, middle cuts out the middle and keeps both ends",
    )
    add("--verbose", action="store_true", help="show each turn's code and what it printed")
    add("--trace", action="store_true", help="show at the end each loop and those it opened")
    add("--json", action="store_true", help="print the answer with everything that led to it")


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="show what this machine offers, and how to get what it lacks",
        description=_DOCTOR,
        epilog=_DOCTOR_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.set_defaults(run=_doctor)
    doctor.add_argument("--quick", action="store_true", help="do not start the embedded model")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")


def _ask(args: argparse.Namespace) -> int:
    document = _read(args.file)
    if not document.strip():
        raise UsageError(f"{_name(args.file)} is empty; give a file with text")
    if not args.question.strip():
        raise UsageError('the question is empty; put it in quotes: rlm ask FILE "Who …?"')
    if args.overflow != "refuse" and not args.vanilla:
        raise UsageError(
            f"--overflow {args.overflow} cuts a text that stands in the prompt: add --vanilla, or "
            "leave it out, since the loop reads a text of any length"
        )
    if args.vanilla:
        _refuse_bounds_of_loops(args)
    client = _connect(args)
    try:
        if args.vanilla:
            options = replace(VANILLA_OPTIONS, seconds=_seconds(args))
            reader = Vanilla(client, options=options, overflow=args.overflow)
            answer = reader.completion(document, args.question)
        else:
            loop = RLM(
                client,
                prompt=args.prompt,
                max_iterations=args.max_iterations,
                sandbox=args.sandbox,
                concurrency=args.concurrency or concurrency(args.model),
                max_depth=args.max_depth,
                budget=Budget(
                    calls=args.max_calls,
                    tokens=args.max_tokens,
                    seconds=_seconds(args),
                ),
                on_turn=_watcher(verbose=args.verbose),
            )
            answer = loop.completion(document, args.question)
    finally:
        client.close()
    found = bool(answer.answer.strip())
    if args.json:
        print(json.dumps(answer.to_dict()))
    elif found:
        print(shown(answer.answer) if sys.stdout.isatty() else answer.answer)
    if args.trace:
        _show_tree(answer, document, args.question)
    print(_summary(answer), file=sys.stderr)
    if found:
        return 0
    print(f"rlm: {_why_not(answer, args)}", file=sys.stderr)
    return 1


def _refuse_bounds_of_loops(args: argparse.Namespace) -> None:
    """Refuse what one prompt has no use for, rather than to take no notice of it."""
    given = {"depth": args.max_depth != 1, "calls": args.max_calls, "tokens": args.max_tokens}
    names = [f"--max-{name}" for name, is_given in given.items() if is_given]
    if names:
        raise UsageError(
            f"--vanilla has no loops to bound: leave out {', '.join(names)}, or --vanilla; "
            "--max-minutes bounds both"
        )


def _seconds(args: argparse.Namespace) -> float | None:
    return None if args.max_minutes is None else args.max_minutes * 60


def _connect(args: argparse.Namespace) -> Client:
    """A client of the model, which Ollama pulls first if it lacks it and that is wanted."""
    try:
        return connect(args.model, record=args.record, replay=args.replay)
    except ModelNotFound:
        if not (args.pull and can_pull(args.model)):
            raise
    from rich.console import Console

    from rlm.bench.report import pulling

    pulling.show(pull(args.model), Console(stderr=True))
    return connect(args.model, record=args.record, replay=args.replay)


def _show_tree(answer: Answer, document: str, question: str) -> None:
    from rich.console import Console

    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    tree = draw(
        answer.trajectory,
        chars=len(document),
        query=question,
        answer=answer.answer,
        ended=f"ended by {answer.ended_by}",
    )
    console.print(tree)
    for line in levels(answer.trajectory):
        console.print(line)


def _why_not(answer: Answer, args: argparse.Namespace) -> str:
    """Why there is no answer, and what to do about it."""
    if not answer.truncated:
        return "no answer was found; try --verbose to see why, or another model"
    hint = "leave out --vanilla, cut it with --overflow, or " if args.vanilla else ""
    return (
        f"{_name(args.file)} with the question does not fit the model's window; "
        f"{hint}choose a model with a larger one"
    )


def _read(name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"cannot read {name}: {reason}; give the path of a text file") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{_name(name)} is not UTF-8 text (at byte {error.start}); convert it first, such as "
            "with iconv -f latin1 -t utf-8, or pdftotext for a PDF"
        ) from None


def _name(file: str) -> str:
    return "stdin" if file == "-" else file


def _watcher(*, verbose: bool) -> Callable[[Turn], None] | None:
    """What shows each turn on stderr; ``None`` if nobody looks."""
    if not verbose and not sys.stderr.isatty():
        return None
    from rich.console import Console

    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    return lambda turn: _show_turn(console, turn, verbose=verbose)


def _show_turn(console: Console, turn: Turn, *, verbose: bool) -> None:
    calls = sum(cell.result.calls for cell in turn.cells)
    status = turn.cells[-1].result.status if turn.cells else "no code"
    rejected = ", FINAL rejected" if turn.rejected else ""
    head = f"turn {turn.number}: {status}, {count(calls, 'sub-call')}{rejected}"
    console.print(head, style="bold")
    if verbose:
        written = [cell.code for cell in turn.cells] or [turn.reply]
        for text in (*written, turn.feedback):
            if text:
                console.print(shown(text))


def _summary(answer: Answer) -> str:
    tokens = answer.usage.prompt_tokens + answer.usage.completion_tokens
    loops = sum(level.runs for level in answer.trajectory.levels)
    within = f" in {count(loops, 'loop')}" if loops > 1 else ""
    parts = [
        f"{count(answer.iterations, 'turn')}{within}",
        count(answer.sub_calls, "sub-call"),
        count(tokens, "token"),
        f"{answer.wall:.1f} s",
        f"ended by {answer.ended_by}",
    ]
    if cut := answer.trajectory.cut:
        shown = " and ".join(f"{start:,} to {end:,}" for start, end in cut.kept)
        parts.append(f"cut on purpose: only characters {shown} of {cut.chars:,} were read")
    if answer.truncated:
        parts.append("the window cut off a prompt or a reply")
    return ", ".join(parts)


def _doctor(args: argparse.Namespace) -> int:
    from rich.console import Console

    from rlm.doctor import blockers, examine

    console = Console(markup=False, highlight=False, emoji=False)
    findings: list[Finding] = []
    for group in examine(quick=args.quick):
        findings += group
        if not args.json:
            _show_group(console, group)
    blocking = blockers(findings)
    if args.json:
        rows = [asdict(finding) for finding in findings]
        print(json.dumps({"ready": not blocking, "findings": rows}, indent=2))
    elif blocking:
        console.print(f"not ready: see {', '.join(blocking)}", style="bold red")
    else:
        console.print("ready: code is confined, and the embedded model works", style="bold green")
    return 1 if blocking else 0


def _show_group(console: Console, group: Sequence[Finding]) -> None:
    """One line for each finding, and one below it for its remedy."""
    from rich.table import Table
    from rich.text import Text

    console.print(_GROUPS[group[0].name.partition("/")[0]], style="bold")
    grid = Table.grid(padding=(0, 2, 0, 0))
    for width in (9, 10):
        grid.add_column(min_width=width, no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in group:
        told = Text(_one_line(finding.text))
        if finding.remedy:
            told.append(f"\n-> {_one_line(finding.remedy)}", style="bold")
        status = Text(f"  {finding.status}", style=_STYLES[finding.status])
        grid.add_row(status, finding.name.partition("/")[2], told)
    console.print(grid)


def _one_line(text: str) -> str:
    return shown(" ".join(text.split()))


if __name__ == "__main__":
    sys.exit(main())
