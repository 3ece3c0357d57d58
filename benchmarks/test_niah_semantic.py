from __future__ import annotations

import pytest

from rlm.bench.plugin import CellRun


@pytest.mark.cells("niah_semantic")
def test_niah_semantic(cell: CellRun) -> None:
    cell.run()
