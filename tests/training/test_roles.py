"""The tables of the card: what counts as right in each line."""

from __future__ import annotations

from training.pretrain.pages import ABSENT
from training.pretrain.roles import ROLES, Line
from training.pretrain.teacher import ScriptedClient


def test_a_line_has_its_interval() -> None:
    line = str(Line("reader", "niah", "1000 characters", 28, 30))
    assert line == "| reader | niah | 1000 characters | 28/30 [0.79, 0.98] |"


def test_each_question_is_counted_by_what_is_right_for_it() -> None:
    """Guards the card: who always says that nothing is there is right on the absent facts alone."""
    denier = ScriptedClient(lambda _: ABSENT)
    lines = [*ROLES["sub-model"](denier, 3), *ROLES["absent"](denier, 3)]
    assert len(lines) == 16
    for line in lines:
        assert line.n == 3
        assert line.right == (3 if line.what.startswith("not in") else 0), line
    readers = list(ROLES["reader"](denier, 2))
    assert readers
    assert not any(line.right for line in readers)
