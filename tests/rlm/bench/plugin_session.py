"""Sessions of pytest in a folder that knows nothing of this repository."""

from __future__ import annotations

import pytest

from rlm.bench import records
from tests.servers.reader import ReaderServer

CELLS = """
import pytest

@pytest.mark.cells("niah")
def test_niah(cell):
    cell.run()
"""
FEW = ("--rlm-lengths=1k,8k", "--rlm-depths=50", "--rlm-samples=1")
BOTH = pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "n2"])


class Session:
    """Runs pytest in a folder that knows nothing of this repository."""

    def __init__(self, pytester: pytest.Pytester, server: ReaderServer) -> None:
        self.pytester, self.path = pytester, pytester.path
        self.model = f"--rlm-model={server.spec}"
        pytester.makepyfile(test_cells=CELLS)

    def run(self, *args: str) -> pytest.RunResult:
        unused = ("cacheprovider", "hypothesispytest", "benchmark")  # slow to load
        quick = (f"-pno:{name}" for name in unused)
        return self.pytester.runpytest_subprocess(*quick, self.model, *args)

    def look(self, *args: str) -> pytest.RunResult:
        """The same in this process, which is faster: for what runs no cell."""
        return self.pytester.runpytest_inprocess("-pno:cacheprovider", self.model, *args)

    def load(self, run: str) -> dict[str, records.Record]:
        """Records by their cell's name, such as ``1024-vanilla``."""
        loaded = records.load(self.path / "runs" / run)
        return {f"{r.length}-{r.architecture}": r for r in loaded}
