"""Files that a command writes: never over what it reads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from rlm.errors import UsageError


def apart(out: Path, inputs: Iterable[str | os.PathLike[str]], *, option: str) -> None:
    """See that an output is none of the files that are read.

    Args:
        out: the file to be written; need not be there.
        inputs: the files that are read; links are followed.
        option: of the command line that gave `out`.

    Raises:
        UsageError: it is one of them.
    """
    for path in inputs:
        try:
            same = out.samefile(path)
        except OSError:  # one of them is not there, so that they are two
            same = False
        if same:
            raise UsageError(
                f"{out} is what is read, and would be replaced: choose another file with {option}"
            )
