from __future__ import annotations

import pytest

from rlm.bench.plugin import CellRun


@pytest.mark.cells("niah_values")
def test_niah_values(cell: CellRun) -> None:
    cell.run()
