"""From agreement to Dice: fitted without falling, and judged on patients that it was fitted without.

**Fit.** Isotonic regression: of all relations in which more agreement never means less Dice, the one with the least
squared error. Every patient counts alike, however many scans there are.

**Interval.** Each patient in turn is left out, and the distance of the Dice of their scans from what the others say is
noted. The interval reaches as far to either side as the distance that `LEVEL` of the patients do not exceed, with one
more patient, unknown and far off, counted in. It holds for a new patient with that probability, if patients are drawn
alike, up to what leaving one out changes in the fit.

Sources: Lei et al., "Distribution-free predictive inference for regression", JASA 2018 (conformal intervals from
absolute residuals); Barber et al., "Predictive inference with the jackknife+", Annals of Statistics 2021 (leaving one
out); Lee, Barber and Willett, "Distribution-free inference with hierarchical data", 2023 (weights where a patient has
several scans).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from covseg_core.prediction.expected_dice import KnownScan

LEVEL = 0.9
"""Share of new patients whose Dice the interval is meant to hold."""
FEWEST_PATIENTS = 10
"""With nine, the largest distance is the ninth of ten, so that an interval of 90 % has an end. With one more, it can be
made nine by nine and tried on the tenth, which is how its coverage is measured."""
_MOST_TRIED = 50
"""Patients on whom coverage is measured; each takes as many fits as there are patients."""


@dataclass(frozen=True, eq=False)
class Relation:
    """Dice by agreement."""

    agreement: np.ndarray
    """(k,) ascending, each value once."""
    dice: np.ndarray
    """(k,) never falling."""

    def at(self, agreement: np.ndarray) -> np.ndarray:
        """Dice to expect: on straight lines between the known ones, and as at the ends beyond them."""
        return np.interp(agreement, self.agreement, self.dice)


@dataclass(frozen=True, eq=False)
class Sample:
    """Scans as arrays, all (n,)."""

    agreement: np.ndarray
    dice: np.ndarray
    patient: np.ndarray
    """Number of the patient."""

    @property
    def weight(self) -> np.ndarray:
        """One patient's scans weigh 1 together."""
        _, inverse, counts = np.unique(self.patient, return_inverse=True, return_counts=True)
        return 1.0 / counts[inverse]

    @property
    def patients(self) -> np.ndarray:
        return np.unique(self.patient)

    def without(self, patient: int) -> Sample:
        """The scans of all others."""
        kept = self.patient != patient
        return Sample(self.agreement[kept], self.dice[kept], self.patient[kept])


def sample_of(scans: Sequence[KnownScan]) -> Sample:
    """The arrays behind scans."""
    _, patient = np.unique([scan.patient for scan in scans], return_inverse=True)
    return Sample(np.array([scan.agreement for scan in scans]), np.array([scan.dice for scan in scans]), patient)


def fit(sample: Sample) -> Relation:
    """The relation of at least one scan.

    >>> found = fit(Sample(np.array([0.2, 0.4, 0.6, 0.6]), np.array([0.3, 0.1, 0.5, 0.7]), np.arange(4)))
    >>> found.agreement.tolist(), found.dice.round(3).tolist(), found.at(np.array([0.0, 0.5, 1.0])).round(3).tolist()
    ([0.2, 0.4, 0.6], [0.2, 0.2, 0.6], [0.2, 0.4, 0.6])
    """
    from scipy.optimize import isotonic_regression  # a third of a second to import

    places, inverse = np.unique(sample.agreement, return_inverse=True)
    weights = np.bincount(inverse, sample.weight)
    means = np.bincount(inverse, sample.weight * sample.dice) / weights
    return Relation(places, isotonic_regression(means, weights=weights).x)


def left_out(sample: Sample) -> np.ndarray:
    """(n,) what is expected of each scan by the scans of all other patients, of which there is at least one."""
    found = np.empty(len(sample.dice))
    for patient in sample.patients:
        own = sample.patient == patient
        found[own] = fit(sample.without(patient)).at(sample.agreement[own])
    return found


def mean_of_others(sample: Sample) -> np.ndarray:
    """(n,) the mean Dice of all other patients: what would be expected without looking at agreement."""
    weight, found = sample.weight, np.empty(len(sample.dice))
    for patient in sample.patients:
        others = sample.patient != patient
        found[~others] = np.average(sample.dice[others], weights=weight[others])
    return found


def margin(distances: np.ndarray, sample: Sample, level: float = LEVEL) -> float:
    """How far an interval reaches to either side, so that it holds the Dice of `level` of all patients; at most 1.

    Parameters
    ----------
    distances : (n,) of each scan's Dice from what was expected without its patient

    >>> nine = Sample(np.zeros(9), np.zeros(9), np.arange(9))
    >>> float(margin(np.arange(1, 10) / 10, nine)), float(margin(np.arange(1, 9) / 10, nine.without(8)))
    (0.9, 1.0)
    """
    order = np.argsort(distances)
    reached = np.cumsum(sample.weight[order]) / (len(sample.patients) + 1)
    there = np.flatnonzero(reached >= level - 1e-9)
    return float(min(1.0, distances[order[there[0]]])) if there.size else 1.0


def covered(sample: Sample, level: float = LEVEL) -> float:
    """Share of patients whose Dice is in an interval that was made from start to end without them; scan by scan.

    Of more than 50 patients it is tried on so many, evenly spread over agreement.
    """
    order = sample.patients[np.argsort([sample.agreement[sample.patient == one].mean() for one in sample.patients])]
    tried = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), _MOST_TRIED)).round().astype(int))]
    shares = []
    for patient in tried:
        own, others = sample.patient == patient, sample.without(patient)
        reach = margin(np.abs(others.dice - left_out(others)), others, level)
        expected = fit(others).at(sample.agreement[own])
        shares.append(np.mean(np.abs(sample.dice[own] - expected) <= reach + 1e-9))
    return float(np.mean(shares))


def least_coverage(patients: int, level: float = LEVEL) -> float:
    """Share of new patients for whom an interval that was made of so many may hold in truth, if luck was bad.

    It is less in one measurement of twenty. On average over measurements, it holds for `level` of them.

    Source: Vovk, "Conditional validity of inductive conformal predictors", 2012: Beta(k, n + 1 - k), k = level (n + 1)

    >>> [round(least_coverage(patients), 2) for patients in (10, 20, 40, 100)]
    [0.74, 0.78, 0.82, 0.85]
    """
    from scipy.stats import beta

    rank = math.ceil(level * (patients + 1) - 1e-9)
    return float(beta.ppf(0.05, rank, patients + 1 - rank))


def mean_distance(sample: Sample, expected: np.ndarray) -> float:
    """Of Dice from what was expected, every patient counting alike."""
    return float(np.average(np.abs(sample.dice - expected), weights=sample.weight))


def tells_something(sample: Sample, expected: np.ndarray) -> bool:
    """Whether agreement, without the patient, is nearer to Dice than the mean of all others; by squared distance."""

    def squared(found: np.ndarray) -> float:
        return float(np.average((sample.dice - found) ** 2, weights=sample.weight))

    return squared(expected) < squared(mean_of_others(sample)) - 1e-12
