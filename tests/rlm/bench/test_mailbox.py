from __future__ import annotations

import threading
import time

import pytest

from rlm.bench.mailbox import Mailbox
from rlm.errors import RLMError


def test_a_message_is_waited_for():
    box = Mailbox.new()
    assert box.read("start") is None

    def late() -> None:
        time.sleep(0.1)
        box.write("start", {"key": "é"})

    thread = threading.Thread(target=late)
    thread.start()
    assert box.wait("start", seconds=10) == {"key": "é"}
    thread.join()
    assert box.path.stat().st_mode & 0o077 == 0, "it holds the key of the engine"
    box.close()
    assert not box.path.exists()


def test_nothing_is_made_without_a_message():
    box = Mailbox.new()
    with pytest.raises(RLMError, match=r"no 'start' within 0.05 s"):
        box.wait("start", seconds=0.05)
    assert not box.path.exists()
