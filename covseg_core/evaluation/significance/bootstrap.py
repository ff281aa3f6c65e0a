"""A score with its 95 % interval, or how far two scores are apart: a bootstrap in which patients are drawn anew.

Other than in `statistics`, the two need not be of the same patients: then each side is drawn by itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from covseg_core.evaluation.results import Evaluation
from covseg_core.evaluation.scores import Scores, counts_by
from covseg_core.evaluation.significance import paired_tests

Measure = Literal["dice", "iou"]
MEASURES: tuple[Measure, ...] = ("dice", "iou")


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval."""

    value: float | None
    """None where it is undefined: no lesion in the test, and none predicted."""
    low: float | None = None
    """None for fewer patients than `statistics.FEWEST_FOR_INTERVAL`."""
    high: float | None = None


def score(evaluation: Evaluation, measure: Measure) -> Interval:
    """A measure, pooled over all slices."""
    patients = len(_by_patient(evaluation.model))
    if patients < paired_tests.FEWEST_FOR_INTERVAL:
        return Interval(evaluation.model.pooled[measure])
    return Interval(evaluation.model.pooled[measure], *_interval(_drawn(evaluation, measure), patients))


def gap(honest: Evaluation, leaky: Evaluation, measure: Measure) -> Interval:
    """The leaky score minus the honest one, pooled.

    The same patients are drawn on both sides if both test the same slices, else each side is drawn by itself.
    """
    values = [evaluation.model.pooled[measure] for evaluation in (leaky, honest)]
    if values[0] is None or values[1] is None:
        return Interval(None)
    value = values[0] - values[1]
    fewest = min(len(_by_patient(evaluation.model)) for evaluation in (leaky, honest))
    if fewest < paired_tests.FEWEST_FOR_INTERVAL:
        return Interval(value)
    seeds = (0, 0) if same_slices(honest, leaky) else (0, 1)
    drawn = [_drawn(side, measure, seed) for side, seed in zip((leaky, honest), seeds, strict=True)]
    return Interval(value, *_interval(drawn[0] - drawn[1], fewest))


def difference_of_means(there: Mapping[str, Sequence[float]], here: Mapping[str, Sequence[float]]) -> Interval:
    """Mean there minus mean here; each side is drawn by itself.

    Parameters
    ----------
    there, here : patient -> values, of scans for instance: each counts alike, and a patient is drawn with all of his

    >>> difference_of_means({"a": [0.25, 0.5]}, {"b": [0.5], "c": [0.75]})
    Interval(value=-0.25, low=None, high=None)
    """
    sides = [tuple((sum(values), len(values)) for values in side.values() if values) for side in (there, here)]
    return _difference(*sides)


def same_slices(one: Evaluation, other: Evaluation) -> bool:
    """Whether both evaluations are of the same slices."""
    tested = [{(slice.case, slice.z) for slice in evaluation.model.slices} for evaluation in (one, other)]
    return tested[0] == tested[1]


def _drawn(evaluation: Evaluation, measure: Measure, seed: int = paired_tests.SEED) -> np.ndarray:
    """The pooled measure of patients drawn with replacement, (RESAMPLES,); of a model of several seeds the mean over
    these, drawn likewise, with their spread widened to that of a sample."""
    each = [_pooled(_by_patient(one.model), measure, seed) for one in evaluation.seeds or (evaluation,)]
    number = len(each)
    if number == 1:
        return each[0]
    times = np.random.default_rng((seed, number)).multinomial(number, np.full(number, 1 / number), len(each[0]))
    weights = 1 / number + math.sqrt(number / (number - 1)) * (times - 1) / number
    return (weights.T * np.array(each)).sum(0)


def _by_patient(scores: Scores) -> np.ndarray:
    """(n, 3) float64: true positives, false positives, false negatives of each patient, by name."""
    found = counts_by(scores.slices, lambda score: score.patient)
    return np.array([(one.tp, one.fp, one.fn) for _, one in sorted(found.items())], float)


def _pooled(counts: np.ndarray, measure: Measure, seed: int = paired_tests.SEED) -> np.ndarray:
    """The pooled measure of as many patients, drawn with replacement, (RESAMPLES,); NaN where nothing was drawn."""
    tp, fp, fn = _resampled(counts, seed).T
    weight = 2 if measure == "dice" else 1
    with np.errstate(invalid="ignore"):
        return weight * tp / (weight * tp + fp + fn)


@functools.lru_cache(maxsize=256)
def _difference(there: tuple[tuple[float, int], ...], here: tuple[tuple[float, int], ...]) -> Interval:
    """From sum and number of the values of each patient; kept, since it takes a while and pages ask often."""
    if not there or not here:
        return Interval(None)
    sides = [np.array(side) for side in (there, here)]
    means = [float(side[:, 0].sum() / side[:, 1].sum()) for side in sides]
    value, fewest = means[0] - means[1], min(map(len, sides))
    if fewest < paired_tests.FEWEST_FOR_INTERVAL:
        return Interval(value)
    (sums, numbers), (own_sums, own_numbers) = (_resampled(side, seed).T for seed, side in enumerate(sides))
    return Interval(value, *_interval(sums / numbers - own_sums / own_numbers, fewest))


def _resampled(rows: np.ndarray, seed: int) -> np.ndarray:
    """(RESAMPLES, k): sums of (n, k) over n patients, drawn with replacement."""
    rng, n = np.random.default_rng(seed), len(rows)
    batch = max(1, 10_000_000 // n)  # 80 MB at a time
    times = [min(batch, paired_tests.RESAMPLES - start) for start in range(0, paired_tests.RESAMPLES, batch)]
    return np.concatenate([rng.multinomial(n, np.full(n, 1 / n), number) @ rows for number in times])


def _interval(values: np.ndarray, n: int) -> tuple[float | None, float | None]:
    """Percentiles of what was drawn, widened for few patients."""
    tail = (1 - paired_tests.expanded(n)) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return (None, None) if math.isnan(low) else (float(low), float(high))
