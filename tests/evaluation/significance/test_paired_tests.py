"""Statistics. What a user loses otherwise: the right to say that one model is better, or that it is not known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from covseg_core.evaluation.significance.paired_tests import (
    FEWEST_FOR_INTERVAL,
    LEVEL,
    MOST,
    expanded,
    fewest_patients,
    holm,
    interval,
    patients_needed,
    sign_flip_p,
)


@pytest.mark.parametrize(
    ("differences", "as_far"),
    [
        ([1, 2, 3], 2),  # all signs alike: +++ and --- alone are as far from 0
        ([1, 2, -3], 8),  # a sum of 0 is the nearest there is
        ([1, 2, 3, -1], 6),  # 5 of 7: turn nothing, or either 1; and the mirror images
        ([1, 2, 3, 4, 5], 2),
        ([-1, 2, 3, 4, 5, 6], 4),  # 19 of 21: turn nothing or the 1
        ([1, 2, 3, 4, 5, 6, 7], 2),
        ([-1, -2, 3, 4, 5, 6, 7], 10),  # 22 of 28: turn at most 3: nothing, 1, 2, 3, 1 and 2
    ],
)
def test_sign_flips_counted_by_hand(differences: list[float], as_far: int) -> None:
    row = 0.01 * np.array(differences)
    expected = pytest.approx(as_far / 2 ** len(row))
    assert sign_flip_p(row[None])[0] == expected
    assert sign_flip_p(-row[None])[0] == expected, "whoever is called first"


def test_patients_that_are_left_out_change_nothing() -> None:
    row = np.array([0.3, 0.1, np.nan, 0.2, -0.05, np.nan, 0.4])
    rows = np.array([row, np.full(7, 0.1)])
    assert sign_flip_p(rows)[0] == sign_flip_p(row[None, ~np.isnan(row)])[0] == 4 / 2**5
    assert sign_flip_p(np.array([[0.7]]))[0] == 1, "one patient says nothing"


@pytest.mark.parametrize("n", [13, 14, 40])
def test_many_patients_are_tested_by_chance_and_always_alike(n: int) -> None:
    """Beyond 13 the p is an estimate: close to Student's for normal data, and the same on every call."""
    row = np.random.default_rng(n).normal(0.5, 1, (1, n))
    p = sign_flip_p(row)[0]
    assert p == sign_flip_p(row)[0]
    assert p == pytest.approx(stats.ttest_1samp(row[0], 0).pvalue, abs=0.02)


@pytest.mark.parametrize(("n", "signs"), [(12, 2**12), (13, 2**13), (14, 10_000)])
def test_up_to_13_patients_every_sign_is_tried(n: int, signs: int) -> None:
    """An exact p is no matter of luck; of 9,999 random signs the data's own are one more."""
    mixed, alike = np.random.default_rng(n).normal(0.3, 1, (2, n))
    as_far = sign_flip_p(mixed[None])[0] * signs
    assert as_far == pytest.approx(round(as_far), abs=1e-6), "a count of signs"
    assert sign_flip_p(np.abs(alike)[None])[0] == pytest.approx(2 / signs), "never 0: the data's own signs count"


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # 4 x .005, 3 x .01, 2 x .03, and .04 is no less
        ([0.5, 0.6], [1, 1]),
        ([0.9, 0.8], [1, 1]),  # 2 x .8 would be more than certain
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([], []),
    ],
)
def test_holm_by_hand(p: list[float], corrected: list[float]) -> None:
    assert holm(p) == pytest.approx(corrected)


@pytest.mark.parametrize("comparisons", [1, 2, 3, 6, 10])
def test_with_too_few_patients_not_even_the_clearest_difference_is_real(comparisons: int) -> None:
    """Otherwise the page would promise what its test cannot keep, or warn of what it can."""
    for n in range(2, 12):
        lowest = min(holm(sign_flip_p(np.tile(np.linspace(1, 2, n), (comparisons, 1))).tolist()))
        assert (lowest < LEVEL) == (n >= fewest_patients(comparisons))


def test_the_interval_is_that_of_all_resamples() -> None:
    """5 patients have 3,125 resamples, few enough to go through them all."""
    differences = np.array([0.01, -0.02, 0.05, 0.03, 0.06])
    means = [np.mean(resample) for resample in itertools.product(differences, repeat=5)]
    tail = stats.norm.cdf(np.sqrt(5 / 4) * stats.t.ppf(0.025, 4))
    expected = np.quantile(means, [tail, 1 - tail])
    np.testing.assert_allclose(interval(differences), expected, atol=0.003)
    plain = np.quantile(means, [0.025, 0.975])
    assert expected[0] < plain[0] - 0.005, "the plain percentile interval is too narrow for few patients"


@pytest.mark.parametrize(("n", "level"), [(2, 1.0), (5, 0.99809), (10, 0.98291), (1000, 0.95039)])
def test_few_patients_widen_the_interval_as_students_t_does(n: int, level: float) -> None:
    """2 Phi(t sqrt(n / (n - 1))) - 1, where tables have t = 2.7764, 2.2622 and 1.9623 at 4, 9 and 999 degrees."""
    assert expanded(n) == pytest.approx(level, abs=2e-5)


def test_the_interval_moves_with_the_data() -> None:
    differences = np.random.default_rng(0).normal(0, 1, (3, 9))
    low, high = interval(differences)
    moved = interval(2 * differences + 5)
    np.testing.assert_allclose(moved, (2 * low + 5, 2 * high + 5))
    alone = interval(differences[1])
    np.testing.assert_allclose(alone, (low[1], high[1]))
    assert interval(np.full(6, 0.25)) == (0.25, 0.25)


EXPERIMENTS = 600


@pytest.mark.parametrize(
    ("shape", "n", "claimed"),
    [
        ("normal", 8, 0.95),
        ("normal", 20, 0.95),
        ("skewed", 8, 0.94),
        ("skewed", 20, 0.94),
        ("very skewed", 8, 0.89),
        ("very skewed", 20, 0.92),
    ],
)
def test_the_interval_covers_the_truth_as_often_as_docs_metrics_says(shape: str, n: int, claimed: float) -> None:
    """Within three standard errors of 600 experiments: 0.027 at 0.95, 0.037 at 0.90.

    Skewed like a gamma distribution of shape 4 (skewness 1), very skewed like an exponential one (skewness 2).
    """
    random = np.random.default_rng(2026)
    draw = {
        "normal": lambda size: random.normal(0, 1, size),
        "skewed": lambda size: random.gamma(4, 1, size) - 4,
        "very skewed": lambda size: random.exponential(1, size) - 1,
    }[shape]
    low, high = interval(draw((EXPERIMENTS, n)))
    covered = np.mean((low <= 0) & (high >= 0))
    assert covered == pytest.approx(claimed, abs=3 * np.sqrt(claimed * (1 - claimed) / EXPERIMENTS))


def test_of_fewer_than_five_patients_no_bootstrap_could_cover() -> None:
    """All patients on one side of the truth, by chance alone: 2 x 0.5^n."""
    assert min(n for n in range(2, 9) if 1 - 2 * 0.5**n > 0.9) == FEWEST_FOR_INTERVAL


def test_three_equal_models_are_told_apart_in_fewer_than_5_of_100_studies() -> None:
    """Any false alarm among the three pairs of 4,000 studies; about 4.4 % are expected, the test having steps."""
    models = np.random.default_rng(5).normal(0, 1, (4000, 3, 7))
    differences = np.stack([models[:, a] - models[:, b] for a, b in ((0, 1), (0, 2), (1, 2))], axis=1)
    p = sign_flip_p(differences.reshape(-1, 7)).reshape(-1, 3)
    alarms = np.mean([min(holm(row.tolist())) < LEVEL for row in p])
    assert 0.03 < alarms <= LEVEL


@pytest.mark.parametrize(("effect", "needed"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_patients_needed_are_those_of_the_textbook(effect: float, needed: int) -> None:
    """Cohen's small, medium and large effects and one of 1, two-sided paired t test, 5 %, power 80 %: as in G*Power."""
    assert patients_needed(of_effect(effect), 1) == needed


@pytest.mark.parametrize("scale", [0.01, 1, 100, -1])
def test_patients_needed_do_not_depend_on_the_unit(scale: float) -> None:
    """In millimetres or centimetres, and whichever model is called first, it takes as many."""
    assert patients_needed(scale * of_effect(0.5), 1) == 34


def test_comparisons_share_the_level() -> None:
    """Cohen's medium effect among three models: of 5 % each pair has 1.7.

    In 2,000,000 simulated studies of 44 patients a t test at 1.7 % finds it in 79.2 of 100, of 45 in 80.2.
    """
    assert patients_needed(of_effect(0.5), 3) == 45


def test_patients_needed_can_be_said_from_two_patients_on() -> None:
    assert patients_needed(np.array([0.1, 0.3]), 1) == 7  # an effect of 0.2 / 0.1414 = 1.4


def of_effect(effect: float) -> np.ndarray:
    """Differences whose mean is this many standard deviations."""
    row = np.array([-3.0, -1, 0, 1, 3])
    return row / row.std(ddof=1) + effect


def test_patients_needed_find_the_difference_in_four_of_five_studies() -> None:
    needed = patients_needed(of_effect(1.0), 3)
    assert needed is not None
    studies = np.random.default_rng(1).normal(1.0, 1.0, (4000, needed))
    found = np.mean(stats.ttest_1samp(studies, 0, axis=1).pvalue < LEVEL / 3)
    assert found == pytest.approx(0.8, abs=0.04)
    fewer = np.mean(stats.ttest_1samp(studies[:, : needed - 2], 0, axis=1).pvalue < LEVEL / 3)
    assert fewer < 0.78


def test_patients_needed_have_bounds() -> None:
    assert patients_needed(of_effect(0.01), 1) == MOST + 1
    assert patients_needed(of_effect(0.0887), 1) == MOST == 1_000, "the last that is counted"
    assert patients_needed(of_effect(50.0), 3) == fewest_patients(3) == 7, "the test itself asks for as many"
    assert patients_needed(np.array([0.1]), 1) is None
    assert patients_needed(np.array([0.1, -0.1]), 1) is None, "no difference, no number that would tell it"
    assert patients_needed(np.full(4, 0.1), 1) is None, "no spread: nothing to reckon with"
