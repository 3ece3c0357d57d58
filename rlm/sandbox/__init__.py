"""A Python session for code that a model wrote, never in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final as Constant

from rlm.errors import UsageError
from rlm.sandbox.base import Calls, CellResult, Final, Isolation, NoCalls, Sandbox

__all__ = [
    "BACKENDS",
    "Calls",
    "CellResult",
    "Final",
    "Isolation",
    "NoCalls",
    "Sandbox",
    "default_backend",
    "open_sandbox",
]

BACKENDS: Constant[Mapping[str, str]] = {
    "process": "a child process under Landlock and seccomp (Linux)",
    "no-open": "the same without any open file; where a kernel has no Landlock (Linux)",
    "bwrap": "the same inside bubblewrap, which must be installed (Linux)",
    "monty": "an interpreter of its own, with less of Python; the extra monty (everywhere)",
    "unconfined": "a child process that may do what you may do (Linux)",
}
"""What `open_sandbox` takes beside ``auto``, and what it is."""


def default_backend() -> str:
    """What ``auto`` means on this machine."""
    return "process" if sys.platform == "linux" else "monty"


def open_sandbox(backend: str = "auto") -> Sandbox:
    """A sandbox without a session yet.

    Args:
        backend: ``auto``, or a name of `BACKENDS`.

    Raises:
        UsageError: there is no such backend.
        SandboxError: this machine lacks what it needs.
    """
    name = default_backend() if backend == "auto" else backend
    if name not in _OPEN:
        known = ", ".join(("auto", *BACKENDS))
        raise UsageError(f"there is no sandbox backend {backend!r}; there are: {known}")
    return _OPEN[name]()


def _process() -> Sandbox:
    from rlm.sandbox.process import ProcessSandbox

    return ProcessSandbox()


def _no_open() -> Sandbox:
    from rlm.sandbox.child import Launch
    from rlm.sandbox.process import ProcessSandbox

    return ProcessSandbox("no-open", Launch("closed"))


def _bwrap() -> Sandbox:
    from rlm.sandbox.bwrap import open_bwrap

    return open_bwrap()


def _monty() -> Sandbox:
    from rlm.sandbox.monty import MontySandbox

    return MontySandbox()


def _unconfined() -> Sandbox:
    from rlm.sandbox.child import Launch
    from rlm.sandbox.process import ProcessSandbox

    return ProcessSandbox("unconfined", Launch("open"))


_OPEN: Constant[Mapping[str, Callable[[], Sandbox]]] = {
    "process": _process,
    "no-open": _no_open,
    "bwrap": _bwrap,
    "monty": _monty,
    "unconfined": _unconfined,
}
