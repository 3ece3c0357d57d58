from __future__ import annotations

from dataclasses import astuple
from itertools import product
from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, multinomial

from rlm.bench.statistics import (
    ROUNDING,
    crossover,
    detectable,
    effective_length,
    holm,
    mcnemar,
    paired_difference,
    power,
    samples_needed,
    wilson,
)
from rlm.errors import UsageError


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


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_binomial_test(wins, losses):
    want = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar(wins, losses) == pytest.approx(want, rel=1e-9)


def test_mcnemar_needs_six_on_one_side():
    assert [n for n in range(10) if mcnemar(n, 0) < 0.05] == [6, 7, 8, 9]


def test_holm_by_hand():
    """Four tests: 4 times the smallest, then 3 times, 2 times and once, never falling."""
    assert holm((0.01, 0.04, 0.03, 0.005)) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm((0.6, 0.5)) == (1.0, 1.0)
    assert holm(()) == ()


@given(st.lists(st.floats(0, 1), max_size=20), st.randoms())
def test_holm_keeps_order_and_lies_between_the_p_and_bonferroni(ps, shuffler):
    adjusted = holm(ps)
    for p, q in zip(ps, adjusted, strict=True):
        assert p <= q <= min(1.0, len(ps) * p)
    ranked = [q for _, q in sorted(zip(ps, adjusted, strict=True))]
    assert ranked == sorted(ranked)
    mixed = list(enumerate(ps))
    shuffler.shuffle(mixed)
    again = dict(zip([i for i, _ in mixed], holm([p for _, p in mixed]), strict=True))
    assert tuple(again[i] for i in range(len(ps))) == adjusted


def of_counts(wins, losses, n):
    """The estimate of `n` pairs, each on a document of its own."""
    left = [0] * wins + [1] * losses + [0] * (n - wins - losses)
    right = [1] * wins + [0] * losses + [0] * (n - wins - losses)
    return paired_difference(left, right, range(n))


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 40))
def test_one_pair_a_document_is_the_formula_of_bonett_and_price(wins, losses, ties):
    n = wins + losses + ties
    p, q = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    half = 1.959963984540054 * sqrt((p + q - (p - q) ** 2) / (n + 2))
    found = of_counts(wins, losses, n)
    assert found.value == pytest.approx((wins - losses) / n)
    assert found.low == pytest.approx(max(-1, p - q - half))
    assert found.high == pytest.approx(min(1, p - q + half))


PAIRS = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.integers(0, 6)), min_size=1, max_size=40
)


def of_pairs(pairs):
    left, right, documents = zip(*pairs, strict=True)
    return paired_difference(left, right, documents)


def ends(estimate):
    return pytest.approx((estimate.value, estimate.low, estimate.high), abs=1e-9)


@given(PAIRS, st.integers(2, 4))
def test_the_same_answer_again_is_no_more_evidence(pairs, copies):
    """Guards draws on one document from counting as documents."""
    assert astuple(of_pairs(pairs * copies)) == ends(of_pairs(pairs))


@given(PAIRS)
def test_sides_are_treated_alike_and_the_interval_holds_the_value(pairs):
    found, turned = of_pairs(pairs), of_pairs([(b, a, d) for a, b, d in pairs])
    assert (-turned.value, -turned.high, -turned.low) == ends(found)
    assert -1 <= found.low <= found.value <= found.high <= 1


def test_agreement_of_all_pairs_is_not_certainty():
    assert of_counts(0, 0, 9).high > 0.25
    assert of_counts(9, 0, 9).low < 0.5
    assert astuple(paired_difference((), (), ())) == (0.0, -1.0, 1.0)


def test_pairs_have_two_sides_and_a_document():
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1, 0], [1], "ab")


@pytest.mark.parametrize("n", [6, 9, 15, 30, 60])
def test_coverage_of_one_pair_a_document(n):
    """Exact: the probability of each outcome, summed over those whose interval holds the truth."""
    outcomes = [(w, x, n - w - x) for w in range(n + 1) for x in range(n + 1 - w)]
    found = [of_counts(w, x, n) for w, x, _ in outcomes]
    low = np.array([e.low for e in found]) - 1e-9
    high = np.array([e.high for e in found]) + 1e-9
    cover = []
    for discordant, lean in product((0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0), (0.0, 0.3, 0.5, 0.8, 1.0)):
        p, q = discordant * (1 + lean) / 2, discordant * (1 - lean) / 2
        chance = multinomial.pmf(outcomes, n, (p, q, 1 - p - q))
        cover.append(chance[(low <= p - q) & (p - q <= high)].sum())
    assert min(cover) > 0.92
    assert 0.95 <= np.mean(cover) < 0.99


SIDES = [(0.5, 0.5), (0.3, 0.8), (0.6, 0.75), (0.9, 0.95)]


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("documents", [9, 30])
def test_coverage_of_several_pairs_a_document(documents, alike):
    """Simulated: one to five answers a document, `alike` from independent to all the same."""
    rng = np.random.default_rng(documents)
    sizes = np.arange(documents) % 5 + 1
    which = np.repeat(np.arange(documents), sizes)
    names = which.tolist()
    for left, right in SIDES:
        hit = 0
        for _ in range(500):
            own, shared = rng.random((2, len(which))), rng.random((2, documents))[:, which]
            toss = np.where(rng.random(documents)[which] < alike, shared, own)
            a, b = toss < [[left], [right]]
            found = paired_difference(a.astype(int).tolist(), b.astype(int).tolist(), names)
            hit += found.low <= right - left <= found.high
        assert hit / 500 >= 0.93


def test_effective_length_is_the_last_before_the_first_that_fails():
    points = [(4096, 30, 30), (1024, 30, 30), (2048, 29, 30), (8192, 20, 30), (16384, 30, 30)]
    assert effective_length(points, 0.8) == 4096
    assert effective_length(points, 0.85) == 1024
    assert effective_length(points, 0.9) is None
    assert effective_length([(1024, 9, 9)], 0.8) is None


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 20), st.just(20)),
        unique_by=lambda point: point[0],
    ),
    st.floats(0, 1),
)
def test_effective_length_holds_at_all_shorter_lengths(points, threshold):
    found = effective_length(points, threshold) or 0
    sure = {length: wilson(k, n)[0] > threshold for length, k, n in points}
    assert all(good for length, good in sure.items() if length <= found)
    longer = sorted(length for length in sure if length > found)
    assert not any(sure[length] for length in longer[:1])


def test_crossover_is_where_the_line_over_log_length_meets_zero():
    found = crossover([(4096, [1, 0, 1, 0]), (1024, [-1, 0, -1, 0]), (8192, [1, 1, 1, 1])])
    assert found.length == pytest.approx(2048)
    assert found.low <= 2048 <= found.high
    assert found.reason == ""


def test_only_the_last_change_of_the_lead_is_the_crossover():
    points = [(1024, [1, 1]), (2048, [-1, -1]), (4096, [0, 0]), (8192, [1, 1])]
    assert crossover(points).length == pytest.approx(4096)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([(1024, [1, 1]), (2048, [1, 0])], "leads at every length"),
        ([(1024, [1, 1]), (2048, [0, 0])], "does not lead at the longest length"),
        ([(1024, [-1, 1]), (2048, [-1, 0])], "does not lead at the longest length"),
        ([(1024, [1, 1]), (2048, [])], "fewer than two lengths were measured"),
        ([], "fewer than two lengths were measured"),
    ],
)
def test_no_crossover_has_a_reason(points, reason):
    found = crossover(points)
    assert (found.length, found.reason) == (None, reason)
    assert found.low <= found.high


def test_a_lead_everywhere_is_surer_the_more_documents_show_it():
    few, many = (crossover([(1024, [1] * n), (2048, [1] * n)]) for n in (2, 200))
    assert few.high > 1024
    assert (many.low, many.high) == (0.0, 0.0)
    assert crossover([(1024, [-1] * 200), (2048, [-1] * 200)]).low == inf


def test_crossover_is_the_same_each_time():
    points = [(1024, [-1, 0, 0.5, 0.5, -1] * 20), (4096, [1, 0, 1, -0.5, 0.25] * 20)]
    assert crossover(points) == crossover(points)
    assert crossover(points, seed=1) != crossover(points, seed=2)


RISES = {
    "steep": [(0.02, 0.3), (0.05, 0.2), (0.2, 0.1), (0.6, 0.02), (0.9, 0.01), (1.0, 0.0)],
    "slow": [(0.1, 0.4), (0.15, 0.3), (0.2, 0.25), (0.3, 0.2), (0.35, 0.15), (0.5, 0.1)],
    "level, then up": [(0.05, 0.05), (0.05, 0.05), (0.1, 0.1), (0.8, 0.0), (1.0, 0.0)],
}


@pytest.mark.parametrize("rise", RISES)
def test_coverage_of_the_crossover(rise):
    """Simulated: 30 documents a length, each won, lost or neither."""
    chances = RISES[rise]
    lengths = [1024 << i for i in range(len(chances))]
    means = [won - lost for won, lost in chances]
    truth = crossover([(n, [d]) for n, d in zip(lengths, means, strict=True)], draws=1).length
    rng = np.random.default_rng(7)
    hit = 0
    for _ in range(300):
        points = [
            (n, rng.choice((1, -1, 0), 30, p=(won, lost, 1 - won - lost)).tolist())
            for n, (won, lost) in zip(lengths, chances, strict=True)
        ]
        found = crossover(points, draws=500)
        hit += found.low - 1e-6 <= truth <= found.high + 1e-6
    assert hit / 300 >= 0.92


@pytest.mark.parametrize(
    ("n", "difference", "discordant"),
    [(9, 0.6, 0.9), (25, 0.3, 0.4), (40, 0.2, 1), (200, 0.1, 0.5)],
)
def test_power_is_the_chance_of_all_outcomes_that_mcnemar_calls(n, difference, discordant):
    p, q = (discordant + difference) / 2, (discordant - difference) / 2
    outcomes = [
        (w, x, n - w - x)
        for w, x in product(range(n + 1), repeat=2)
        if w + x <= n and mcnemar(w, x) <= 0.05
    ]
    want = multinomial.pmf(outcomes, n, (p, q, 1 - p - q)).sum()
    assert power(n, difference, discordant=discordant) == pytest.approx(want, rel=1e-9)


@settings(max_examples=30)
@given(
    st.floats(0.05, 1).flatmap(lambda s: st.tuples(st.floats(0.05, s), st.just(s))),
    st.sampled_from((0.05, 0.01, 0.003)),
    st.sampled_from((0.5, 0.8, 0.95)),
)
@example((0.2, 1.0), 0.05, 0.8)  # 199 pairs reach it, 209 do not
@example((0.5, 1.0), 0.01, 0.8)
@example((0.5, 0.5), 0.05, 0.5)  # 11 pairs reach a half exactly, in one order of sums
def test_samples_needed_reach_the_power_and_keep_it(shares, alpha, goal):
    difference, discordant = shares
    n = samples_needed(difference, discordant=discordant, alpha=alpha, power=goal)

    def reached(n):
        return power(n, difference, discordant=discordant, alpha=alpha) >= goal - ROUNDING

    assert not reached(n - 1)
    assert all(reached(n + more) for more in range(60))


def test_six_documents_suffice_if_all_are_won():
    assert samples_needed(1.0, discordant=1.0) == 6
    assert detectable(5, discordant=1.0) is None


@pytest.mark.parametrize(("n", "discordant"), [(9, 1.0), (50, 0.3), (400, 0.5)])
def test_detectable_is_the_difference_that_has_the_power(n, discordant):
    least = detectable(n, discordant=discordant)
    assert power(n, least, discordant=discordant) == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda: samples_needed(0.3, discordant=0.2), "30 points .* 20% discordant"),
        (lambda: samples_needed(0.0, discordant=0.2), "0 points"),
        (lambda: samples_needed(0.004, discordant=0.2), "0.4 points is too fine .* 0.5 points"),
        (lambda: samples_needed(0.1, discordant=0.2, power=1), "power of 1 "),
        (lambda: samples_needed(0.1, discordant=0.2, alpha=0), "alpha cannot be 0"),
        (lambda: power(9, 0.1, discordant=1.5), "1.5 discordant"),
        (lambda: detectable(9, discordant=0), "0 discordant"),
    ],
)
def test_what_cannot_be_is_named(ask, told):
    with pytest.raises(UsageError, match=told):
        ask()
