from __future__ import annotations

import pytest

from rlm.bench.report.power import DISCORDANT, table
from rlm.bench.statistics import detectable, samples_needed
from rlm.errors import UsageError
from tests.rlm.bench.test_pairs import cells


def rows(text):
    """Lines of the table, by their first column."""
    body = text.split("\n\n")[1].splitlines()[1:]
    return {
        row[0]: row[1:] for row in ([part for part in line.split("  ") if part] for line in body)
    }


def test_each_share_has_its_documents():
    found = rows(table(10))
    assert list(found) == [f"{share:.0%}" for share in DISCORDANT]
    for share, row in zip(DISCORDANT, found.values(), strict=True):
        want = [samples_needed(0.1, discordant=share, power=p) for p in (0.8, 0.9)]
        assert [int(cell.replace(",", "")) for cell in row[:2]] == want


def test_what_the_default_grid_sees_is_told():
    found = rows(table(10))
    assert found["10%"][2].strip() == "nothing"
    assert found["100%"][2].strip() == f"{100 * detectable(9, discordant=1.0):.0f} points"
    assert "The default grid asks 9 documents at a length." in table(10)


def test_a_difference_above_the_share_cannot_be():
    found = rows(table(30, discordant=(0.2, 0.3)))
    assert [cell.strip() for cell in found["20%"]] == ["cannot be", "cannot be", "nothing"]
    assert found["30%"][0].strip() == "25"


def test_a_pilot_replaces_the_assumed_shares_by_those_of_its_tasks():
    """Only pairs with two answers are looked at, so the truncated half tells nothing."""
    pilot = [
        r
        for task, signs in (("niah", "++++++++--"), ("long_doc_qa", "+" * 10))
        for r in (
            *cells("vanilla", signs, task=task),
            *cells("rlm", "+" * 10, task=task),
            *cells("vanilla", "t" * 10, task=task, length=4096),
            *cells("rlm", "+" * 10, task=task, length=4096),
        )
    ]
    found = rows(table(10, pilot=pilot))
    assert list(found) == ["niah: 2 of 10", "niah: up to 51%", "long_doc_qa: up to 28%"]
    assert found["niah: 2 of 10"][0].strip() == str(samples_needed(0.1, discordant=0.2))


@pytest.mark.parametrize("left", ["", "ttt"])
def test_a_pilot_without_pairs_is_refused(left):
    with pytest.raises(UsageError, match="no document that both vanilla and rlm answered"):
        table(10, pilot=[*cells("vanilla", left), *cells("rlm", "+++")])


@pytest.mark.parametrize("mde", [0, -5, 0.4, 101])
def test_a_difference_that_cannot_be_is_refused(mde):
    with pytest.raises(UsageError, match=f"{mde} points is no difference to plan for"):
        table(mde)


def test_it_fits_eighty_columns():
    assert max(map(len, table(2.5).splitlines())) <= 80
