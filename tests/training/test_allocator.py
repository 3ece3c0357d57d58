"""What a training step frees is there for the next one."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, torch
from training.allocator import keep_memory
torch.set_num_threads(1)
{first}
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(first: str) -> int:
    """Page faults of twenty buffers of 64 MB, one after the other."""
    code = CODE.format(first=first)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_buffer_is_taken_again_without_faults() -> None:
    given_back = faults("")
    if given_back < 1_000:
        pytest.skip(f"this kernel counts {given_back} faults where pages are taken anew")
    assert faults("assert keep_memory()") < given_back / 2
