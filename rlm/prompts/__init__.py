"""All text a model can see, frozen by version.

The embedded model was trained on these exact bytes, so version 1 never changes: a new wording is a
new folder beside ``v1`` and comes with a retrained model (see `version_sha256`, which the model
card repeats and a test compares).
"""

from __future__ import annotations

import hashlib
import tomllib
from functools import cache
from importlib.resources import files
from typing import Final, Literal

VERSION: Final = "v1"

System = Literal["full", "compact", "vanilla"]


@cache
def system(name: System) -> str:
    """The system prompt called `name`, without its final newline."""
    return _read(f"system_{name}.txt").rstrip("\n")


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
def version_sha256() -> str:
    """Hash of every file of this version: names and bytes, in name order."""
    digest = hashlib.sha256()
    folder = files(__name__) / VERSION
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        digest.update(entry.name.encode() + b"\0" + entry.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def _messages() -> dict[str, dict[str, str]]:
    return tomllib.loads(_read("messages.toml"))


def _read(name: str) -> str:
    return (files(__name__) / VERSION / name).read_text(encoding="utf-8")
