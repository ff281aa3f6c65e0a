"""Scores over seeds: their mean, which stands for the model, and how far seeds are apart.

A value of a slice, a scan or of all voxels is the mean of the seeds' values, over the seeds for which it is defined.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np

from covseg_core.evaluation.measures import MEASURES, Counts
from covseg_core.evaluation.results import Evaluation
from covseg_core.evaluation.scores import ScanScore, Scores, SliceScore, Summary, Values, summaries, summary_of

Level = Literal["pooled", "scans", "slices"]
Row = TypeVar("Row", SliceScore, ScanScore)


def mean_scores(parts: Sequence[Scores]) -> Scores:
    """The scores of several seeds as those of one model.

    Parameters
    ----------
    parts : of each seed, on the same slices in the same order

    Returns
    -------
    scores : values are means over seeds, counts of voxels are sums over them
    """
    slices = [_mean_row(rows) for rows in zip(*(part.slices for part in parts), strict=True)]
    scans = [_mean_row(rows) for rows in zip(*(part.scans for part in parts), strict=True)]
    return dataclasses.replace(
        parts[0],
        pooled=_mean([part.pooled for part in parts]),
        over_scans=summaries([scan.values for scan in scans]),
        over_slices=summaries([score.values for score in slices]),
        scans=tuple(scans),
        slices=tuple(slices),
    )


def spread(evaluation: Evaluation, measure: str, level: Level) -> Summary | None:
    """Of the seeds' values, each pooled or a mean over scans or slices; None for a model of one seed or without any."""
    if not evaluation.seeds:
        return None
    values = [value for seed in evaluation.seeds if (value := level_value(seed.model, measure, level)) is not None]
    return summary_of(values) if values else None


def own_spread(evaluation: Evaluation) -> Summary | None:
    """Of the seeds' scores in their own metric on the test; None for a model of one seed."""
    return summary_of([seed.own.test for seed in evaluation.seeds]) if evaluation.seeds else None


def level_value(scores: Scores, measure: str, level: Level) -> float | None:
    """The pooled value, or the mean over scans or slices; None where it is undefined."""
    if level == "pooled":
        return scores.pooled[measure]
    summary = (scores.over_scans if level == "scans" else scores.over_slices).get(measure)
    return None if summary is None else summary.mean


def _mean_row(rows: tuple[Row, ...]) -> Row:
    """One slice or scan, from that of each seed."""
    counts = sum((row.counts for row in rows), Counts())
    return dataclasses.replace(rows[0], counts=counts, values=_mean([row.values for row in rows]))


def _mean(rows: Sequence[Values]) -> Values:
    defined = {name: [value for row in rows if (value := row[name]) is not None] for name in MEASURES}
    return {name: float(np.mean(values)) if values else None for name, values in defined.items()}
