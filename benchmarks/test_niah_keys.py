from __future__ import annotations

import pytest

from rlm.bench.plugin import CellRun


@pytest.mark.cells("niah_keys")
def test_niah_keys(cell: CellRun) -> None:
    cell.run()
