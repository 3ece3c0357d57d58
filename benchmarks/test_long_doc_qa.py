from __future__ import annotations

import pytest

from rlm.bench.plugin import CellRun


@pytest.mark.cells("long_doc_qa")
def test_long_doc_qa(cell: CellRun) -> None:
    cell.run()
