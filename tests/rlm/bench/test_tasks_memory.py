"""What a long document costs in memory, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlm.bench import tasks

CHARS = 4_194_304
"""A million tokens."""
MOST = 4
"""Times the document's size that making it may take."""
STATUS = Path("/proc/self/status")
MEASURE = """
import json, re, sys
from pathlib import Path
from rlm.bench.tasks import get

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path(sys.argv[3]).read_text())[1])

name, chars = sys.argv[1], int(sys.argv[2])
task = get(name)
depth = task.depths[1] if task.depths else None
task.generate(16_384, depth, 1)  # words and tables are there once
before = peak()
made = task.generate(chars, depth, 2)
print(json.dumps([len(made.document), peak() - before]))
"""


@pytest.mark.parametrize("name", tasks.names())
def test_a_document_of_a_million_tokens_takes_four_times_its_size_at_most(name):
    if not STATUS.exists():
        pytest.skip("only Linux tells the peak of a process without that of its parent")
    ran = [sys.executable, "-c", MEASURE, name, str(CHARS), str(STATUS)]
    done = subprocess.run(ran, capture_output=True, text=True, check=True)
    chars, taken = json.loads(done.stdout)
    assert chars == CHARS
    times = taken / CHARS
    assert 0.5 < times <= MOST  # less than half of it was not measured
