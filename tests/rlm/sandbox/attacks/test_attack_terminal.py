"""What a model prints is shown to a person: it must not command the terminal."""

from __future__ import annotations

import sys

import pytest

from rlm.cli import main
from tests.rlm.scripted import Scripted, code

EVIL = {
    "colour": "\x1b[31m",
    "clear": "\x1b[2J\x1b[H",
    "title": "\x1b]0;gone\x07",
    "clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "link": "\x1b]8;;http://example.com\x1b\\click\x1b]8;;\x1b\\",
    "answer of the terminal": "\x1b[6n",
    "eight-bit escape": "\x9b31m\x9d0;gone\x9c",
    "overwritten line": "safe\rgone",
    "backspaces": "safe\x08\x08\x08\x08gone",
    "right to left": "\u202egone",
    "delete": "\x7f",
    "shift out": "\x0e",
}
KEPT = set("\n\t")


@pytest.mark.parametrize("way", EVIL)
@pytest.mark.parametrize("place", ["output", "answer", "error", "code"])
def test_the_terminal_gets_no_command(tmp_path, monkeypatch, capsys, way, place):
    text = EVIL[way]
    script = {
        "output": [code(f"print({text!r}, llm_query('a'))"), "x", code("FINAL('found')")],
        "answer": [code(f"llm_query('a')\nFINAL({text!r} + 'found')"), "x"],
        "error": [code(f"llm_query('a')\nraise ValueError({text!r})"), "x", code("FINAL('found')")],
        "code": [code(f"x = r'''{text} '''\nllm_query('a')\nFINAL('found')"), "x"],
    }[place]
    (tmp_path / "book.txt").write_text("The secret passcode is 48213.", encoding="utf-8")
    monkeypatch.setattr("rlm.ask.connect", lambda spec, **_: Scripted(script))
    monkeypatch.setenv("TERM", "dumb")  # no codes of our own; with them: test_ask_terminal.py
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main(["ask", str(tmp_path / "book.txt"), "Which?", "--verbose"])
    shown = capsys.readouterr()
    assert {c for c in shown.out if not c.isprintable()} <= KEPT
    assert "found" in shown.out
    assert {c for c in shown.err if not c.isprintable()} <= KEPT
    assert "turn 1" in shown.err
