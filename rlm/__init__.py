"""Recursive Language Models, and the same models without the recursion.

>>> import rlm
>>> with_code = rlm.RLM(rlm.connect("embedded"))
>>> with_code.completion(context=open("book.txt").read(), query="Who ...?").answer
"""

from __future__ import annotations

from rlm.clients import connect
from rlm.errors import (
    BudgetExceeded,
    CallRefused,
    CallTimeout,
    ClientError,
    ModelNotFound,
    PromptTooLong,
    ProtocolError,
    RecordError,
    RLMError,
    SandboxError,
    ServerUnreachable,
    UsageError,
)
from rlm.limits import Budget, SandboxLimits
from rlm.loop import RLM
from rlm.messages import Completion, Message, Options
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
    "Message",
    "ModelNotFound",
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
