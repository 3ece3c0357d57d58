"""The command `rlm`."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rlm.clients import FORMS, connect
from rlm.errors import RLMError, UsageError
from rlm.loop import RLM
from rlm.trajectory import Answer, Turn
from rlm.vanilla import Vanilla

if TYPE_CHECKING:
    from rich.console import Console

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
    except KeyboardInterrupt:
        print("rlm: stopped", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rlm",
        description="Recursive Language Models: answers from texts longer than any window.",
        epilog="rlm ask --help shows how to ask.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
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
    add("--vanilla", action="store_true", help="put the whole text into one prompt instead")
    add("--verbose", action="store_true", help="show each turn's code and what it printed")
    add("--json", action="store_true", help="print the answer with everything that led to it")
    return parser


def _ask(args: argparse.Namespace) -> int:
    document = _read(args.file)
    if not document.strip():
        raise UsageError(f"{_name(args.file)} is empty; give a file with text")
    if not args.question.strip():
        raise UsageError('the question is empty; put it in quotes: rlm ask FILE "Who …?"')
    client = connect(args.model)
    try:
        if args.vanilla:
            answer = Vanilla(client).completion(document, args.question)
        else:
            loop = RLM(
                client,
                prompt=args.prompt,
                max_iterations=args.max_iterations,
                on_turn=_watcher(verbose=args.verbose),
            )
            answer = loop.completion(document, args.question)
    finally:
        client.close()
    found = bool(answer.answer.strip())
    if args.json:
        print(json.dumps(answer.to_dict()))
    elif found:
        print(_shown(answer.answer, sys.stdout.isatty()))
    print(_summary(answer), file=sys.stderr)
    if found:
        return 0
    print(f"rlm: {_why_not(answer, args)}", file=sys.stderr)
    return 1


def _why_not(answer: Answer, args: argparse.Namespace) -> str:
    """Why there is no answer, and what to do about it."""
    if not answer.truncated:
        return "no answer was found; try --verbose to see why, or another model"
    hint = "leave out --vanilla, or " if args.vanilla else ""
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
    head = f"turn {turn.number}: {status}, {_count(calls, 'sub-call')}{rejected}"
    console.print(head, style="bold")
    if verbose:
        written = [cell.code for cell in turn.cells] or [turn.reply]
        for text in (*written, turn.feedback):
            if text:
                console.print(_shown(text, terminal=True))


def _shown(text: str, terminal: bool) -> str:
    """The text without what a terminal would take for commands."""
    if not terminal:
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def _summary(answer: Answer) -> str:
    tokens = answer.usage.prompt_tokens + answer.usage.completion_tokens
    parts = [
        _count(answer.iterations, "turn"),
        _count(answer.sub_calls, "sub-call"),
        _count(tokens, "token"),
        f"{answer.wall:.1f} s",
        f"ended by {answer.ended_by}",
    ]
    if answer.truncated:
        parts.append("the window cut off a prompt or a reply")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


if __name__ == "__main__":
    sys.exit(main())
