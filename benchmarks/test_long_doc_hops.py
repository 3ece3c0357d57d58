from __future__ import annotations

import pytest

from rlm.bench.plugin import CellRun


@pytest.mark.cells("long_doc_hops")
def test_long_doc_hops(cell: CellRun) -> None:
    cell.run()
