"""All text a model can see, frozen by version.

The embedded model was trained on these exact bytes, so version 1 never changes: a new wording is a
new folder beside ``v1`` and comes with a retrained model (see `version_sha256`, which the model
card repeats and a test compares). Texts of the controls alone (see `rlm.architectures`), of loops
that may open loops (see `rlm.RLM`), and of documents cut on purpose (see `rlm.overflow`), stand in
folders of their own, with versions of their own.
"""

from __future__ import annotations

import hashlib
import tomllib
from functools import cache
from importlib.resources import files
from typing import Final, Literal

VERSION: Final = "v1"
CONTROLS: Final = "controls1"
"""Version of what is only seen in the controls; part of the key of their cells."""
OVERFLOW: Final = "overflow1"
"""Version of what stands for text that was cut out on purpose; part of the key of such cells."""

DEEP: Final = "deep1"
"""Version of what is only seen where loops may open loops; part of the key of such cells."""

System = Literal[
    "full", "compact", "vanilla", "repl_full", "repl_compact", "deep_full", "deep_compact"
]
_FOLDERS: Final = {"repl": CONTROLS, "deep": DEEP}


@cache
def system(name: System) -> str:
    """The system prompt called `name`, without its final newline."""
    version = _FOLDERS.get(name.partition("_")[0], VERSION)
    return _read(version, f"system_{name}.txt").rstrip("\n")


def say(section: str, name: str, /, **values: object) -> str:
    """Fill in one template of ``messages.toml``.

    Args:
        section: the table, such as ``feedback``.
        name: the template in it.
        values: what its braces take; braces inside a value are left alone.

    Raises:
        KeyError: there is no such template, or a value it needs is missing.
    """
    return templates(section)[name].format(**values)


@cache
def templates(section: str) -> dict[str, str]:
    """One table of ``messages.toml``, unfilled."""
    return dict(_messages()[section])


@cache
def version_sha256(version: str = VERSION) -> str:
    """Hash of every file of a version: names and bytes, in name order."""
    digest = hashlib.sha256()
    folder = files(__name__) / version
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        digest.update(entry.name.encode() + b"\0" + entry.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def _messages() -> dict[str, dict[str, str]]:
    """The tables of all folders; no name stands in two."""
    tables: dict[str, dict[str, str]] = {}
    for version in (VERSION, CONTROLS, DEEP, OVERFLOW):
        tables |= tomllib.loads(_read(version, "messages.toml"))
    return tables


def _read(version: str, name: str) -> str:
    return (files(__name__) / version / name).read_text(encoding="utf-8")
