"""One cell → one `Record`. Knows neither pytest nor how results are kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from rlm import architectures, prompts
from rlm.bench import records, tasks
from rlm.bench.grid import Cell
from rlm.bench.records import Doc, Failure, Model, Record, Seconds, Tokens, Verdict
from rlm.bench.tasks.base import SUITE_VERSION, Item, Split
from rlm.bench.tasks.stream import cell_seed
from rlm.clients.base import Client, ModelInfo
from rlm.errors import BudgetExceeded, CallTimeout, PromptTooLong, RLMError
from rlm.sandbox.base import Sandbox
from rlm.trajectory import Answer


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for all cells of a session.

    Attributes:
        run: the run's folder.
        spec: of the model.
        prompt: which system prompt the loop uses.
        seed: of the suite.
        split: whose entities, values and wordings the documents use.
        environment: ``host``, ``versions`` and ``git`` of the record.
    """

    run: Path
    spec: str = "embedded"
    prompt: architectures.Prompt = "auto"
    seed: int = 0
    split: Split = "eval"
    environment: Mapping[str, Any] = field(default_factory=dict)
