from __future__ import annotations

import pytest

from rlm.bench.plugin import CellRun


@pytest.mark.cells("niah")
def test_niah(cell: CellRun) -> None:
    cell.run()
