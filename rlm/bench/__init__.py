"""Measuring: tasks, cells, records, statistics, reports, and the pytest plugin."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load"]


def load(*runs: str | os.PathLike[str]) -> pd.DataFrame:
    """All cells of some runs as a data frame; see `rlm.bench.frame.load`.

    Args:
        runs: names under ``runs/``, or folders.

    Raises:
        RecordError: there is no such run, it cannot be read, or one of its lines is broken.
    """
    from rlm.bench import frame

    return frame.load(*runs)
