from __future__ import annotations

import pytest

from rlm.bench.plugin import CellRun


@pytest.mark.cells("pairs")
def test_pairs(cell: CellRun) -> None:
    cell.run()
