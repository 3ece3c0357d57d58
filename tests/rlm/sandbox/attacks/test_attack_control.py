"""The attacks are real: where only rlimits and lost privileges are in the way, they succeed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rlm.sandbox import CellResult
from tests.rlm.sandbox.attacks.test_attack_network import OPEN
from tests.rlm.sandbox.attacks.test_attack_processes import START
from tests.rlm.sandbox.attacks.test_attack_reading import LIST, READ
from tests.rlm.sandbox.attacks.test_attack_signals import SIGNAL

TABLES = {"READ": READ, "LIST": LIST, "OPEN": OPEN, "START": START, "SIGNAL": SIGNAL}
ELSEWHERE_REFUSED = {
    # they need a capability, or a file that can grow
    *("shutil", "from the root of the host", "from the root of the parent", "name_to_handle_at"),
    *("raw", "packet", "ProcessPoolExecutor", "multiprocessing forkserver"),
    # their arguments ask for nothing real, so that they do no harm
    *("O_PATH read", "clone(2) half a thread", "clone3(2) of nothing", "timer_create(2)"),
    *("pidfd_send_signal(2)", "pidfd_getfd(2)", "setpgid", "setsid", "vfork(2)", "webbrowser"),
    "alg",  # not in every kernel
}


@pytest.fixture
def backend() -> str:
    return "unconfined"


@pytest.mark.parametrize("table", TABLES)
def test_without_a_sandbox_they_get_through(
    run: Callable[[str], CellResult], inside: str, folder: object, table: str
) -> None:
    target = {"READ": f"{folder}/secret.txt", "LIST": str(folder)}.get(table)
    ways = {n: code for n, code in TABLES[table].items() if n not in ELSEWHERE_REFUSED}
    outcomes = {n: run(f"{inside}judge({code!r}, {target!r})").stdout for n, code in ways.items()}
    assert [name for name, told in outcomes.items() if "ACHIEVED" not in told] == []
    assert len(ways) > len(TABLES[table]) / 2
