"""What a split by slice adds to a score: one experiment with both splits, and how alike test and training slices are.

Neighbouring slices of one person stand on both sides of a split by slice, so that a model is tested on what it has
nearly seen. `measure_leakage` says by how much that raises Dice and IoU, and how similar the test slices are to the
nearest training slice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from covseg_core.config import Metric, SplitKind, Target
from covseg_core.data.library.datasets import load_dataset
from covseg_core.data.splitting.similarity import nearest, neighbours
from covseg_core.errors import CovsegError, RunError
from covseg_core.evaluation.comparison import evaluate
from covseg_core.evaluation.evaluate import evaluate_runs
from covseg_core.evaluation.grouping import finished_models
from covseg_core.evaluation.results import Evaluation
from covseg_core.evaluation.significance.bootstrap import MEASURES, Interval, gap, same_slices, score
from covseg_core.evaluation.stored_scores import stored_scores
from covseg_core.files import cached_sha256, read_json, write_json
from covseg_core.progress import Progress, part_of
from covseg_core.runs import Run

ALIKE = 0.95
"""Correlation from which a test slice counts as nearly known."""
FILE = "leakage.json"
"""In the folder of the run by slice; of folds, of their first."""


@dataclass(frozen=True)
class Side:
    """One of the two splits."""

    runs: tuple[str, ...]
    """One, or all folds and seeds."""
    model_sha256: tuple[str, ...]
    slices: int
    patients: int
    """Of the test."""
    scores: dict[str, Interval]
    """`dice` and `iou`, pooled over the test slices; the interval is a bootstrap by patient, and by seed."""
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
    gaps: dict[str, Interval]
    """`dice` and `iou` by slice minus by patient."""
    differences: tuple[str, ...]
    """What else differs between the runs, so that it may be the reason; one sentence each."""


def measure_leakage(first: Sequence[Run], second: Sequence[Run], progress: Progress | None = None) -> Leakage:
    """Compare runs split by patient with runs split by slice; the result is kept in the latter's folder.

    Parameters
    ----------
    first, second : a run each, or all folds and seeds of one metric each; in any order

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
    halves = [part_of(progress, 50 * number, 50, 100) for number in (0, 1)]
    honest, leaky = _evaluate(by_patient, halves[0]), _evaluate(by_slice, halves[1])
    found = Leakage(
        honest.dataset,
        honest.target,
        honest.metric,
        _side(by_patient, honest),
        _side(by_slice, leaky),
        same_slices(honest, leaky),
        {measure: gap(honest, leaky, measure) for measure in MEASURES},
        differences,
    )
    write_json(by_slice[0].folder / FILE, found)
    return found


def stored_leakage(by_patient: Sequence[Run], by_slice: Sequence[Run]) -> Leakage | None:
    """What was measured before, if it is of these very models."""
    try:
        found = read_json(by_slice[0].folder / FILE, Leakage)
    except CovsegError:
        return None
    sides = ((found.by_patient, by_patient), (found.by_slice, by_slice))
    same = all((side.runs, side.model_sha256) == (_ids(runs), _sha256(runs)) for side, runs in sides)
    return found if same else None


def by_metric(runs: Sequence[Run]) -> dict[Metric, list[Run]]:
    """Finished runs by metric; of an experiment with folds or seeds those that all metrics have finished.

    Raises
    ------
    RunError : several runs of one metric that are no folds
    """
    if any(run.config.split.folds or run.config.train.seeds for run in runs):
        return {model.runs[0].config.metric: list(model.runs) for model in finished_models(runs)}
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
        return evaluate(runs, progress=progress).evaluations[0]
    try:
        return stored_scores(runs[0])
    except RunError:
        return evaluate_runs(runs, progress=progress).evaluations[0]


def _side(runs: Sequence[Run], evaluation: Evaluation) -> Side:
    dataset = load_dataset(evaluation.dataset, evaluation.fingerprint)
    similarity, near = [], []
    for run in runs:
        if run.config.train.seed_number != runs[0].config.train.seed_number:
            continue  # all seeds have the same split
        split = run.split
        similarity.append(nearest(dataset, split.test, split.train, run.config.prepare))
        near.append(neighbours(dataset, split.test, split.train))
    similar, beside = np.concatenate(similarity), np.concatenate(near)
    return Side(
        _ids(runs),
        _sha256(runs),
        evaluation.slices,
        evaluation.patients,
        {measure: score(evaluation, measure) for measure in MEASURES},
        tuple(float(value) for value in similar.round(4)),
        float(np.median(similar)),
        float((similar > ALIKE).mean()),
        float(beside.mean()),
    )


def _differences(first: Sequence[Run], second: Sequence[Run]) -> tuple[str, ...]:
    """What differs besides the kind of split, where nothing should; raises `RunError` where nothing can be compared."""
    one, other = first[0].config, second[0].config
    names = f"{first[0].id} and {second[0].id}"
    for what in ("dataset", "fingerprint", "target"):
        if getattr(one, what) != getattr(other, what):
            raise RunError(names, f"different {what}s", "runs on the same data")
    if len(first) != len(second):
        raise RunError(names, f"{len(first)} and {len(second)} runs", "the same folds and seeds of both")
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


def _ids(runs: Sequence[Run]) -> tuple[str, ...]:
    return tuple(run.id for run in runs)


def _sha256(runs: Sequence[Run]) -> tuple[str, ...]:
    return tuple(cached_sha256(run.onnx) for run in runs)
