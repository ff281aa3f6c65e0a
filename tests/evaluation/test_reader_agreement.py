"""How far readers agree. What a user loses when it fails: an honest figure of how uncertain the truth itself is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from covseg_core.data.library.datasets import Dataset, load_dataset
from covseg_core.data.library.reviews import add_review, read_reviews
from covseg_core.data.library.revisions import save_revision, stored_mask
from covseg_core.evaluation.reader_agreement import reader_agreement, weighted_kappa

CASES = ("phantom_001", "phantom_002", "phantom_003")


@pytest.fixture
def dataset(small_phantoms: Callable[..., Dataset]) -> Dataset:
    return small_phantoms(3)


def slow_kappa(grades: list[tuple[int, int]]) -> float:
    """By the definition, one pair after the other."""
    n = len(grades)
    seen = sum((a - b) ** 2 for a, b in grades) / n
    chance = sum((a - b) ** 2 for a, _ in grades for _, b in grades) / n**2
    return 1 - seen / chance


def test_kappa_is_what_its_definition_says() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        grades = [(int(a), int(b)) for a, b in random.integers(1, 6, (int(random.integers(2, 30)), 2))]
        if len({grade for pair in grades for grade in pair}) > 1:
            assert weighted_kappa(grades) == pytest.approx(slow_kappa(grades))


def test_kappa_of_a_hand_worked_table() -> None:
    """Six masks, three grades: the squares of the differences come to 5, and to 50 / 6 by chance."""
    grades = [(1, 1), (1, 1), (1, 2), (2, 2), (3, 1), (3, 3)]
    assert weighted_kappa(grades) == pytest.approx(0.4)
    assert weighted_kappa([(1, 5), (5, 1)]) == pytest.approx(-1)


@pytest.mark.parametrize("grades", [[], [(3, 3)], [(3, 3), (3, 3)]])
def test_kappa_is_not_made_up_where_it_is_not_defined(grades: list[tuple[int, int]]) -> None:
    assert weighted_kappa(grades) is None


def test_decisions_and_grades_count_on_masks_that_both_have_seen(dataset: Dataset) -> None:
    for case, decision, grade in zip(CASES, ("accepted", "rejected", "accepted"), (5, 1, None), strict=True):
        add_review(dataset.name, case, decision, "Ada", grade=grade)  # type: ignore[arg-type]
    add_review(dataset.name, CASES[0], "rejected", "Bob", grade=1)  # taken back below
    add_review(dataset.name, CASES[0], "accepted", "Bob", grade=4)
    add_review(dataset.name, CASES[1], "accepted", "Bob", grade=2)
    add_review(dataset.name, CASES[2], "accepted", "Bob", "lung", grade=2)
    [found] = reader_agreement(dataset, "infection", read_reviews(dataset))
    assert (found.readers, found.reviewed, found.same_decision, found.graded) == (("Ada", "Bob"), 2, 0.5, 2)
    assert found.kappa == pytest.approx(slow_kappa([(5, 4), (1, 2)]))
    assert (found.drawn, found.dice) == (0, None)
    assert reader_agreement(dataset, "lung", read_reviews(dataset)) == [], "only one has looked at lungs"


def test_masks_that_both_have_drawn_are_compared_each_the_last(dataset: Dataset) -> None:
    first = stored_mask(dataset, dataset.case(CASES[0]), "infection")
    ada, bob = first.copy(), first.copy()
    ada[0, 2:6, 2:6] ^= 1
    bob[0, 2:6, 4:8] ^= 1
    save_revision(dataset.name, CASES[0], first ^ 1, author="Ada", parent=1)
    save_revision(dataset.name, CASES[0], ada, author="Ada", parent=1)
    save_revision(dataset.name, CASES[0], bob, author="Bob", parent=1)
    save_revision(dataset.name, CASES[1], stored_mask(dataset, dataset.case(CASES[1]), "infection") ^ 1, author="Bob")
    now = load_dataset(dataset.name)
    [found] = reader_agreement(now, "infection", read_reviews(now))
    expected = 2 * int((ada & bob).sum()) / (int(ada.sum()) + int(bob.sum()))
    assert (found.readers, found.reviewed, found.same_decision, found.kappa) == (("Ada", "Bob"), 0, None, None)
    assert (found.drawn, found.dice) == (1, pytest.approx(expected))
