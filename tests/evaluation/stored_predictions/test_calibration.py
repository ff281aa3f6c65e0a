"""Calibration and precision-recall. What a user loses otherwise: to know whether a probability of 0.8 means 80 %."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest

from covseg_core.data.library.datasets import Case
from covseg_core.evaluation.stored_predictions.calibration import (
    BINS,
    Histogram,
    histogram,
    precision_recall,
    reliability,
    thinned,
)
from covseg_core.evaluation.stored_predictions.scans import StoredScan


def scan(probabilities: np.ndarray, truth: np.ndarray) -> StoredScan:
    """A flat list of voxels as a scan."""
    case = Case(
        id="case", patient="patient", stacked=False, scan="ct.nii", infection="mask.nii", lung=None, labels=None,
        shape=(1, 1, len(truth)), spacing=(2.0, 1.0, 1.0), spacing_known=True, orientation="RAS", scale="HU",
        infection_voxels=None, lung_voxels=None, sha256={},
    )  # fmt: skip
    values = np.asarray(probabilities, np.float16).reshape(1, 1, -1)
    return StoredScan(case, (0,), values, np.asarray(truth, bool).reshape(1, 1, -1), (slice(1), slice(1)), (1.0, 1.0))


def counted(probabilities: object, truth: object) -> Histogram:
    return histogram([scan(np.asarray(probabilities), np.asarray(truth))])


def test_by_hand() -> None:
    """Four voxels; ordered by probability: true, other, true, other."""
    counts = counted([0.5, 0.875, 0.25, 0.75], [1, 1, 0, 0])
    curve = precision_recall(counts)
    np.testing.assert_array_equal(curve.thresholds, [0.875, 0.75, 0.5, 0.25])
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3, 1 / 2])
    np.testing.assert_allclose(curve.recall, [1 / 2, 1 / 2, 1, 1])
    assert curve.average == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert curve.prevalence == 0.5
    trust = reliability(counts)
    assert trust.ece == pytest.approx((0.5 + 0.125 + 0.25 + 0.75) / 4)
    np.testing.assert_allclose(trust.share[[3, 7, 11, 13]], 1 / 4)
    assert np.isnan(trust.frequency[0])


def test_voxels_of_one_bin_are_averaged_before_they_are_compared() -> None:
    """All in the bin from 0.4 to 0.467: one of three is true, which is what they say together, or nearly."""
    trust = reliability(counted([0.40625, 0.4375, 0.46484375], [0, 1, 0]))
    mean = (0.40625 + 0.4375 + 0.46484375) / 3
    assert trust.probability[6] == pytest.approx(mean)
    assert trust.frequency[6] == pytest.approx(1 / 3)
    assert trust.ece == pytest.approx(mean - 1 / 3)


def test_it_says_what_a_slow_obvious_computation_says() -> None:
    random = np.random.default_rng(0)
    probabilities = random.beta(0.3, 1, 5000).astype(np.float16)
    probabilities[:3] = 0, 1, -0.0
    truth = random.random(5000) < probabilities.astype(float) ** 1.5
    parts = [scan(probabilities[:2000], truth[:2000]), scan(probabilities[2000:], truth[2000:])]
    counts = histogram(parts)
    assert counts.voxels == 5000
    values = probabilities.astype(float)
    ece, marked, outside = 0.0, 0.0, 0
    for number in range(BINS):
        last = number == BINS - 1
        inside = (values >= number / BINS) & ((values < (number + 1) / BINS) | last)
        gap = abs(values[inside].mean() - truth[inside].mean()) * inside.sum()
        ece += gap / 5000
        marked, outside = (marked + gap, outside + inside.sum()) if number else (marked, outside)
    trust = reliability(counts)
    assert trust.ece == pytest.approx(ece)
    assert trust.ece_marked == pytest.approx(marked / outside)
    assert trust.share.sum() == pytest.approx(1)
    curve = precision_recall(counts)
    average, before = 0.0, 0.0
    for place, threshold in enumerate(sorted(set(np.abs(values)), reverse=True)):
        mask = values >= threshold
        precision, recall = truth[mask].mean(), truth[mask].sum() / truth.sum()
        assert (curve.precision[place], curve.recall[place]) == (pytest.approx(precision), pytest.approx(recall))
        average += (recall - before) * precision
        before = recall
    assert curve.average == pytest.approx(average)
    if importlib.util.find_spec("sklearn"):
        from sklearn.metrics import average_precision_score

        assert curve.average == pytest.approx(average_precision_score(truth, values))


def test_a_model_that_says_what_is_true_has_no_error_and_one_that_is_sure_of_wrong_all() -> None:
    assert reliability(counted([0, 1, 1], [0, 1, 1])).ece == 0
    assert precision_recall(counted([0, 1, 1], [0, 1, 1])).average == 1
    assert reliability(counted([1, 0], [0, 1])).ece == 1


def test_without_a_true_voxel_recall_is_undefined_and_not_an_accident() -> None:
    counts = counted([0.25, 0.5], [0, 0])
    curve = precision_recall(counts)
    assert np.isnan(curve.recall).all() and np.isnan(curve.average)
    assert curve.prevalence == 0
    assert reliability(counts).ece == pytest.approx(0.375)
    nothing = dataclasses.replace(counts, other=np.zeros_like(counts.other))
    assert np.isnan(reliability(nothing).ece)


def test_a_thinned_curve_keeps_its_shape_and_its_ends() -> None:
    random = np.random.default_rng(0)
    truth = random.random(20_000) < 0.1
    curve = precision_recall(counted(np.clip(random.normal(0.3 + 0.4 * truth, 0.2), 0, 1), truth))
    thin = thinned(curve)
    assert len(thin.recall) <= 300 < len(curve.recall)
    assert (thin.recall[0], thin.recall[-1]) == (curve.recall[0], curve.recall[-1])
    area = np.trapezoid(thin.precision, thin.recall)
    assert area == pytest.approx(np.trapezoid(curve.precision, curve.recall), abs=0.01)
    assert thin.average == curve.average
