"""From pairs of masks to tables: measures of each slice, each scan, pooled over all voxels, and their means.

Undefined values are None in these tables, and every mean says over how many values it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from covseg_core.evaluation.measures import MEASURES, Counts, EmptyPolicy, count, overlap, surface_measures

if TYPE_CHECKING:
    from covseg_core.data.library.datasets import Case

K = TypeVar("K", bound=Hashable)
Values = dict[str, float | None]
"""Measure -> value; None where it is undefined. Units: see `Evaluation.units`."""


@dataclass(frozen=True)
class Summary:
    """A mean with its spread."""

    mean: float
    std: float | None
    """Of the sample (n - 1); None for a single value."""
    median: float
    low: float
    high: float
    n: int
    """Values that are not undefined."""


@dataclass(frozen=True)
class SliceScore:
    """A prediction for one slice."""

    case: str
    z: int
    patient: str
    counts: Counts
    values: Values


@dataclass(frozen=True)
class ScanScore:
    """A prediction for the evaluated slices of one scan."""

    case: str
    patient: str
    slices: int
    whole: bool
    """All slices of one body are evaluated; otherwise surface measures of the scan are undefined."""
    counts: Counts
    values: Values


@dataclass(frozen=True)
class Scores:
    """All about one predictor: a model or a baseline."""

    name: str
    description: str
    pooled: Values
    """Over all voxels of all scans together; no surface measures."""
    over_scans: dict[str, Summary]
    """Measures without any defined value are left out."""
    over_slices: dict[str, Summary]
    scans: tuple[ScanScore, ...]
    slices: tuple[SliceScore, ...]


def score_case(
    case: Case,
    chosen: Sequence[int],
    truth: np.ndarray,
    prediction: np.ndarray,
    spacing: tuple[float, float, float] | None,
    policy: EmptyPolicy,
) -> tuple[ScanScore, list[SliceScore]]:
    """Score the chosen slices of one scan, each by itself and together.

    Parameters
    ----------
    case : whose scan it is
    chosen : z index of each slice
    truth, prediction : (len(chosen), Y, X) uint8 or bool
    spacing : (z, y, x) [mm], or None for unknown: distances are in pixels, volumes in voxels
    policy : for measures of two empty masks
    """
    distances = spacing or (1.0, 1.0, 1.0)
    voxel = math.prod(spacing) / 1000 if spacing else 1.0
    slices = []
    for z, true, predicted in zip(chosen, truth, prediction, strict=True):
        counts = count(true, predicted)
        values = overlap(counts, policy) | surface_measures(true, predicted, distances[1:], policy=policy)
        values["volume_difference"] = voxel * (counts.fp - counts.fn)
        values["false_positive_volume"] = math.nan if counts.truth else voxel * counts.fp
        slices.append(SliceScore(case.id, z, case.patient_of(z), counts, defined(values)))
    counts = sum((score.counts for score in slices), Counts())
    whole = not case.stacked and len(slices) == case.shape[0]
    values = overlap(counts, policy) | _volumes(slices)
    if whole:
        values |= surface_measures(truth, prediction, distances, policy=policy)
    return ScanScore(case.id, case.patient, len(slices), whole, counts, defined(values)), slices


def summarise(
    name: str, description: str, scans: Sequence[ScanScore], slices: Sequence[SliceScore], policy: EmptyPolicy
) -> Scores:
    """Pool all slices, and take means over scans and over slices."""
    counts = sum((score.counts for score in slices), Counts())
    return Scores(
        name,
        description,
        defined(overlap(counts, policy) | _volumes(slices)),
        summaries([score.values for score in scans]),
        summaries([score.values for score in slices]),
        tuple(scans),
        tuple(slices),
    )


def join_scans(parts: Sequence[ScanScore], slices: Sequence[SliceScore], policy: EmptyPolicy) -> ScanScore:
    """One scan from parts whose slices were predicted by different models; without surface measures.

    Parameters
    ----------
    parts : at least one, of one scan
    slices : of all the parts
    """
    counts = sum((part.counts for part in parts), Counts())
    values = defined(overlap(counts, policy) | _volumes(slices))
    return ScanScore(parts[0].case, parts[0].patient, len(slices), False, counts, values)


def _volumes(slices: Sequence[SliceScore]) -> dict[str, float]:
    """Sums over slices; false positives are undefined where no slice is free of the target."""
    differences = [score.values["volume_difference"] or 0.0 for score in slices]
    false = [value for score in slices if (value := score.values["false_positive_volume"]) is not None]
    # fsum, so that the order of the cases does not matter
    return {
        "volume_difference": math.fsum(differences),
        "false_positive_volume": math.fsum(false) if false else math.nan,
    }


def defined(values: dict[str, float]) -> Values:
    """All measures in the order of tables, None for those that are missing or NaN."""
    return {name: None if math.isnan(value := values.get(name, math.nan)) else float(value) for name in MEASURES}


def counts_by(slices: Sequence[SliceScore], key: Callable[[SliceScore], K]) -> dict[K, Counts]:
    """Counts of all slices that have the same key, by key in the order in which these come."""
    found: dict[K, Counts] = {}
    for score in slices:
        found[key(score)] = found.get(key(score), Counts()) + score.counts
    return found


def summary_of(values: Sequence[float]) -> Summary:
    """Mean, spread and extremes of one or more values, to the last digit the same in whatever order they come."""
    values = sorted(values)
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Summary(
        float(np.mean(values)), std, float(np.median(values)), float(min(values)), float(max(values)), len(values)
    )


def summaries(rows: Sequence[Values]) -> dict[str, Summary]:
    """Of each measure that is defined for any of the scans or slices."""
    columns = {name: [value for row in rows if (value := row[name]) is not None] for name in MEASURES}
    return {name: summary_of(values) for name, values in columns.items() if values}
