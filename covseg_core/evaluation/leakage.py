"""What a split by slice adds to a score: one experiment with both splits, and how alike test and training slices are.

Neighbouring slices of one person stand on both sides of a split by slice, so that a model is tested on what it has
nearly seen. `measure_leakage` says by how much that raises Dice and IoU, and how similar the test slices are to the
nearest training slice.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from covseg_core.config import Metric, SplitKind, Target
from covseg_core.data.datasets import load_dataset
from covseg_core.data.similarity import nearest, neighbours
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation import folding, statistics
from covseg_core.evaluation.evaluate import Progress, evaluate_runs
from covseg_core.evaluation.measures import Counts
from covseg_core.evaluation.result import Evaluation
from covseg_core.files import read_json, sha256_file, write_json
from covseg_core.runs import Run

Measure = Literal["dice", "iou"]
MEASURES: tuple[Measure, ...] = ("dice", "iou")

ALIKE = 0.95
"""Correlation from which a test slice counts as nearly known."""
FILE = "leakage.json"
"""In the folder of the run by slice; of folds, of their first."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float | None
    """None where it is undefined: no lesion in the test, and none predicted."""
    low: float | None = None
    """None for fewer patients than `statistics.FEWEST_FOR_INTERVAL`."""
    high: float | None = None


@dataclass(frozen=True)
class Side:
    """One of the two splits."""

    runs: tuple[str, ...]
    """One, or all folds."""
    model_sha256: tuple[str, ...]
    slices: int
    patients: int
    """Of the test."""
    scores: dict[str, Estimate]
    """`dice` and `iou`, pooled over the test slices; the interval is a bootstrap by patient."""
    similarity: tuple[float, ...]
    """Of each test slice: the highest correlation with a training slice, -1..1."""
    median_similarity: float
    share_alike: float
    """Of the test slices, those of similarity above `ALIKE`."""
    share_neighbours: float
    """Of the test slices, those next to a training slice of the same scan."""


@dataclass(frozen=True)
class Leakage:
    """One experiment with both splits."""

    dataset: str
    target: Target
    metric: Metric
    by_patient: Side
    by_slice: Side
    paired: bool
    """Both tests are over the same slices, as with folds: patients are drawn in pairs, which tells smaller gaps."""
    gaps: dict[str, Estimate]
    """`dice` and `iou` by slice minus by patient."""
    differences: tuple[str, ...]
    """What else differs between the runs, so that it may be the reason; one sentence each."""


def measure_leakage(first: Sequence[Run], second: Sequence[Run], progress: Progress | None = None) -> Leakage:
    """Compare runs split by patient with runs split by slice; the result is kept in the latter's folder.

    Parameters
    ----------
    first, second : a run each, or all folds of one metric each; in any order

    Raises
    ------
    RunError : both are split alike, or learn from other data; or as `evaluate_runs`
    DatasetError : as `evaluate_runs`
    """
    kinds = [_kind(first), _kind(second)]
    if kinds[0] == kinds[1]:
        names = f"{first[0].id} and {second[0].id}"
        raise RunError(names, f"both are split by {kinds[0]}", "one run split by patient, one by slice")
    by_patient, by_slice = (first, second) if kinds[0] == "patient" else (second, first)
    differences = _differences(by_patient, by_slice)
    halves = [_half(progress, number) for number in (0, 1)]
    honest, leaky = _evaluate(by_patient, halves[0]), _evaluate(by_slice, halves[1])
    found = Leakage(
        honest.dataset,
        honest.target,
        honest.metric,
        _side(by_patient, honest),
        _side(by_slice, leaky),
        _same_slices(honest, leaky),
        {measure: _gap(honest, leaky, measure) for measure in MEASURES},
        differences,
    )
    write_json(by_slice[0].folder / FILE, found)
    return found


def stored_leakage(by_patient: Sequence[Run], by_slice: Sequence[Run]) -> Leakage | None:
    """What was measured before, if it is of these very models."""
    try:
        found = read_json(by_slice[0].folder / FILE, Leakage)
        current = found.by_patient.model_sha256 == _sha256(by_patient) and found.by_slice.model_sha256 == _sha256(
            by_slice
        )
    except (CovsegError, OSError):
        return None
    ids = (found.by_patient.runs, found.by_slice.runs) == tuple(
        tuple(run.id for run in runs) for runs in (by_patient, by_slice)
    )
    return found if current and ids else None


def by_metric(runs: Sequence[Run]) -> dict[Metric, list[Run]]:
    """Finished runs by metric; of an experiment with folds those that all metrics have finished.

    Raises
    ------
    RunError : several runs of one metric that are no folds
    """
    if any(run.config.split.folds for run in runs):
        return {model.runs[0].config.metric: list(model.runs) for model in folding.finished_folds(runs)}
    found: dict[Metric, list[Run]] = {}
    for run in runs:
        found.setdefault(run.config.metric, []).append(run)
    for metric, several in found.items():
        if len(several) > 1:
            raise RunError(several[0].id, f"{len(several)} runs of the metric {metric}", "one, or folds")
    return found


def _kind(runs: Sequence[Run]) -> SplitKind:
    return runs[0].config.split.kind


def _evaluate(runs: Sequence[Run], progress: Progress | None) -> Evaluation:
    if len(runs) > 1:
        return folding.evaluate_folds(runs, progress=progress).evaluations[0]
    stored = folding.stored_comparison(runs)
    return (stored or evaluate_runs(runs, progress=progress)).evaluations[0]


def _side(runs: Sequence[Run], evaluation: Evaluation) -> Side:
    dataset = load_dataset(evaluation.dataset)
    similarity, near = [], []
    for run in runs:
        split = run.split
        similarity.append(nearest(dataset, split.test, split.train, run.config.prepare))
        near.append(neighbours(dataset, split.test, split.train))
    similar, beside = np.concatenate(similarity), np.concatenate(near)
    return Side(
        tuple(run.id for run in runs),
        _sha256(runs),
        evaluation.slices,
        evaluation.patients,
        {measure: _score(evaluation, measure) for measure in MEASURES},
        tuple(float(value) for value in similar.round(4)),
        float(np.median(similar)),
        float((similar > ALIKE).mean()),
        float(beside.mean()),
    )


def _score(evaluation: Evaluation, measure: Measure) -> Estimate:
    counts = _by_patient(evaluation)
    if len(counts) < statistics.FEWEST_FOR_INTERVAL:
        return Estimate(evaluation.model.pooled[measure])
    return Estimate(evaluation.model.pooled[measure], *_interval(_resampled(counts, measure), len(counts)))


def _gap(honest: Evaluation, leaky: Evaluation, measure: Measure) -> Estimate:
    """Patients are drawn anew: the same on both sides if both test the same slices, else each side by itself."""
    values = [evaluation.model.pooled[measure] for evaluation in (leaky, honest)]
    if values[0] is None or values[1] is None:
        return Estimate(None)
    value, sides = values[0] - values[1], [_by_patient(leaky), _by_patient(honest)]
    fewest = min(map(len, sides))
    if fewest < statistics.FEWEST_FOR_INTERVAL:
        return Estimate(value)
    seeds = (0, 0) if _same_slices(honest, leaky) else (0, 1)
    drawn = [_resampled(side, measure, seed) for side, seed in zip(sides, seeds, strict=True)]
    return Estimate(value, *_interval(drawn[0] - drawn[1], fewest))


def _by_patient(evaluation: Evaluation) -> np.ndarray:
    """(n, 3) float64: true positives, false positives, false negatives of each patient, by name."""
    found: dict[str, Counts] = {}
    for score in evaluation.model.slices:
        found[score.patient] = found.get(score.patient, Counts()) + score.counts
    return np.array([(one.tp, one.fp, one.fn) for _, one in sorted(found.items())], float)


def _same_slices(one: Evaluation, other: Evaluation) -> bool:
    tested = [{(score.case, score.z) for score in evaluation.model.slices} for evaluation in (one, other)]
    return tested[0] == tested[1]


def _resampled(counts: np.ndarray, measure: Measure, seed: int = statistics.SEED) -> np.ndarray:
    """The pooled measure of as many patients, drawn with replacement, (RESAMPLES,); NaN where nothing was drawn."""
    n = len(counts)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), statistics.RESAMPLES)
    tp, fp, fn = (drawn @ counts).T
    weight = 2 if measure == "dice" else 1
    with np.errstate(invalid="ignore"):
        return weight * tp / (weight * tp + fp + fn)


def _interval(values: np.ndarray, n: int) -> tuple[float | None, float | None]:
    tail = (1 - statistics.expanded(n)) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return (None, None) if math.isnan(low) else (float(low), float(high))


def _differences(first: Sequence[Run], second: Sequence[Run]) -> tuple[str, ...]:
    """What differs besides the kind of split, where nothing should; raises `RunError` where nothing can be compared."""
    one, other = first[0].config, second[0].config
    names = f"{first[0].id} and {second[0].id}"
    for what in ("dataset", "fingerprint", "target"):
        if getattr(one, what) != getattr(other, what):
            raise RunError(names, f"different {what}s", "runs on the same data")
    if len(first) != len(second):
        raise RunError(names, f"{len(first)} and {len(second)} runs", "the same folds of both")
    ignored = {"id", "experiment", "created", "split.kind"}
    mine, theirs = (_flat(dataclasses.asdict(config)) for config in (one, other))
    return tuple(
        f"{name} differs: {mine.get(name, 'none')} by patient, {theirs.get(name, 'none')} by slice."
        for name in dict.fromkeys([*mine, *theirs])
        if name not in ignored and mine.get(name) != theirs.get(name)
    )


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested settings by dotted names.

    >>> _flat({"a": 1, "b": {"c": 2}})
    {'a': 1, 'b.c': 2}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{path}{name}.") if isinstance(value, Mapping) else {path + name: value}
    return found


def _sha256(runs: Sequence[Run]) -> tuple[str, ...]:
    return tuple(sha256_file(run.onnx) for run in runs)


def _half(progress: Progress | None, number: int) -> Callable[[int, int], None] | None:
    """Progress of one side as half of the whole."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, 2 * total)
