from __future__ import annotations

import pytest

from rlm.bench.plugin import CellRun


@pytest.mark.cells("aggregate")
def test_aggregate(cell: CellRun) -> None:
    cell.run()
