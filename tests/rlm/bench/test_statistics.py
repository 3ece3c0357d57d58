from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from rlm.bench.statistics import wilson


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_equals_scipy(counts):
    k, n = counts
    want = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n, z=1.959963984540054) == pytest.approx((want.low, want.high), abs=1e-9)


def test_one_of_one_is_no_result():
    low, high = wilson(1, 1)
    assert (round(low, 2), high) == (0.21, 1.0)


def test_nothing_tried_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(2, 1), (-1, 3)])
def test_impossible_counts(k, n):
    with pytest.raises(ValueError, match=f"{k} successes of {n} trials"):
        wilson(k, n)
