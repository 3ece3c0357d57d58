from __future__ import annotations

import pytest

from rlm.bench.plugin import CellRun


@pytest.mark.cells("aggregate_visible")
def test_aggregate_visible(cell: CellRun) -> None:
    cell.run()
