"""The command `rlm`."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

try:
    from rlm import ask
    from rlm.bench import commands as commands_on_runs
    from rlm.errors import RLMError, UsageError
    from rlm.visible import visible
except ImportError:  # the distribution `rlms` writes files of its own over some of these
    from rlm.doctor import clash

    found = clash()[0]
    if found.status == "ok":
        raise
    sys.exit(f"rlm: {found.text}; {found.remedy}")

if TYPE_CHECKING:
    from rich.console import Console

    from rlm.doctor import Finding

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
        The exit status: 0, 1 for an error or no answer, 2 for a value that cannot be used, 130
        after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # whatever a model writes can be printed
        sys.stdout.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        return run(args)
    except RLMError as error:
        print(f"rlm: {visible(str(error))}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:  # whoever reads, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("rlm: stopped", file=sys.stderr)
        return ask.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlm",
        description="Recursive Language Models: answers from texts longer than any window.",
        epilog="rlm ask --help shows how to ask; rlm doctor shows what this machine can do; "
        "rlm report --help, rlm compare --help: what to do with runs of the benchmark.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    ask.add(commands)
    _add_doctor(commands)
    commands_on_runs.add(commands)
    return parser


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
    return visible(" ".join(text.split()))


if __name__ == "__main__":
    sys.exit(main())
