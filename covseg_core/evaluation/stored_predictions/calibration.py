"""How far a model's probabilities can be believed, and what every threshold would find: calibration, precision-recall.

Both follow from two histograms, of the probabilities of true voxels and of the others. float16 has 15,361 values from 0
to 1, so that a histogram over all of them loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from covseg_core.evaluation.stored_predictions.scans import StoredScan

BINS = 15
"""Of equal width, as in Guo 2017."""
_ONE = 0x3C00
"""The bits of 1 as float16; those of positive numbers are in the order of their values."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many voxels have each probability."""

    true: np.ndarray
    """(15361,) int64: voxels of the true mask, by the bits of their float16."""
    other: np.ndarray

    @property
    def voxels(self) -> int:
        return int(self.true.sum() + self.other.sum())


@dataclass(frozen=True, eq=False)
class Reliability:
    """Said and true, bin by bin; NaN where a bin has no voxel. (BINS,) each."""

    probability: np.ndarray
    """Mean probability."""
    frequency: np.ndarray
    """Share of the voxels that are true."""
    share: np.ndarray
    """Of all voxels."""
    ece: float
    """Expected calibration error: mean distance of the two, weighed by voxels. NaN without voxels."""
    ece_marked: float
    """Without the lowest bin, in which nearly all of the background is."""


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """For every probability that occurs as a threshold, from the highest to the lowest."""

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    """NaN where no voxel is true."""
    average: float
    """Average precision: the sum of precision times the step of recall. NaN where no voxel is true."""
    prevalence: float
    """Share of voxels that are true: the average precision of chance."""


def histogram(scans: Sequence[StoredScan]) -> Histogram:
    """Of what a model says about all voxels, without padding."""
    counts = np.zeros((2, _ONE + 1), np.int64)
    for scan in scans:
        bits = np.minimum(scan.probabilities.view(np.uint16) & 0x7FFF, _ONE)  # -0 is 0
        counts[0] += np.bincount(bits[scan.truth], minlength=_ONE + 1)
        counts[1] += np.bincount(bits.ravel(), minlength=_ONE + 1)
    return Histogram(counts[0], counts[1] - counts[0])


def reliability(counts: Histogram) -> Reliability:
    """Source: Naeini, Cooper, Hauskrecht, AAAI 2015 (ECE); Guo, Pleiss, Sun, Weinberger, ICML 2017 (diagram).

    Of the foreground's probability, as for a binary classifier: a bin holds voxels of one probability, not of one
    confidence in either answer.
    """
    values, every = _values(), counts.true + counts.other
    bins = np.minimum((values * BINS).astype(int), BINS - 1)
    voxels, true = (np.bincount(bins, each, BINS) for each in (every, counts.true))
    said = np.bincount(bins, every * values, BINS)
    with np.errstate(invalid="ignore"):
        probability, frequency, share = said / voxels, true / voxels, voxels / voxels.sum()
    gaps = np.abs(said - true)
    return Reliability(probability, frequency, share, _ratio(gaps, voxels), _ratio(gaps[1:], voxels[1:]))


def precision_recall(counts: Histogram) -> PrecisionRecall:
    """As scikit-learn's `precision_recall_curve` and `average_precision_score`, without interpolation."""
    there = np.flatnonzero(counts.true + counts.other)[::-1]
    tp, fp = np.cumsum(counts.true[there]), np.cumsum(counts.other[there])
    precision, positives = tp / (tp + fp), int(counts.true.sum())
    recall = tp / positives if positives else np.full(len(tp), np.nan)
    average = float(np.sum(np.diff(recall, prepend=0) * precision)) if positives else float("nan")
    prevalence = positives / counts.voxels if counts.voxels else float("nan")
    return PrecisionRecall(_values()[there], precision, recall, average, prevalence)


def thinned(curve: PrecisionRecall, points: int = 300) -> PrecisionRecall:
    """The curve for a figure: about as many points, evenly along it, its ends among them."""
    if len(curve.recall) <= points:
        return curve
    along = np.cumsum(np.hypot(np.diff(curve.recall, prepend=0), np.diff(curve.precision, prepend=1)))
    kept = np.unique(np.searchsorted(along, np.linspace(along[0], along[-1], points)).clip(0, len(along) - 1))
    return PrecisionRecall(
        curve.thresholds[kept], curve.precision[kept], curve.recall[kept], curve.average, curve.prevalence
    )


def _values() -> np.ndarray:
    """(15361,) float64: every float16 from 0 to 1."""
    return np.arange(_ONE + 1, dtype=np.uint16).view(np.float16).astype(np.float64)


def _ratio(gaps: np.ndarray, voxels: np.ndarray) -> float:
    return float(gaps.sum() / voxels.sum()) if voxels.sum() else float("nan")
