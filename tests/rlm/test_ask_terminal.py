"""`rlm ask` on a real terminal and in a real pipe, with the embedded model, and Ctrl-C in it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rlm import story, terminal
from tests.servers.openai import NAME, chat, openai_server
from tests.servers.scripted import ScriptedServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a pty, and /proc")
Popen = subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("story") / "story.txt"
    path.write_text(story.story(50_000), encoding="utf-8")
    return str(path)


def test_a_terminal_shows_each_step_and_the_answer_last(book: str) -> None:
    statuses: set[str] = set()

    def seen(raw: str, _: Popen) -> None:
        statuses.update(re.findall(r"the model writes code|the code runs", raw))

    shown = terminal.run(terminal.rlm("ask", book, story.QUESTION), seen=seen)
    assert shown.status == 0
    lines = shown.text.splitlines()
    assert lines[-2:] == ["answer:", story.ANSWER]
    assert re.fullmatch(r"turn 1  \d+ \+ \d+ tokens, \d+\.\d s", lines[1])
    told = "\n".join(lines)
    assert 'hits = keyword_windows("vault combination"' in told
    assert "│ The vault combination is 48213." in told
    asked = re.search(r"^sub-call 1 (.*)… → 48213  \d+ \+ \d+ tokens, ", told, re.MULTILINE)
    assert asked
    assert len(asked[1]) > 20
    assert f"│ {asked[1]}" in told  # it is asked about the passage that the search found
    assert "FINAL: 48213" in told
    assert re.search(r"^3 turns, 1 sub-call, [\d,]+ tokens, [\d.]+ s, ended by final$", told, re.M)
    assert "\x1b[96" in shown.screen  # code in colours
    assert "the model writes code" in statuses  # while it runs
    assert "the model writes code" not in told  # and gone in the end
    assert shown.raw.count("\x1b[?25l") == shown.raw.count("\x1b[?25h")  # the cursor is back


def test_a_pipe_gets_the_answer_alone_while_the_terminal_shows_the_rest(book: str) -> None:
    shown = terminal.run(terminal.rlm("ask", book, story.QUESTION), pipe=True)
    assert (shown.status, shown.stdout) == (0, f"{story.ANSWER}\n")
    assert "sub-call 1" in shown.text
    assert "answer:" not in shown.text


def test_without_a_terminal_there_are_plain_lines(book: str) -> None:
    environment = {**os.environ, "FORCE_COLOR": "1"}
    done = piped(terminal.rlm("ask", book, story.QUESTION), env=environment)
    assert (done.returncode, done.stdout) == (0, f"{story.ANSWER}\n")
    heads = [line.partition(";")[0] for line in done.stderr.splitlines()]
    assert heads[:-1] == [
        "turn 1: ok, 0 sub-calls",
        "turn 2: ok, 1 sub-call",
        "turn 3: final, 0 sub-calls",
    ]
    assert "\x1b" not in done.stderr


def test_base_dependencies_are_enough(book: str) -> None:
    """Guards who installs no extra: nothing of bench or training is imported on the way."""
    extras = ("jinja2", "matplotlib", "numpy", "pandas", "pyarrow", "pytest", "scipy", "torch")
    code = f"import sys\nfor name in {extras}: sys.modules[name] = None\n"
    code += "from rlm.cli import main; sys.exit(main())"
    for more in ("--quiet", "--compare"):
        command = [sys.executable, "-c", code, "ask", book, story.QUESTION, more]
        done = piped(command)
        assert (done.returncode, done.stdout) == (0, f"{story.ANSWER}\n"), done.stderr
    command[-1:] = ["--save", "page.html"]
    done = piped(command)
    told = "a page needs jinja2: pip install 'rlm-bench[bench]', or leave out --save"
    assert (done.returncode, done.stderr) == (2, f"rlm: {told}\n")  # before the model is asked


EVIL = "\\x1b[2J\\x1b]0;owned\\x07[bold red]loud[/] :smile: \\u202e"
"""Source of a string that clears the screen, renames the window, and speaks to rich."""


@pytest.fixture
def served() -> Iterator[ScriptedServer]:
    with openai_server() as server:
        yield server


def test_hostile_texts_are_shown_as_text(served: ScriptedServer, book: str) -> None:
    """What a model writes, what its code prints, what a sub-call says, the question, an error."""
    evil = EVIL.encode().decode("unicode_escape")
    served.once(
        "/v1/chat/completions",
        chat(f"```python\n# {evil}\nprint('{EVIL}')\nprint(llm_query('{EVIL}'))\n```"),
        chat(f"said {evil}"),
        chat(f"I wonder. {evil}"),
        chat(f"```python\nraise ValueError('{EVIL}')\n```"),
        chat(f"```python\nFINAL('{EVIL}')\n```"),
    )
    model = f"openai/{NAME}@{served.address}/v1"
    options = ("--model", model, "--compare", "--trace")
    shown = terminal.run(terminal.rlm("ask", book, f"Who? {evil}", *options), columns=160)
    assert shown.status == 0
    assert not {"\x07", "\u202e"} & set(shown.raw)
    assert not re.search(r"\x1b(?!\[[\d;?]*[mAKhl])", shown.raw)  # rich's own codes, no others
    safe = "⟨U+001B⟩[2J⟨U+001B⟩]0;owned⟨U+0007⟩[bold red]loud[/] :smile: ⟨U+202E⟩"
    told = shown.text
    for line in (f"# {safe}", f"│ {safe}", f"│ I wonder. {safe}", f"FINAL: {safe}", f"Who? {safe}"):
        assert f"\n{line}" in told
    assert f"│ said {safe}" in told
    assert f"ValueError: {safe}" in told
    assert told.endswith(f"answer:\n{safe}\n")


def test_loops_below_are_nested(served: ScriptedServer, book: str) -> None:
    served.once(
        "/v1/chat/completions",
        chat("```python\nprint(rlm_query(context[:900], 'Who keeps the lamp?'))\n```"),
        chat("```python\nprint(llm_query('Who?'))\n```"),
        chat("Tamsin"),
        chat("```python\nFINAL('Tamsin')\n```"),
        chat("```python\nFINAL('old Tamsin')\n```"),
    )
    model = f"openai/{NAME}@{served.address}/v1"
    command = terminal.rlm("ask", book, "Who?", "--model", model, "--max-depth", "2")
    shown = terminal.run(command)
    lines = [re.sub(r"  30 \+ 4 tokens, [\d.]+ s$", "", line) for line in shown.text.splitlines()]
    assert [line for line in lines if line.strip("│ ")][:14] == [
        "turn 1",
        "print(rlm_query(context[:900], 'Who keeps the lamp?'))",
        "│ loop on 900 characters: Who keeps the lamp?",
        "│ turn 1",
        "│ print(llm_query('Who?'))",
        "│ sub-call 1 Who? → Tamsin",
        "│ │ Tamsin",
        "│ turn 2",
        "│ FINAL('Tamsin')",
        "│ FINAL: Tamsin",
        "│ loop answered: Tamsin",
        "│ Tamsin",
        "turn 2",
        "FINAL('old Tamsin')",
    ]
    assert lines[-1] == "old Tamsin"
    assert "4 turns in 2 loops, 1 sub-call" in shown.text


@pytest.fixture
def long_book(tmp_path: Path) -> str:
    """A document whose reading takes a vanilla model of this size many seconds."""
    path = tmp_path / "long.txt"
    path.write_text(story.story(200_000, fact="Nothing was found."), encoding="utf-8")
    return str(path)


def piped(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def interrupt_at(text: str) -> tuple[list[list[int]], Callable[[str, Popen], None]]:
    """Ctrl-C as soon as `text` stands on the terminal; the processes that were there then."""
    there: list[list[int]] = []

    def seen(raw: str, child: Popen) -> None:
        if not there and text in raw:
            there.append(terminal.below(child.pid))
            os.killpg(child.pid, signal.SIGINT)  # as a terminal does, to the whole group

    return there, seen


def gone(pids: list[int]) -> bool:
    """Whether none of some processes is there any more, a little later at most."""
    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def test_ctrl_c_shows_what_was_found_and_leaves_no_process(book: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    there, seen = interrupt_at("sub-call 1")
    command = terminal.rlm("ask", book, story.QUESTION, "--save", str(page))
    shown = terminal.run(command, seen=seen)
    assert shown.status == 130
    assert "Traceback" not in shown.text
    assert shown.text.rstrip().endswith("rlm: stopped")
    assert "found so far:" in shown.text
    assert "  answered: 48213" in shown.text
    assert "printed: " in shown.text
    assert len(there[0]) >= 2  # an engine, and a sandbox
    assert gone(there[0])
    assert "stopped by Ctrl-C" in page.read_text(encoding="utf-8")


def test_ctrl_c_while_the_model_reads_a_prompt(long_book: str) -> None:
    """One long call: there is nothing to show but that, and nothing to wait for."""
    there, seen = interrupt_at("the text is in the prompt")
    options = ("--vanilla", "--overflow", "head")
    shown = terminal.run(terminal.rlm("ask", long_book, "Who?", *options), seen=seen)
    assert (shown.status, "Traceback" in shown.text) == (130, False)
    assert "nothing yet" in shown.text
    assert gone(there[0])


def test_ctrl_c_in_the_comparison_keeps_the_answer_that_is_there(book: str) -> None:
    there, seen = interrupt_at("the text is in the prompt")
    options = ("--compare", "--overflow", "head")
    command = terminal.rlm("ask", book, story.QUESTION, *options)
    shown = terminal.run(command, seen=seen, pipe=True)
    assert (shown.status, shown.stdout) == (130, f"{story.ANSWER}\n")
    assert "stopped by Ctrl-C" in shown.text
    assert gone(there[0])
