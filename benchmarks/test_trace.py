from __future__ import annotations

import pytest

from rlm.bench.plugin import CellRun


@pytest.mark.cells("trace")
def test_trace(cell: CellRun) -> None:
    cell.run()
