"""Messages between the process that owns a session and its workers on the same machine.

Under xdist the controller never collects, so when it configures its workers it does not know yet
whether there are cells at all. Workers leave here what they collected; only then does the
controller start one engine and leave its address, which workers wait for before their first cell.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from rlm.errors import RLMError


class Mailbox:
    """A private folder with one JSON file for each message; made by the first one.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def new(cls) -> Mailbox:
        """A mailbox of its own in the folder for temporary files."""
        return cls(Path(tempfile.gettempdir()) / f"rlm-bench-{uuid4().hex}")

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Leave a message; readers see all of it or none."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        temporary = self.path / f"{name}.{uuid4().hex}"
        temporary.write_text(json.dumps(data), encoding="ascii")
        temporary.replace(self.path / name)

    def read(self, name: str) -> dict[str, Any] | None:
        """A message, if it is there."""
        try:
            return dict(json.loads((self.path / name).read_text(encoding="ascii")))
        except FileNotFoundError:
            return None

    def wait(self, name: str, *, seconds: float = 120.0) -> dict[str, Any]:
        """A message that will come.

        Raises:
            RLMError: it did not, in that time.
        """
        end = time.monotonic() + seconds
        while (data := self.read(name)) is None:
            if time.monotonic() > end:
                raise RLMError(f"the controller said no {name!r} within {seconds:g} s")
            time.sleep(0.02)
        return data

    def close(self) -> None:
        """Remove the folder and what is in it. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
