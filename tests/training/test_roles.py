"""The tables of the card: real questions to the model that ships."""

from __future__ import annotations

from rlm import connect
from training.pretrain.roles import ROLES, Line


def test_a_line_has_its_interval() -> None:
    line = str(Line("reader", "niah", "1000 characters", 28, 30))
    assert line == "| reader | niah | 1000 characters | 28/30 [0.79, 0.98] |"


def test_sub_model_is_asked_about_present_and_absent_facts() -> None:
    client = connect("embedded")
    try:
        lines = list(ROLES["sub-model"](client, 2))
    finally:
        client.close()
    assert len(lines) == 12
    assert {line.task for line in lines} == {"niah", "long_doc_qa"}
    assert all(0 <= line.right <= line.n == 2 for line in lines)
