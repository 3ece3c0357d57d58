"""Recursive Language Models, and the same models without the recursion.

>>> import rlm
>>> with_code = rlm.RLM(rlm.connect("embedded"))
>>> with_code.completion(context=open("book.txt").read(), query="Who ...?").answer
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from rlm.errors import (
    BudgetExceeded,
    CallRefused,
    CallTimeout,
    ClientError,
    Interrupted,
    ModelNotFound,
    NotRecorded,
    PromptTooLong,
    ProtocolError,
    RecordError,
    RLMError,
    SandboxError,
    ServerUnreachable,
    UsageError,
)
from rlm.limits import Budget, SandboxLimits
from rlm.messages import Completion, Message, Options

if TYPE_CHECKING:
    from rlm.clients import connect
    from rlm.loop import RLM
    from rlm.sandbox import open_sandbox
    from rlm.trajectory import Answer, Trajectory
    from rlm.vanilla import Vanilla

__all__ = [
    "RLM",
    "Answer",
    "Budget",
    "BudgetExceeded",
    "CallRefused",
    "CallTimeout",
    "ClientError",
    "Completion",
    "Interrupted",
    "Message",
    "ModelNotFound",
    "NotRecorded",
    "Options",
    "PromptTooLong",
    "ProtocolError",
    "RLMError",
    "RecordError",
    "SandboxError",
    "SandboxLimits",
    "ServerUnreachable",
    "Trajectory",
    "UsageError",
    "Vanilla",
    "connect",
    "open_sandbox",
]

_LATER = {
    "RLM": "rlm.loop",
    "Answer": "rlm.trajectory",
    "Trajectory": "rlm.trajectory",
    "Vanilla": "rlm.vanilla",
    "connect": "rlm.clients",
    "open_sandbox": "rlm.sandbox",
}
"""Imported at their first use: the pytest plugin, in every pytest around, imports this module."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
