"""The class of a share of the lungs. What a user loses otherwise: the table says mild of who is severely ill."""

from __future__ import annotations

import pytest

from covseg_core.prediction.cohort.severity import CLASSES, EXPLAINED, SOURCE, severity


@pytest.mark.parametrize(
    ("percent", "expected"),
    [(0, 0), (0.01, 1), (4.99, 1), (5, 2), (25, 2), (25.1, 3), (26, 3), (50, 3), (51, 4), (75, 4), (75.1, 5), (100, 5)],
)
def test_the_classes_are_those_of_the_paper(percent: float, expected: int) -> None:
    assert severity(percent / 100) == expected


def test_without_lungs_there_is_no_class() -> None:
    assert severity(None) is None


def test_it_is_said_where_the_classes_come_from_and_that_lobes_are_not_segmented() -> None:
    assert SOURCE in EXPLAINED and "lobes are not segmented" in EXPLAINED
    assert all(words in EXPLAINED for words in CLASSES)
