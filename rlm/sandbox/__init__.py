"""A Python session for code that a model wrote, never in this process."""

from __future__ import annotations

from rlm.errors import UsageError
from rlm.sandbox.base import Calls, CellResult, Final, Isolation, Sandbox
from rlm.sandbox.process import ProcessSandbox

__all__ = ["Calls", "CellResult", "Final", "Isolation", "Sandbox", "open_sandbox"]

_BACKENDS = {"auto": ProcessSandbox, "process": ProcessSandbox}


def open_sandbox(backend: str = "auto") -> Sandbox:
    """A sandbox without a session yet.

    Args:
        backend: ``auto`` is the best that this machine has, so far always ``process``.

    Raises:
        UsageError: there is no such backend.
    """
    if backend not in _BACKENDS:
        known = ", ".join(sorted(_BACKENDS))
        raise UsageError(f"there is no sandbox backend {backend!r}; there are: {known}")
    return _BACKENDS[backend]()
