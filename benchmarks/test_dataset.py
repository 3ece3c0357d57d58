from __future__ import annotations

import pytest

from rlm.bench.plugin import CellRun


@pytest.mark.cells("dataset")
def test_dataset(cell: CellRun) -> None:
    cell.run()
