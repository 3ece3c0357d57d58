from __future__ import annotations

import pytest

from rlm.bench.plugin import CellRun


@pytest.mark.cells("own")
def test_own(cell: CellRun) -> None:
    cell.run()
