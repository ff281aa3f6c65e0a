"""From agreement to Dice. What a user loses otherwise: an interval that promises more than it holds."""

from __future__ import annotations

import numpy as np
import pytest

from covseg_core.evaluation.expected_quality.relation import (
    LEVEL,
    Sample,
    covered,
    fit,
    left_out,
    margin,
    mean_distance,
    mean_of_others,
    tells_something,
)


def drawn(random: np.random.Generator, patients: int, noise: float = 0.08, scans: int = 1) -> Sample:
    """Scans of a patient are alike: they share their noise."""
    patient = np.repeat(np.arange(patients), scans)
    agreement = np.clip(np.repeat(random.beta(5, 2, patients), scans) + random.normal(0, 0.02, len(patient)), 0, 1)
    dice = np.clip(0.1 + 0.85 * agreement + np.repeat(random.normal(0, noise, patients), scans), 0, 1)
    return Sample(agreement, dice, patient)


def reach(sample: Sample) -> float:
    return margin(np.abs(sample.dice - left_out(sample)), sample)


def test_more_agreement_never_means_less_dice_and_nothing_fits_better() -> None:
    """Against all step functions of a small sample."""
    sample = Sample(np.array([0.1, 0.3, 0.5, 0.7]), np.array([0.4, 0.2, 0.9, 0.8]), np.arange(4))
    found = fit(sample)
    assert (np.diff(found.dice) >= 0).all()
    levels = np.linspace(0, 1, 21)
    grid = np.array(np.meshgrid(*[levels] * 4)).reshape(4, -1)
    grid = grid[:, (np.diff(grid, axis=0) >= 0).all(axis=0)]
    best = grid[:, ((grid - sample.dice[:, None]) ** 2).sum(axis=0).argmin()]
    assert np.abs(found.dice - best).max() <= 0.05
    assert found.at(np.array([-1, 2])).tolist() == [found.dice[0], found.dice[-1]]


def test_a_patient_with_many_scans_counts_as_one() -> None:
    once = Sample(np.array([0.5, 0.5]), np.array([0.2, 0.8]), np.array([0, 1]))
    many = Sample(np.full(10, 0.5), np.array([0.2] + [0.8] * 9), np.array([0] + [1] * 9))
    assert fit(many).dice == pytest.approx(fit(once).dice) == [0.5]
    assert mean_distance(many, np.full(10, 0.2)) == pytest.approx(0.3)


def test_what_is_expected_of_a_patient_knows_nothing_of_their_scans() -> None:
    sample = drawn(np.random.default_rng(0), 12, scans=3)
    dice = np.where(sample.patient == 4, 0.0, sample.dice)
    other = Sample(sample.agreement, dice, sample.patient)
    own = sample.patient == 4
    for way in (left_out, mean_of_others):
        assert (way(sample)[own] == way(other)[own]).all()
        assert (way(sample)[~own] != way(other)[~own]).any()


@pytest.mark.parametrize(("patients", "scans"), [(10, 1), (10, 3), (30, 1), (30, 2)])
def test_the_interval_holds_for_as_many_new_patients_as_it_says(patients: int, scans: int) -> None:
    """Over many calibrations, each of other patients; one of them may hold for fewer."""
    random, held = np.random.default_rng(patients + scans), []
    for _ in range(120):
        sample, new = drawn(random, patients, scans=scans), drawn(random, 200)
        held.append(np.mean(np.abs(fit(sample).at(new.agreement) - new.dice) <= reach(sample)))
    assert LEVEL - 0.03 <= np.mean(held) <= 0.97


def test_the_measured_coverage_is_that_of_new_patients() -> None:
    random = np.random.default_rng(1)
    measured = [covered(drawn(random, 12, scans=1 + number % 2)) for number in range(25)]
    assert LEVEL - 0.04 <= np.mean(measured) <= 0.97


def test_with_too_few_patients_the_interval_is_everything() -> None:
    random = np.random.default_rng(2)
    assert reach(drawn(random, 8)) == 1.0
    assert reach(drawn(random, 9)) < 1.0


def test_coverage_of_many_patients_is_tried_on_some() -> None:
    assert 0.8 <= covered(drawn(np.random.default_rng(3), 80)) <= 1


def test_agreement_that_tells_nothing_is_no_better_than_the_mean() -> None:
    """One in six passes by chance with ten patients, one in ten with forty; with a relation, all do."""
    random = np.random.default_rng(4)
    passed = {True: 0, False: 0}
    for _ in range(100):
        sample = drawn(random, 20)
        mixed = Sample(random.permutation(sample.agreement), sample.dice, sample.patient)
        passed[True] += tells_something(sample, left_out(sample))
        passed[False] += tells_something(mixed, left_out(mixed))
    assert passed[True] == 100
    assert passed[False] <= 25
    alike = Sample(np.full(12, 0.9), random.random(12), np.arange(12))
    assert not tells_something(alike, left_out(alike)), "five copies of one model agree with 1"
