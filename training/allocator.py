"""Keep what was freed: a training step takes and frees the same large buffers again and again.

By default glibc hands every buffer of some size back to the kernel and asks for it anew; each page
of it is then a fault. On two cores of a virtual machine that was 45 % of pre-training's time.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Names of parameters in glibc's ``malloc.h``."""
PAD = 64 * 2**20
"""Bytes by which the heap grows at least."""


def keep_memory() -> bool:
    """Let this process keep the memory that it frees, for its own next step.

    Its peak does not grow but for what is lost between buffers. See mallopt(3).

    Returns:
        Whether that was done: not with another C library than glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(
        mallopt(name, value) == 1
        for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, PAD))
    )
