from __future__ import annotations

import pytest

from rlm.bench.plugin import CellRun


@pytest.mark.cells("niah_queries")
def test_niah_queries(cell: CellRun) -> None:
    cell.run()
