"""What a review by expected Dice is worth. What a user loses otherwise: to know whether the order is any good."""

from __future__ import annotations

import numpy as np
import pytest

from covseg_core.evaluation.expected_quality.risk_coverage import risk_coverage
from covseg_core.figures.risk_coverage import risk_coverage_figure
from covseg_core.prediction.expected_dice import KnownScan


def scans(*pairs: tuple[float | None, float]) -> list[KnownScan]:
    """Of what is expected, and of the true Dice."""
    return [KnownScan(str(n), str(n), "test", 0.5, dice, expected) for n, (expected, dice) in enumerate(pairs)]


def test_by_hand() -> None:
    """The worst goes first, then the best by mistake."""
    found = risk_coverage(scans((0.1, 0.2), (0.4, 0.9), (0.5, 0.4), (0.9, 0.7)))
    assert found is not None
    assert found.reviewed == (0, 0.25, 0.5, 0.75)
    assert found.expected == pytest.approx((0.55, 2 / 3, 0.55, 0.7))
    assert found.ideal == pytest.approx((0.55, 2 / 3, 0.8, 0.9))
    assert found.random == pytest.approx(0.55)
    assert found.gain == pytest.approx(np.mean(found.expected) - 0.55)
    assert found.share_of_ideal == pytest.approx(found.gain / (np.mean(found.ideal) - 0.55))
    assert [row[0] for row in found.rows()] == [0, 0.25, 0.5]


def test_an_order_that_is_wrong_loses() -> None:
    found = risk_coverage(scans((0.9, 0.1), (0.5, 0.5), (0.1, 0.9)))
    assert found is not None and found.share_of_ideal == pytest.approx(-1)


def test_equal_expectations_are_in_random_order_whatever_the_order_of_the_files() -> None:
    pairs = [(0.5, 0.1), (0.5, 0.9), (0.7, 0.8)]
    for order in (pairs, pairs[::-1], [pairs[1], pairs[2], pairs[0]]):
        found = risk_coverage(scans(*order))
        assert found is not None and found.expected == pytest.approx((0.6, 0.65, 0.8))
    alike = risk_coverage(scans((0.5, 0.5), (0.6, 0.5)))
    assert alike is not None and alike.gain == 0 and alike.share_of_ideal is None


def test_nothing_expected_is_no_order() -> None:
    assert risk_coverage(scans((None, 0.4))) is None


def test_the_figure_has_the_three_orders() -> None:
    found = risk_coverage(scans((0.1, 0.2), (0.4, 0.9)))
    assert found is not None
    lines = {line.name: tuple(line.y) for line in risk_coverage_figure(found).data}
    assert lines == {"by expected Dice": found.expected, "at random": (found.random,) * 2, "by true Dice": found.ideal}
